//! Random events, and random ways of cutting them.

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray,
};
use proptest::prelude::*;
use std::sync::Arc;
use twofold_common::StreamDef;

/// One event of `clicks` or `orders`, and the partition that it goes to.
#[derive(Debug, Clone)]
pub struct Event {
    pub second: i64,
    pub k: Option<&'static str>,
    pub n: Option<i64>,
    pub x: Option<f64>,
    pub ok: Option<bool>,
    pub partition: u32,
    /// How many offsets are skipped before this event.
    pub gap: u64,
}

pub fn event() -> impl Strategy<Value = Event> {
    let k = prop_oneof![
        Just(None),
        Just(Some("a")),
        Just(Some("b")),
        Just(Some("c")),
        Just(Some("é")),
        Just(Some(""))
    ];
    let n = prop_oneof![
        1 => Just(None),
        6 => (-3i64..8).prop_map(Some),
        // Large, but so that the sum of all events is a double: past that the plain query's avg is not exact.
        1 => prop_oneof![Just(Some(1 << 45)), Just(Some((1 << 45) + 1)), Just(Some(-(1 << 46)))],
    ];
    let x = prop_oneof![
        Just(None),
        (-1e3f64..1e3).prop_map(Some),
        Just(Some(1e16)),
        Just(Some(-1e16)),
        Just(Some(0.1))
    ];
    let gap = prop_oneof![6 => Just(0u64), 1 => 1u64..5];
    (0i64..40, k, n, x, proptest::option::of(any::<bool>()), 0u32..2, gap)
        .prop_map(|(second, k, n, x, ok, partition, gap)| Event { second, k, n, x, ok, partition, gap })
}

pub fn events(most: usize) -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(event(), 0..most)
}

/// The rows of `events` under the stream's own columns.
pub fn own_rows(stream: &StreamDef, events: &[&Event]) -> RecordBatch {
    let ts = events.iter().map(|e| e.second * 1_000_000_000);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from_iter_values(ts)),
        Arc::new(events.iter().map(|e| e.k).collect::<StringArray>()),
        Arc::new(events.iter().map(|e| e.n).collect::<Int64Array>()),
        Arc::new(events.iter().map(|e| e.x).collect::<Float64Array>()),
        Arc::new(events.iter().map(|e| e.ok).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(stream.schema.clone(), columns).unwrap()
}

/// The events of each partition of a stream, as one batch of its event schema, offsets with gaps.
pub fn partitions(stream: &StreamDef, events: &[Event]) -> Vec<RecordBatch> {
    (0..stream.partitions)
        .map(|partition| {
            let mine: Vec<&Event> = events.iter().filter(|e| e.partition == partition).collect();
            let mut next = 0;
            let offsets: Int64Array = mine
                .iter()
                .map(|e| {
                    let offset = next + e.gap;
                    next = offset + 1;
                    i64::try_from(offset).unwrap()
                })
                .collect::<Vec<_>>()
                .into();
            let own = own_rows(stream, &mine);
            let mut columns = own.columns().to_vec();
            columns.push(Arc::new(Int32Array::from(vec![partition as i32; mine.len()])));
            columns.push(Arc::new(offsets));
            columns.push(Arc::new(TimestampNanosecondArray::from(vec![7; mine.len()])));
            RecordBatch::try_new(stream.event_schema(), columns).unwrap()
        })
        .collect()
}

/// `batch` cut where `cuts` say (fractions of its length, in any order).
pub fn cut(batch: &RecordBatch, cuts: &[f64]) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    let mut at: Vec<usize> = cuts.iter().map(|f| ((f * (rows + 1) as f64) as usize).min(rows)).collect();
    at.extend([0, rows]);
    at.sort_unstable();
    at.windows(2).map(|w| batch.slice(w[0], w[1] - w[0])).collect()
}
