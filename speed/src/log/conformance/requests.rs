//! What a log remembers: the keys of requests, and the ids of events.

use super::{P0, P1, append, batch, events, numbers, read_all, streams};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use std::sync::Arc;
use std::time::Duration;
use twofold_common::{
    Append, AppendRequest, Appended, Deduplicate, Digest, Error, IdempotencyKey, Kind, Log, Once, Partition,
    REMEMBER_KEYS, Result, StreamDef,
};

pub(super) async fn conformance<M>(make: &M) -> Result<()>
where
    M: Fn(&str, &[StreamDef]) -> Result<Arc<dyn Log>>,
{
    a_key_adds_once(make("key", &streams())?).await?;
    a_key_is_forgotten_in_time(make("forgotten", &streams())?).await?;
    a_request_that_fails_leaves_no_key(make("failed", &streams())?).await?;
    concurrent_requests_of_one_key_add_once(make("same-key", &streams())?).await?;
    a_reopened_log_remembers(make).await?;
    ids_are_taken_in_once(make("ids", &with_ids())?).await?;
    ids_are_forgotten_in_time(make("old-ids", &with_ids())?).await
}

fn request(key: &str, sent: &str, appends: Vec<Append>) -> Result<AppendRequest> {
    let key = IdempotencyKey::new(key)?;
    let once = Once { stream: "events".into(), key, digest: Digest::of(sent.as_bytes()) };
    Ok(AppendRequest { appends, ingest_time: 1_000, note: format!("note of {sent}"), once: Some(once) })
}

async fn count(log: &dyn Log) -> Result<usize> {
    Ok(read_all(log, P0).await?.len() + read_all(log, P1).await?.len())
}

async fn a_key_adds_once(log: Arc<dyn Log>) -> Result<()> {
    let first = log.append_request(request("k", "a", vec![append(P0, 0..3)?, append(P1, 3..5)?])?).await?;
    assert_eq!((first.ranges.len(), first.note.as_str()), (2, "note of a"));
    assert_eq!(first.duplicates, [0, 0]);
    // Also if the partition is another one this time.
    let again = log.append_request(request("k", "a", vec![append(P1, 0..5)?])?).await?;
    assert_eq!(again, first, "a repetition is answered as the first one was");
    assert_eq!(count(&*log).await?, 5, "a repetition adds nothing");

    let other = log.append_request(request("k", "b", vec![append(P0, 9..10)?])?).await;
    assert_eq!(other.err().map(|e| e.kind()), Some(Kind::Conflict), "a key stands for one request");
    assert_eq!(count(&*log).await?, 5, "a conflict adds nothing");

    log.append_request(request("K", "a", vec![append(P0, 5..6)?])?).await?;
    let mut elsewhere = request("k", "a", vec![append(P0, 6..7)?])?;
    elsewhere.once = elsewhere.once.map(|once| Once { stream: events(false).rejected().name, ..once });
    log.append_request(elsewhere).await?;
    assert_eq!(count(&*log).await?, 7, "other keys and keys of other streams are others");

    let nothing = log.append_request(request("empty", "", Vec::new())?).await?;
    assert_eq!(nothing, Appended { note: "note of ".into(), ..Appended::default() });
    let conflict = log.append_request(request("empty", "x", vec![append(P0, 7..8)?])?).await;
    assert!(conflict.is_err(), "a request without events is remembered too");
    Ok(())
}

async fn a_key_is_forgotten_in_time(log: Arc<dyn Log>) -> Result<()> {
    let remember = REMEMBER_KEYS.as_nanos() as i64;
    let at = |time: i64, sent: &str| -> Result<AppendRequest> {
        Ok(AppendRequest { ingest_time: time, ..request("k", sent, vec![append(P0, 0..1)?])? })
    };
    let first = log.append_request(at(1_000, "a")?).await?;
    assert_eq!(log.append_request(at(999 + remember, "a")?).await?, first, "remembered to the last");
    assert_eq!(log.append_request(at(10, "a")?).await?, first, "also if the clock went back");
    log.append_request(at(1_000 + remember, "b")?).await?;
    assert_eq!(count(&*log).await?, 2, "a forgotten key can be used for something else");
    let old = log.append_request(at(1_001 + remember, "a")?).await;
    assert_eq!(old.err().map(|e| e.kind()), Some(Kind::Conflict), "and is remembered from then on");
    Ok(())
}

