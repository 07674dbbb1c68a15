//! The contract of [`Log`] as a test that every implementation runs.
//!
//! It does not assume that offsets are contiguous, nor that they start at 0.

mod requests;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimestampNanosecondType};
use std::collections::BTreeSet;
use std::sync::Arc;
use twofold_common::{
    Append, Kind, Log, LogBounds, LogChunk, Offset, OffsetRange, Partition, Result, StreamDef, stream,
};

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);
const EVERYTHING: usize = usize::MAX;

/// Checks that a log keeps what [`Log`] promises.
///
/// `make(name, streams)` opens the log of that name; it is called again for the same name after the first log was
/// dropped, and then must hold what was appended.
///
/// # Errors
/// What `make` or the log fails with where it should not.
///
/// # Panics
/// If the log breaks a promise; the message says which.
pub async fn conformance<M>(make: M) -> Result<()>
where
    M: Fn(&str, &[StreamDef]) -> Result<Arc<dyn Log>>,
{
    what_is_appended_is_read(make("round-trip", &streams())?).await?;
    a_read_starts_anywhere_and_is_bounded(make("slices", &streams())?).await?;
    a_trimmed_log_starts_where_it_was_told(make("trim", &streams())?).await?;
    what_does_not_exist_is_not_found(make("unknown", &streams())?).await?;
    one_append_is_all_or_nothing(make("atomic", &streams())?).await?;
    appends_are_announced(make("announced", &streams())?).await?;
    concurrent_appends_lose_nothing(make("concurrent", &streams())?).await?;
    requests::conformance(&make).await?;
    a_reopened_log_holds_what_it_held(&make).await?;
    a_stream_may_gain_a_nullable_column(&make).await
}

fn streams() -> Vec<StreamDef> {
    vec![events(false), events(false).rejected()]
}

fn events(gained: bool) -> StreamDef {
    let mut fields = vec![Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, true)];
    if gained {
        fields.push(Field::new("gained", DataType::Int64, true));
    }
    StreamDef {
        name: "events".into(),
        schema: Arc::new(Schema::new(fields)),
        partitions: 2,
        partition_by: None,
        watermark: None,
        deduplicate: None,
    }
}

/// Events numbered `numbers`.
fn batch(numbers: std::ops::Range<i64>) -> Result<RecordBatch> {
    let text = numbers.clone().map(|n| (n % 3 != 0).then(|| format!("text {n}")));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from_iter_values(numbers.clone())), Arc::new(StringArray::from_iter(text))];
    Ok(RecordBatch::try_new(events(false).schema, columns)?)
}

fn append(partition: Partition, numbers: std::ops::Range<i64>) -> Result<Append> {
    Ok(Append { stream: "events".into(), partition, rows: batch(numbers)? })
}

fn longs(batch: &RecordBatch, column: &str) -> Vec<i64> {
    let column = batch.column_by_name(column).and_then(|c| c.as_primitive_opt::<Int64Type>());
    column.map_or_else(Vec::new, |column| column.values().to_vec())
}

/// The offsets and numbers of a chunk, checked against its range.
fn contents(chunk: &LogChunk) -> Vec<(Offset, i64)> {
    let all: Vec<_> = chunk
        .batches
        .iter()
        .flat_map(|b| longs(b, stream::OFFSET).into_iter().map(|o| Offset(o as u64)).zip(longs(b, "n")))
        .collect();
    assert!(all.is_sorted_by(|a, b| a.0 < b.0), "offsets must grow: {all:?}");
    assert!(all.iter().all(|(o, _)| chunk.range.contains(*o)), "events must lie in the range that was read");
    assert!(chunk.batches.iter().all(|b| b.num_rows() > 0), "a batch in a chunk is not empty");
    all
}

async fn read_all(log: &dyn Log, partition: Partition) -> Result<Vec<(Offset, i64)>> {
    let start = log.bounds("events", partition).await?.start;
    let chunk = log.read("events", partition, start, EVERYTHING).await?;
    assert_eq!(chunk.range.start, start, "a read starts where it was asked to");
    assert_eq!(
        chunk.range.end,
        log.bounds("events", partition).await?.end,
        "an unbounded read reaches the end"
    );
    Ok(contents(&chunk))
}

