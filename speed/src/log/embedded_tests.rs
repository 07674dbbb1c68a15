use super::*;
use crate::log::conformance;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use redb::{ReadableTableMetadata, TableDefinition};
use std::path::PathBuf;
use tempfile::TempDir;
use twofold_common::{Append, Deduplicate};

pub(super) fn stream(name: &str, partitions: u32) -> StreamDef {
    StreamDef {
        name: name.into(),
        schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)])),
        partitions,
        partition_by: None,
        watermark: None,
        deduplicate: None,
    }
}

pub(super) fn append(numbers: std::ops::Range<i64>) -> Vec<Append> {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    let rows = RecordBatch::try_new(stream("s", 1).schema, vec![numbers]).unwrap();
    vec![Append { stream: "s".into(), partition: Partition(0), rows }]
}

pub(super) fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.redb");
    (directory, path)
}

fn open_with_tail(path: &Path, streams: &[StreamDef], tail_bytes: usize) -> Result<EmbeddedLog> {
    EmbeddedLog::open_on(Box::new(RealDisk(path.to_path_buf())), path, streams, REMEMBER_KEYS, tail_bytes)
}

/// A closed log with 30 events in 10 batches.
async fn filled() -> (TempDir, PathBuf) {
    let (directory, path) = directory();
    let log = EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap();
    for n in 0..10 {
        log.append(append(3 * n..3 * n + 3), n).await.unwrap();
    }
    (directory, path)
}

