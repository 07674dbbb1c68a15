use super::*;
use crate::engine;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::logical_expr::{col, lit};

/// The first column of what a query gives, as text.
async fn values(sql: &str) -> Result<Vec<String>, String> {
    let session = engine::session();
    let batches = async { session.sql(sql).await?.collect().await }.await;
    let batches = batches.map_err(|e| crate::Error::from(e).to_string())?;
    let mut values = Vec::new();
    for batch in &batches {
        let formatter = ArrayFormatter::try_new(batch.column(0), &FormatOptions::new().with_null("null"));
        let formatter = formatter.unwrap();
        values.extend((0..batch.num_rows()).map(|row| formatter.value(row).to_string()));
    }
    Ok(values)
}

async fn value(expression: &str) -> String {
    let values = values(&format!("SELECT {expression}")).await.unwrap();
    assert_eq!(values.len(), 1, "{values:?}");
    values.concat()
}

async fn error(expression: &str) -> String {
    values(&format!("SELECT {expression}")).await.unwrap_err()
}

#[tokio::test]
async fn a_window_has_the_type_of_its_times() {
    let second = "arrow_cast('2013-01-01T00:00:07', 'Timestamp(Second, Some(\"+02:00\"))')";
    assert_eq!(
        value(&format!("tumble({second}, INTERVAL '5 seconds')")).await,
        "{start: 2013-01-01T00:00:05+02:00, end: 2013-01-01T00:00:10+02:00}"
    );
    let date = "tumble(DATE '2013-01-09', INTERVAL '7 days', INTERVAL '-3 days')";
    assert_eq!(
        value(date).await,
        "{start: 2013-01-07T00:00:00, end: 2013-01-14T00:00:00}",
        "weeks from Monday on"
    );
    assert_eq!(
        value("arrow_typeof(tumble(DATE '2013-01-09', INTERVAL '1 day')['end'])").await,
        "Timestamp(ns)"
    );
}

#[tokio::test]
async fn a_time_that_is_null_is_in_no_window() {
    let times = "(VALUES (TIMESTAMP '1970-01-01 00:00:12'), (NULL)) v (ts)";
    let of = |call: &str| format!("SELECT {call} FROM {times}");
    let tumbled = values(&of("tumble(ts, INTERVAL '10 seconds')")).await.unwrap();
    assert_eq!(tumbled, ["{start: 1970-01-01T00:00:10, end: 1970-01-01T00:00:20}", "null"]);
    let starts = values(&of("tumble(ts, INTERVAL '10 seconds')['start']")).await.unwrap();
    assert_eq!(starts, ["1970-01-01T00:00:10", "null"]);
    let hops = of("cardinality(hop_windows(ts, INTERVAL '5 seconds', INTERVAL '10 seconds'))");
    assert_eq!(values(&hops).await.unwrap(), ["2", "null"]);
    assert_eq!(value("tumble(NULL, INTERVAL '1 day')").await, "null");
}

#[tokio::test]
async fn lists_hold_all_windows_in_order() {
    let starts = |list: &str| {
        let sql = format!("SELECT w['start'] FROM (SELECT unnest({list}) AS w)");
        async move { values(&sql).await.unwrap().iter().map(|s| s[14..].to_string()).collect::<Vec<_>>() }
    };
    let (ts, lengths) = ("TIMESTAMP '1970-01-01 00:00:12'", "INTERVAL '4 seconds', INTERVAL '10 seconds'");
    let hops = ["00:04", "00:08", "00:12"];
    assert_eq!(starts(&format!("hop_windows({ts}, {lengths})")).await, hops);
    let pane = format!("hop_pane({ts}, {lengths})");
    assert_eq!(value(&pane).await, "{start: 1970-01-01T00:00:12, end: 1970-01-01T00:00:14}");
    assert_eq!(starts(&format!("pane_windows({pane}, {lengths})")).await, hops);
    let within = |from: &str, until: &str| {
        starts(&format!("pane_windows_within({pane}, {lengths}, INTERVAL '0 seconds', {from}, {until})"))
    };
    assert_eq!(within("NULL", "NULL").await, hops);
    assert_eq!(within("TIMESTAMP '1970-01-01 00:00:08'", "TIMESTAMP '1970-01-01 00:00:12'").await, ["00:08"]);
    let cumulating = format!("cumulate_windows({ts}, INTERVAL '5 seconds', INTERVAL '20 seconds')");
    assert_eq!(starts(&cumulating).await, ["00:00", "00:00"]);
}