async fn a_request_that_fails_leaves_no_key(log: Arc<dyn Log>) -> Result<()> {
    let unknown = Append { stream: "nowhere".into(), partition: P0, rows: batch(0..1)? };
    assert!(log.append_request(request("k", "a", vec![append(P0, 0..1)?, unknown])?).await.is_err());
    log.append_request(request("k", "b", vec![append(P0, 0..1)?])?).await?;
    assert_eq!(count(&*log).await?, 1);
    Ok(())
}

async fn concurrent_requests_of_one_key_add_once(log: Arc<dyn Log>) -> Result<()> {
    const WRITERS: usize = 8;
    const KEYS: i64 = 20;
    let mut writers: tokio::task::JoinSet<Result<Vec<Appended>>> = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let log = Arc::clone(&log);
        writers.spawn(async move {
            let mut answers = Vec::new();
            for n in 0..KEYS {
                let appends = vec![append(Partition(writer as u32 % 2), n..n + 1)?];
                answers.push(log.append_request(request(&n.to_string(), &n.to_string(), appends)?).await?);
            }
            Ok(answers)
        });
    }
    let mut answers = Vec::new();
    while let Some(written) = writers.join_next().await {
        answers.push(written.map_err(|e| Error::Internal(e.to_string()))??);
    }
    assert_eq!(count(&*log).await?, KEYS as usize, "of concurrent requests of one key one adds");
    assert!(answers.iter().all(|all| *all == answers[0]), "and all get the same answer");
    Ok(())
}

async fn a_reopened_log_remembers<M>(make: &M) -> Result<()>
where
    M: Fn(&str, &[StreamDef]) -> Result<Arc<dyn Log>>,
{
    let log = make("remembers", &with_ids())?;
    let first = log.append_request(request("k", "a", vec![append(P0, 0..3)?])?).await?;
    drop(log);
    let log = make("remembers", &with_ids())?;
    let again = log.append_request(request("k", "a", vec![append(P0, 0..3)?])?).await?;
    assert_eq!(again, first, "keys are as durable as events");
    let ids = log.append_request(request("l", "b", vec![append(P1, 1..4)?])?).await?;
    assert_eq!((ids.duplicates[0], count(&*log).await?), (2, 4), "so are ids");
    Ok(())
}

/// The stream, whose `n` is an id for an hour.
fn with_ids() -> Vec<StreamDef> {
    let within = Duration::from_secs(3600);
    let deduplicate = Some(Deduplicate { column: "n".into(), within });
    vec![StreamDef { deduplicate, ..events(false) }, events(false).rejected()]
}

fn plain(appends: Vec<Append>, ingest_time: i64) -> AppendRequest {
    AppendRequest { appends, ingest_time, ..AppendRequest::default() }
}

async fn ids_are_taken_in_once(log: Arc<dyn Log>) -> Result<()> {
    let added = log.append_request(plain(vec![append(P0, 0..4)?], 0)).await?;
    assert_eq!(added.duplicates, [0]);
    // Some known, some not, in another partition, and one twice in the request.
    let added =
        log.append_request(plain(vec![append(P1, 2..6)?, append(P0, 5..7)?, append(P0, 0..1)?], 5)).await?;
    assert_eq!(added.duplicates, [2, 1, 1], "an id is taken in once, whatever its partition");
    assert_eq!(numbers(&read_all(&*log, P0).await?), [0, 1, 2, 3, 6]);
    assert_eq!(numbers(&read_all(&*log, P1).await?), [4, 5]);
    assert!(added.ranges[2].is_empty(), "what is left out takes no offsets");
    let twice: ArrayRef = Arc::new(Int64Array::from(vec![7, 7, 8]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["first", "second", "third"]));
    let rows = RecordBatch::try_new(events(false).schema, vec![twice, text])?;
    let twice = Append { stream: "events".into(), partition: P1, rows };
    assert_eq!(log.append_request(plain(vec![twice], 6)).await?.duplicates, [1]);
    assert_eq!(numbers(&read_all(&*log, P1).await?), [4, 5, 7, 8]);
    Ok(())
}

async fn ids_are_forgotten_in_time(log: Arc<dyn Log>) -> Result<()> {
    let hour = 3_600_000_000_000;
    let at = async |time: i64| -> Result<u64> {
        Ok(log.append_request(plain(vec![append(P0, 0..1)?], time)).await?.duplicates[0])
    };
    assert_eq!(at(10).await?, 0);
    assert_eq!(at(hour + 9).await?, 1, "known to the last");
    assert_eq!(at(hour + 10).await?, 0, "what was left out did not renew it");
    assert_eq!(at(2 * hour + 9).await?, 1, "and it is known from then on");
    assert_eq!(at(5).await?, 1, "also if the clock went back");
    assert_eq!(count(&*log).await?, 2);
    Ok(())
}