/// Changes the stored batches behind the log's back.
fn tamper(path: &Path, change: impl FnOnce(&mut redb::Table<'_, (&str, u32, u64), &[u8]>)) {
    let db = Database::open(path).unwrap();
    let txn = db.begin_write().unwrap();
    change(&mut txn.open_table(EVENTS).unwrap());
    txn.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    for tail_bytes in [0, 1000, TAIL_BYTES] {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str, streams: &[StreamDef]| {
            Ok(Arc::new(open_with_tail(&directory.path().join(name), streams, tail_bytes)?) as Arc<dyn Log>)
        };
        conformance(make).await.unwrap();
    }
}

/// What is read just after it was appended is what the file has, down to the columns' nulls and types.
#[tokio::test]
async fn the_tail_holds_what_the_file_holds() {
    let (_directory, path) = directory();
    let mut streams = [stream("s", 2)];
    streams[0].deduplicate = Some(Deduplicate { column: "n".into(), within: Duration::from_secs(100) });
    let all = |tail_bytes: usize| {
        let (path, streams) = (path.clone(), streams.clone());
        async move {
            let log = open_with_tail(&path, &streams, tail_bytes).unwrap();
            let read = async |from: u64, rows: usize| {
                let chunk = log.read("s", Partition(0), Offset(from), rows).await.unwrap();
                (chunk.range, concat_batches(&chunk.batches[0].schema(), &chunk.batches).unwrap())
            };
            if tail_bytes > 0 {
                for n in 0..20 {
                    log.append(append(2 * n..2 * n + 5), n).await.unwrap();
                }
                log.trim("s", Partition(0), Offset(4)).await.unwrap();
                let held = log.tail.read("s", Partition(0), Offset(4), 1).unwrap();
                assert!(held.is_some(), "nothing is in memory");
            }
            let end = log.bounds("s", Partition(0)).await.unwrap().end.0;
            assert_eq!(end, 43, "of each number the first");
            let refused = log.read("s", Partition(0), Offset(3), 1).await.unwrap_err().to_string();
            let mut found = Vec::new();
            for from in 4..end {
                for rows in 1..=(end - from) as usize {
                    found.push(read(from, rows).await);
                }
            }
            (found, refused)
        }
    };
    let in_memory = all(TAIL_BYTES).await;
    assert_eq!(in_memory, all(0).await);
}

#[tokio::test]
async fn more_partitions_are_added_and_fewer_are_kept() {
    let (_directory, path) = directory();
    drop(EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap());
    drop(EmbeddedLog::open(&path, &[stream("s", 12), stream("t", 1)]).unwrap());
    let log = EmbeddedLog::open(&path, &[stream("s", 2)]).unwrap();
    assert!(log.bounds("s", Partition(11)).await.is_ok());
    assert!(log.bounds("t", Partition(0)).await.is_ok());
    assert!(log.bounds("s", Partition(12)).await.is_err());
}

#[tokio::test]
async fn large_appends_are_stored_in_pieces_and_read_as_one() {
    let (_directory, path) = directory();
    let log = open_with_tail(&path, &[stream("s", 1)], 0).unwrap();
    let rows = 2 * stored::MAX_ROWS as i64 + 10;
    let ranges = log.append(append(0..rows), 0).await.unwrap();
    assert_eq!(ranges, [OffsetRange::new(Offset(0), Offset(rows as u64))]);
    let chunk = log.read("s", Partition(0), Offset(5), usize::MAX).await.unwrap();
    assert!(chunk.batches.len() >= 3);
    assert_eq!(chunk.batches.iter().map(RecordBatch::num_rows).sum::<usize>() as i64, rows - 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_wait_waits_its_turn_and_is_all_written() {
    let (_directory, path) = directory();
    let log = Arc::new(EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap());
    let rows = ROOM_BYTES as i64 / 8 / 4;
    let appends: Vec<_> = (0..6)
        .map(|_| {
            let log = Arc::clone(&log);
            tokio::spawn(async move { log.append(append(0..rows), 0).await })
        })
        .collect();
    for append in appends {
        append.await.unwrap().unwrap();
    }
    // One append that is larger than all the room there is still gets through, alone.
    log.append(append(0..5 * rows), 0).await.unwrap();
    assert_eq!(log.bounds("s", Partition(0)).await.unwrap().end, Offset(11 * rows as u64));
    assert_eq!(log.room.available_permits(), ROOM_BYTES / 1024);
}

#[tokio::test]
async fn a_second_process_is_told_who_holds_the_file() {
    let (_directory, path) = directory();
    let _log = EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap();
    let error = EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.to_string().contains("log.redb"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_refused_untouched() {
    let (_directory, path) = filled().await;
    let db = Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
    txn.commit().unwrap();
    drop(db);
    for _ in 0..2 {
        let error = EmbeddedLog::open(&path, &[stream("t", 1)]).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains("upgrade"), "{error}");
    }
}

#[test]
fn another_database_is_no_log() {
    let (_directory, path) = directory();
    let db = Database::create(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(TableDefinition::<u64, u64>::new("other")).unwrap();
    txn.commit().unwrap();
    drop(db);
    assert_eq!(EmbeddedLog::open(&path, &[]).unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn a_damaged_batch_is_named_and_the_others_are_read() {
    let (_directory, path) = filled().await;
    tamper(&path, |events| {
        let mut value = events.get(("s", 0, 12)).unwrap().unwrap().value().to_vec();
        let last = value.len() - 20;
        value[last] ^= 1;
        events.insert(("s", 0, 12), value.as_slice()).unwrap();
    });
    let log = EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap();
    let error = log.read("s", Partition(0), Offset(13), 1).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    for part in ["log.redb", "stream s", "partition 0", "offset 12"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(log.read("s", Partition(0), Offset(15), 100).await.is_ok());
}

#[tokio::test]
async fn a_missing_batch_is_no_silent_hole() {
    for lost in [0, 12, 27] {
        let (_directory, path) = filled().await;
        tamper(&path, |events| drop(events.remove(("s", 0, lost)).unwrap()));
        let log = EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap();
        for from in [0, lost, lost + 1] {
            let error = log.read("s", Partition(0), Offset(from), 100).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt, "lost {lost}, from {from}");
        }
    }
}

#[tokio::test]
async fn trimming_removes_whole_batches_only() {
    let (_directory, path) = filled().await;
    let log = EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap();
    log.trim("s", Partition(0), Offset(7)).await.unwrap();
    drop(log);
    let stored = |path: &Path| {
        let db = Database::open(path).unwrap();
        let events = db.begin_read().unwrap().open_table(EVENTS).unwrap();
        (events.len().unwrap(), events.first().unwrap().map(|(key, _)| key.value().2))
    };
    assert_eq!(stored(&path), (8, Some(6)));
    let log = EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap();
    log.trim("s", Partition(0), Offset(9)).await.unwrap();
    drop(log);
    assert_eq!(stored(&path), (7, Some(9)));
}

#[tokio::test]
async fn a_cut_or_garbled_file_is_an_error_that_names_it() {
    let (directory, path) = filled().await;
    let whole = std::fs::read(&path).unwrap();
    let broken = directory.path().join("broken.redb");
    for len in [1, 100, 512, 4096, whole.len() / 2, whole.len() - 4096] {
        std::fs::write(&broken, &whole[..len]).unwrap();
        let error = EmbeddedLog::open(&broken, &[stream("s", 1)]).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{len} bytes: {error}");
        assert!(error.to_string().contains("broken.redb"), "{error}");
    }
    std::fs::write(&broken, "this is not a database".repeat(1000)).unwrap();
    assert_eq!(EmbeddedLog::open(&broken, &[]).unwrap_err().kind(), Kind::Corrupt);
}

#[tokio::test]
async fn flipped_bits_anywhere_never_panic_nor_change_an_event() {
    let (directory, path) = filled().await;
    let whole = std::fs::read(&path).unwrap();
    let broken = directory.path().join("broken.redb");
    for at in (0..whole.len()).step_by(whole.len() / 300) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&broken, &bytes).unwrap();
        let Ok(log) = EmbeddedLog::open(&broken, &[stream("s", 1)]) else { continue };
        if let Ok(chunk) = log.read("s", Partition(0), Offset(0), 100).await {
            let numbers = chunk.batches.iter().flat_map(|b| {
                use arrow::array::AsArray;
                b.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
            });
            let numbers: Vec<i64> = numbers.collect();
            assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<_>>(), "byte {at}");
        }
    }
}

#[tokio::test]
async fn a_file_of_a_version_that_remembered_nothing_opens_and_remembers() {
    let (_directory, path) = filled().await;
    let db = Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    assert!(txn.delete_table(REQUESTS).unwrap() && txn.delete_table(REQUEST_TIMES).unwrap());
    assert!(txn.delete_table(IDS).unwrap() && txn.delete_table(ID_TIMES).unwrap());
    txn.commit().unwrap();
    drop(db);
    let log = EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap();
    assert_eq!(log.read("s", Partition(0), Offset(0), 100).await.unwrap().range.end, Offset(30));
    for _ in 0..2 {
        let appended = log.append_request(keyed("k", 30..33, 0)).await.unwrap();
        assert_eq!(appended.ranges, [OffsetRange::new(Offset(30), Offset(33))]);
    }
}

fn keyed(key: &str, numbers: std::ops::Range<i64>, ingest_time: i64) -> AppendRequest {
    let key = twofold_common::IdempotencyKey::new(key).unwrap();
    let once = twofold_common::Once { stream: "s".into(), key, digest: twofold_common::Digest::of(b"") };
    AppendRequest { appends: append(numbers), ingest_time, note: String::new(), once: Some(once) }
}

#[tokio::test]
async fn what_is_forgotten_goes_from_the_file_a_bounded_piece_at_a_time() {
    let (_directory, path) = directory();
    let def = |within: Option<Duration>| {
        let deduplicate = within.map(|within| twofold_common::Deduplicate { column: "n".into(), within });
        StreamDef { deduplicate, ..stream("s", 1) }
    };
    let (remember, hour) = (Duration::from_secs(60), 3_600_000_000_000);
    let log = EmbeddedLog::open_with(&path, &[def(Some(remember))], remember).unwrap();
    for n in 0..600 {
        log.append_request(keyed(&format!("k{n}"), 20 * n..20 * n + 20, n)).await.unwrap();
    }
    drop(log);
    let stored = |path: &Path| {
        let txn = Database::open(path).unwrap().begin_read().unwrap();
        let requests = txn.open_table(REQUESTS).unwrap().len().unwrap();
        assert_eq!(txn.open_table(REQUEST_TIMES).unwrap().len().unwrap(), requests);
        (
            requests,
            txn.open_table(IDS).unwrap().len().unwrap(),
            txn.open_table(ID_TIMES).unwrap().len().unwrap(),
        )
    };
    assert_eq!(stored(&path), (600, 12_000, 600));
    let mut left = Vec::new();
    for n in 0..4 {
        let log = EmbeddedLog::open_with(&path, &[def(Some(remember))], remember).unwrap();
        log.append(append(n..n + 1), hour + n).await.unwrap();
        drop(log);
        left.push(stored(&path));
    }
    assert!(left[0].0 > 300 && left[0].1 > 7000, "not all at once: {left:?}");
    assert_eq!(left[3], (0, 4, 4), "but all in the end: {left:?}");
    // A stream that declares no ids any more keeps none.
    let log = EmbeddedLog::open_with(&path, &[def(None)], remember).unwrap();
    log.append(append(0..1), hour + 9).await.unwrap();
    drop(log);
    assert_eq!(stored(&path), (0, 0, 0));
}