#[tokio::test]
async fn bounds_may_differ_by_row() {
    let sql = "SELECT cardinality(pane_windows_within(hop_pane(ts, INTERVAL '1 second', INTERVAL '4 seconds'), \
               INTERVAL '1 second', INTERVAL '4 seconds', INTERVAL '0 seconds', b, NULL)) \
               FROM (VALUES (TIMESTAMP '1970-01-01 00:00:12', TIMESTAMP '1970-01-01 00:00:11'), \
               (TIMESTAMP '1970-01-01 00:00:12', NULL)) v (ts, b)";
    assert_eq!(values(sql).await.unwrap(), ["2", "4"]);
}

#[tokio::test]
async fn calls_that_cannot_be_say_how_the_function_is_called() {
    let ts = "TIMESTAMP '2013-01-01'";
    for (call, parts) in [
        (format!("tumble({ts})"), ["tumble(ts, size [, offset])", "called with 1 arguments"]),
        (format!("tumble({ts}, INTERVAL '1 month')"), ["tumble(ts, size [, offset])", "date_trunc"]),
        (format!("tumble({ts}, INTERVAL '0 seconds')"), ["tumble(ts", "more than nothing"]),
        (format!("tumble({ts}, '1 minute')"), ["tumble(ts", "expected an INTERVAL"]),
        ("tumble('2013-01-01', INTERVAL '1 day')".into(), ["tumble(ts", "expected a TIMESTAMP or a DATE"]),
        (format!("hop({ts}, INTERVAL '1 second', INTERVAL '30 days')"), ["hop(ts, slide", "make the step"]),
        (format!("cumulate({ts}, INTERVAL '2 hours', INTERVAL '5 hours')"), ["cumulate(ts", "multiple"]),
        (format!("session({ts}, INTERVAL '-1 second')"), ["session(ts, gap", "more than nothing"]),
        (format!("pane_windows({ts}, INTERVAL '1 day', INTERVAL '1 day')"), ["pane_windows(", "a window"]),
    ] {
        let message = error(&call).await;
        assert!(parts.iter().all(|part| message.contains(part)), "{call}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[tokio::test]
async fn a_marker_that_was_not_rewritten_says_where_it_may_stand() {
    for call in ["hop(ts, INTERVAL '1 day', INTERVAL '2 days')", "session(ts, INTERVAL '1 day', 'k')"] {
        let message = values(&format!("SELECT {call} FROM (VALUES (DATE '2013-01-01')) v (ts)")).await;
        let message = message.unwrap_err();
        assert!(message.contains("may stand in GROUP BY") && message.contains("in FROM"), "{message}");
    }
}

#[test]
fn markers_are_told_apart_from_other_calls() {
    let arguments = || vec![col("ts"), lit(1), lit(2)];
    assert_eq!(is_marker(&call(Kind::Hop, arguments())), Some(Marker::Hop));
    assert_eq!(is_marker(&call(Kind::Session, arguments())), Some(Marker::Session));
    assert_eq!(is_marker(&call(Kind::Cumulate, arguments())), Some(Marker::Cumulate));
    for other in [tumble, hop_windows, cumulate_windows, hop_pane, pane_windows, pane_windows_within] {
        assert_eq!(is_marker(&other(arguments())), None);
    }
    for (kind, function) in Kind::ALL.into_iter().zip(functions()) {
        assert_eq!((Kind::ALL[kind as usize], function.name()), (kind, kind.name()));
    }
}

/// With and without overlap, with gaps in which there is no window, and of times that are null.
#[tokio::test]
async fn the_first_window_is_the_first_of_all_of_them() {
    let times = "(VALUES (TIMESTAMP '2013-01-01T00:00:00'), (TIMESTAMP '2013-01-01T00:00:07'), (NULL), \
                 (TIMESTAMP '1969-12-31T23:59:58.5'), (TIMESTAMP '2013-01-01T00:00:59')) v (ts)";
    for (step, size, offset) in [(5, 20, 0), (5, 5, 2), (10, 3, 0), (7, 15, 3)] {
        let arguments = format!("ts, INTERVAL '{step} s', INTERVAL '{size} s', INTERVAL '{offset} s'");
        let first = values(&format!("SELECT first_hop({arguments}) FROM {times}")).await.unwrap();
        let all =
            values(&format!("SELECT array_element(hop_windows({arguments}), 1) FROM {times}")).await.unwrap();
        assert_eq!(first, all, "{arguments}");
        assert!(first.iter().any(|w| w == "null"), "{arguments}");
    }
    let arguments = "ts, INTERVAL '5 s', INTERVAL '20 s', INTERVAL '1 s'";
    let first = values(&format!("SELECT first_cumulation({arguments}) FROM {times}")).await.unwrap();
    let all = values(&format!("SELECT array_element(cumulate_windows({arguments}), 1) FROM {times}"))
        .await
        .unwrap();
    assert_eq!(first, all);
}