fn numbers(events: &[(Offset, i64)]) -> Vec<i64> {
    events.iter().map(|(_, n)| *n).collect()
}

async fn what_is_appended_is_read(log: Arc<dyn Log>) -> Result<()> {
    assert_eq!(read_all(&*log, P0).await?, [], "a new log is empty");
    let first = log.append(vec![append(P0, 0..5)?], 111).await?;
    let second = log.append(vec![append(P0, 5..6)?], 222).await?;
    assert_eq!((first.len(), second.len()), (1, 1), "an append answers one range for each part");
    assert!(first[0].end <= second[0].start, "what comes later has higher offsets");
    let events = read_all(&*log, P0).await?;
    assert_eq!(numbers(&events), [0, 1, 2, 3, 4, 5], "events keep their order");
    let in_range = |range: &OffsetRange| events.iter().filter(|(o, _)| range.contains(*o)).count();
    assert_eq!((in_range(&first[0]), in_range(&second[0])), (5, 1), "the ranges hold the events");
    assert_eq!(log.bounds("events", P0).await?.end, second[0].end);
    assert_eq!(read_all(&*log, P1).await?, [], "partitions are apart");

    let chunk = log.read("events", P0, first[0].start, EVERYTHING).await?;
    let mut times = Vec::new();
    let mut text = Vec::new();
    for batch in &chunk.batches {
        assert_eq!(batch.schema(), events_schema(), "a batch has the stream's event schema");
        let partitions = batch.column(2).as_primitive::<Int32Type>();
        assert!(partitions.values().iter().all(|p| *p == 0), "the partition is stored");
        times.extend_from_slice(batch.column(4).as_primitive::<TimestampNanosecondType>().values());
        text.extend(batch.column(1).as_string::<i32>().iter().map(|t| t.map(str::to_string)));
    }
    assert_eq!(times, [111, 111, 111, 111, 111, 222], "each event has its ingest time");
    let expected: Vec<_> = (0..6).map(|n| (n % 3 != 0).then(|| format!("text {n}"))).collect();
    assert_eq!(text, expected, "values and nulls come back");

    let nothing = log.append(vec![append(P0, 0..0)?], 333).await?;
    assert!(nothing[0].is_empty(), "an append of no rows takes no offsets");
    assert_eq!(read_all(&*log, P0).await?.len(), 6);
    Ok(())
}

fn events_schema() -> Arc<Schema> {
    events(false).event_schema()
}

async fn a_read_starts_anywhere_and_is_bounded(log: Arc<dyn Log>) -> Result<()> {
    for numbers in [0..4, 4..5, 5..12] {
        log.append(vec![append(P1, numbers)?], 0).await?;
    }
    let all = read_all(&*log, P1).await?;
    let LogBounds { start, end } = log.bounds("events", P1).await?;
    for from in start.0..=end.0 + 1 {
        for max_rows in [1, 2, 5, 100] {
            let expected: Vec<_> = all.iter().copied().filter(|(o, _)| o.0 >= from).collect();
            let mut got = Vec::new();
            let mut at = Offset(from);
            loop {
                let chunk = log.read("events", P1, at, max_rows).await?;
                assert_eq!(chunk.range.start, at, "a chunk starts where it was asked to");
                let piece = contents(&chunk);
                assert!(piece.len() <= max_rows, "max_rows is a bound");
                if piece.is_empty() {
                    break;
                }
                assert!(chunk.range.end > at, "reading makes progress");
                got.extend(piece);
                at = chunk.range.end;
            }
            assert_eq!(got, expected, "reading on from {from} by {max_rows} gives every event once");
        }
    }
    Ok(())
}

