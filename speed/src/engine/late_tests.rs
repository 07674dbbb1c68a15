use super::super::watermark::StreamTime;
use super::*;
use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use std::sync::Arc;
use twofold_common::stream::Watermark;

/// The stream `s (t, n)` with this watermark.
fn stream_with(expression: &str) -> StreamDef {
    let watermark = Watermark { column: "t".into(), expression: expression.into(), idle_timeout: None };
    StreamDef {
        name: "s".into(),
        schema: Arc::new(Schema::new(vec![
            Field::new("t", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
            Field::new("n", DataType::Int64, true),
        ])),
        partitions: 1,
        partition_by: None,
        watermark: Some(watermark),
        deduplicate: None,
    }
}

/// With the watermark `t - 2 seconds`.
fn stream() -> StreamDef {
    stream_with("t - INTERVAL '2 seconds'")
}

/// By what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Nothing,
    /// Windows of ten seconds of the event's time.
    Windows,
    /// The same, put together from it by other means.
    Expression,
}

const EACH: [By; 3] = [By::Nothing, By::Windows, By::Expression];

fn windows(session: &SessionContext, by: By) -> Windows {
    let schema = datafusion::common::DFSchema::try_from(stream().event_schema()).unwrap();
    let start = "date_bin(INTERVAL '10 seconds', t)";
    let window = match by {
        By::Windows => "tumble(t, INTERVAL '10 seconds')".to_string(),
        _ => format!("named_struct('start', {start}, 'end', {start} + INTERVAL '10 seconds')"),
    };
    let window = session.parse_sql_expr(&window, &schema).unwrap();
    let key = |stream: &str| WindowKey { stream: stream.into(), window: window.clone() };
    // Two cuts with the same window are one.
    let keys = if by == By::Nothing { vec![] } else { vec![key("s"), key("s"), key("other")] };
    assert_eq!(keys.iter().any(|key| key.is_of("t")), by == By::Windows);
    Windows::plan(session, &stream(), &keys).unwrap()
}

fn batch(seconds: &[Option<i64>]) -> RecordBatch {
    let times: TimestampNanosecondArray = seconds.iter().map(|s| s.map(|s| s * 1_000_000_000)).collect();
    let n = Int64Array::from(vec![1; seconds.len()]);
    RecordBatch::try_from_iter_with_nullable([
        ("t", Arc::new(times) as ArrayRef, true),
        ("n", Arc::new(n) as ArrayRef, true),
    ])
    .unwrap()
}

/// Counts events that come `at_once` together.
fn counted(seconds: &[Option<i64>], by: By, at_once: usize, kept: usize) -> LateCounter {
    counted_in(&stream(), seconds, by, at_once, kept)
}

fn counted_in(
    stream: &StreamDef,
    seconds: &[Option<i64>],
    by: By,
    at_once: usize,
    kept: usize,
) -> LateCounter {
    let session = twofold_common::session();
    let time = StreamTime::plan(&session, stream).unwrap().unwrap();
    let windows = windows(&session, by);
    let mut counter = LateCounter::default();
    for chunk in seconds.chunks(at_once) {
        let events = [batch(chunk)];
        let end = Offset(counter.to.0 + chunk.len() as u64);
        let times = time.of(&events).unwrap();
        let behind = Behind::of(&times, counter.watermark);
        for change in counter.count(&windows, &events, &times, &behind, end, kept).unwrap() {
            counter.apply(&change);
        }
    }
    counter
}

/// Start and end, count and worst lateness, in seconds.
type Told = (Option<(i64, i64)>, u64, i64);

fn told(counter: &LateCounter) -> Vec<Told> {
    let second = 1_000_000_000;
    let rows = counter.rows("v", "s", Partition(0)).into_iter();
    rows.map(|r| (r.window.map(|(a, b)| (a / second, b / second)), r.count, r.worst_lateness / second))
        .collect()
}

#[test]
fn an_event_is_late_if_its_window_had_ended_when_it_came() {
    // The watermark is 9 after 11, 10 after 12 and 40 after 42.
    let events = [11, 5, 12, 9, 10, 42, 3, 39, 41, 42].map(Some);
    for by in [By::Windows, By::Expression] {
        let late = counted(&events, by, 100, KEPT);
        assert_eq!(told(&late), [(Some((0, 10)), 2, 30), (Some((30, 40)), 1, 0)]);
        assert_eq!((late.to, late.watermark, late.total()), (Offset(10), Some(40_000_000_000), 3));
    }
}

#[test]
fn without_windows_an_event_is_late_below_the_watermark() {
    let events = [Some(11), Some(9), Some(8), None, Some(20), Some(17), Some(18)];
    assert_eq!(told(&counted(&events, By::Nothing, 100, KEPT)), [(None, 2, 1)]);
}

#[test]
fn the_first_event_and_one_without_a_time_are_never_late() {
    for by in EACH {
        assert_eq!(told(&counted(&[Some(-1_000_000), None], by, 1, KEPT)), []);
        assert_eq!(counted(&[None], by, 1, KEPT).watermark, None);
    }
}

#[test]
fn an_event_is_measured_by_those_before_it() {
    let ahead = stream_with("t + INTERVAL '60 seconds'");
    for by in EACH {
        assert_eq!(told(&counted_in(&ahead, &[Some(1)], by, 1, KEPT)), []);
        let second = told(&counted_in(&ahead, &[Some(1), Some(2)], by, 2, KEPT));
        let (window, lateness) = if by == By::Nothing { (None, 59) } else { (Some((0, 10)), 51) };
        assert_eq!(second, [(window, 1, lateness)]);
    }
}

#[test]
fn counts_do_not_depend_on_what_is_read_at_once() {
    let mut at = 17_i64;
    let next = |_| {
        at = (at * 1_103_515_245 + 12_345) % 2_147_483_648;
        (at % 11 != 0).then_some(at / 7 % 300)
    };
    let events: Vec<Option<i64>> = (0..300).map(next).collect();
    for by in EACH {
        for kept in [KEPT, 3, 1, 0] {
            let all = counted(&events, by, events.len(), kept);
            assert!(all.total() > 100 && all.tallies.keys().flatten().count() <= kept, "{all:?}");
            for at_once in [1, 5, 64] {
                assert_eq!(counted(&events, by, at_once, kept), all, "{by:?} {kept} {at_once}");
            }
        }
    }
    assert_eq!(counted(&events, By::Windows, 64, 3), counted(&events, By::Expression, 64, 3));
}

#[test]
fn old_windows_become_one_row_without_a_window() {
    let events = [100, 1, 11, 21, 1].map(Some);
    let all = counted(&events, By::Windows, 1, 2);
    assert_eq!(told(&all), [(None, 2, 88), (Some((10, 20)), 1, 78), (Some((20, 30)), 1, 68)]);
}