async fn a_trimmed_log_starts_where_it_was_told(log: Arc<dyn Log>) -> Result<()> {
    for numbers in [0..4, 4..8, 8..12] {
        log.append(vec![append(P0, numbers)?], 0).await?;
    }
    log.append(vec![append(P1, 0..3)?], 0).await?;
    let all = read_all(&*log, P0).await?;
    let end = log.bounds("events", P0).await?.end;
    for cut in [0, 1, 3, 4, 6, 8, 11] {
        let below = all[cut].0;
        for _ in 0..2 {
            log.trim("events", P0, below).await?;
            assert_eq!(
                log.bounds("events", P0).await?,
                LogBounds { start: below, end },
                "trim moves the start"
            );
        }
        assert_eq!(read_all(&*log, P0).await?, all[cut..], "trim keeps what lies at or above");
        if below.0 > 0 {
            let error = log.read("events", P0, Offset(below.0 - 1), 1).await.err();
            assert_eq!(
                error.map(|e| e.kind()),
                Some(Kind::NotFound),
                "what was trimmed is not read silently"
            );
        }
        log.trim("events", P0, all[0].0).await?;
        assert_eq!(log.bounds("events", P0).await?.start, below, "trim never moves the start back");
    }
    log.trim("events", P0, end).await?;
    assert_eq!(read_all(&*log, P0).await?, [], "everything can be trimmed");
    assert_eq!(read_all(&*log, P1).await?.len(), 3, "other partitions are left alone");
    let again = log.append(vec![append(P0, 12..14)?], 0).await?;
    assert!(again[0].start >= end, "offsets are never used twice");
    assert_eq!(numbers(&read_all(&*log, P0).await?), [12, 13]);
    Ok(())
}

async fn what_does_not_exist_is_not_found(log: Arc<dyn Log>) -> Result<()> {
    for (stream, partition) in [("nowhere", P0), ("events", Partition(2))] {
        let rows = batch(0..1)?;
        let appended = log.append(vec![Append { stream: stream.into(), partition, rows }], 0).await;
        let kinds = [
            appended.err().map(|e| e.kind()),
            log.read(stream, partition, Offset(0), 1).await.err().map(|e| e.kind()),
            log.bounds(stream, partition).await.err().map(|e| e.kind()),
            log.trim(stream, partition, Offset(0)).await.err().map(|e| e.kind()),
        ];
        assert_eq!(kinds, [Some(Kind::NotFound); 4], "stream {stream}, partition {partition}");
    }
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1]));
    let rows = RecordBatch::try_from_iter([("n", times)])?;
    let wrong = log.append(vec![Append { stream: "events".into(), partition: P0, rows }], 0).await;
    assert!(wrong.is_err(), "rows of another schema are refused");
    Ok(())
}

async fn one_append_is_all_or_nothing(log: Arc<dyn Log>) -> Result<()> {
    let unknown = Append { stream: "nowhere".into(), partition: P0, rows: batch(0..1)? };
    assert!(log.append(vec![append(P0, 0..3)?, append(P1, 3..5)?, unknown], 0).await.is_err());
    assert_eq!(read_all(&*log, P0).await?, [], "an append that fails leaves nothing");
    assert_eq!(read_all(&*log, P1).await?, [], "an append that fails leaves nothing");

    let rejected = events(false).rejected();
    let reason: ArrayRef = Arc::new(StringArray::from(vec!["bad"]));
    let raw: ArrayRef = Arc::new(arrow::array::BinaryArray::from_vec(vec![b"{"]));
    let rows = RecordBatch::try_new(rejected.schema.clone(), vec![reason, raw])?;
    let bad = Append { stream: rejected.name.clone(), partition: P0, rows };
    // Twice into one partition too: the parts follow each other.
    let ranges = log.append(vec![append(P0, 0..3)?, append(P1, 3..5)?, bad, append(P0, 5..7)?], 0).await?;
    assert_eq!(ranges.len(), 4, "one range for each part, in order");
    assert_eq!(numbers(&read_all(&*log, P0).await?), [0, 1, 2, 5, 6]);
    assert_eq!(numbers(&read_all(&*log, P1).await?), [3, 4]);
    let kept = log.read(&rejected.name, P0, ranges[2].start, 10).await?;
    assert_eq!(kept.batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    Ok(())
}

async fn appends_are_announced(log: Arc<dyn Log>) -> Result<()> {
    let mut appended = log.appended();
    appended.mark_unchanged();
    log.append(vec![append(P0, 0..1)?], 0).await?;
    assert!(appended.has_changed().unwrap_or(false), "an append is announced before it is answered");
    appended.mark_unchanged();
    log.append(vec![append(P0, 1..2)?], 0).await?;
    assert!(appended.has_changed().unwrap_or(false), "each append is announced");
    Ok(())
}

async fn concurrent_appends_lose_nothing(log: Arc<dyn Log>) -> Result<()> {
    const WRITERS: i64 = 8;
    const APPENDS: i64 = 20;
    const ROWS: i64 = 3;
    let mut writers: tokio::task::JoinSet<Result<Vec<(i64, OffsetRange)>>> = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let log = Arc::clone(&log);
        writers.spawn(async move {
            let mut ranges = Vec::new();
            for n in 0..APPENDS {
                let first = (writer * APPENDS + n) * ROWS;
                ranges.push((first, log.append(vec![append(P0, first..first + ROWS)?], writer).await?[0]));
            }
            Ok(ranges)
        });
    }
    let mut ranges = Vec::new();
    while let Some(written) = writers.join_next().await {
        ranges.extend(written.map_err(|e| twofold_common::Error::Internal(e.to_string()))??);
    }
    let events = read_all(&*log, P0).await?;
    let distinct: BTreeSet<i64> = events.iter().map(|(_, n)| *n).collect();
    assert_eq!(events.len() as i64, WRITERS * APPENDS * ROWS, "nothing is lost, and nothing doubled");
    assert_eq!(distinct.len(), events.len(), "nothing is doubled");
    for (first, range) in ranges {
        let own: Vec<i64> = events.iter().filter(|(o, _)| range.contains(*o)).map(|(_, n)| *n).collect();
        assert_eq!(own, [first, first + 1, first + 2], "an append's range holds its events and no others");
    }
    Ok(())
}

async fn a_reopened_log_holds_what_it_held<M>(make: &M) -> Result<()>
where
    M: Fn(&str, &[StreamDef]) -> Result<Arc<dyn Log>>,
{
    let log = make("reopen", &streams())?;
    log.append(vec![append(P0, 0..5)?, append(P1, 5..6)?], 7).await?;
    let below = read_all(&*log, P0).await?[2].0;
    log.trim("events", P0, below).await?;
    let before = (read_all(&*log, P0).await?, read_all(&*log, P1).await?, log.bounds("events", P0).await?);
    drop(log);
    let log = make("reopen", &streams())?;
    let after = (read_all(&*log, P0).await?, read_all(&*log, P1).await?, log.bounds("events", P0).await?);
    assert_eq!(after, before, "what was answered is still there");
    let range = log.append(vec![append(P0, 5..6)?], 8).await?[0];
    assert!(range.start >= before.2.end, "offsets go on where they were");
    drop(log);

    let log = make("reopen", &[])?;
    assert_eq!(read_all(&*log, P1).await?, before.1, "a stream that is declared no more is kept");
    let refused = log.append(vec![append(P1, 0..1)?], 0).await.err().map(|e| e.kind());
    assert_eq!(refused, Some(Kind::NotFound), "but takes nothing in");
    Ok(())
}

async fn a_stream_may_gain_a_nullable_column<M>(make: &M) -> Result<()>
where
    M: Fn(&str, &[StreamDef]) -> Result<Arc<dyn Log>>,
{
    let log = make("gained", &[events(false)])?;
    log.append(vec![append(P0, 0..2)?], 0).await?;
    drop(log);
    let new = events(true);
    let log = make("gained", std::slice::from_ref(&new))?;
    let mut columns = batch(2..3)?.columns().to_vec();
    columns.push(Arc::new(Int64Array::from(vec![42])));
    let rows = RecordBatch::try_new(new.schema.clone(), columns)?;
    log.append(vec![Append { stream: new.name.clone(), partition: P0, rows }], 0).await?;
    let start = log.bounds("events", P0).await?.start;
    let chunk = log.read("events", P0, start, EVERYTHING).await?;
    let mut gained = Vec::new();
    for batch in &chunk.batches {
        let batch = stream::adapt(batch, &new.event_schema())?;
        gained.extend(batch.column(2).as_primitive::<Int64Type>().iter());
    }
    assert_eq!(gained, [None, None, Some(42)], "events from before have nulls in the new column");
    Ok(())
}
