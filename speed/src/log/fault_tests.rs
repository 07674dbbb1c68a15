//! The log on a disk that fails: each write, sync or read of the file may.

use super::tests::{append, directory, stream};
use super::*;
use crate::faults::{Faults, FaultyDisk, How};
use redb::DatabaseError;
use std::path::PathBuf;
use tempfile::TempDir;
use twofold_common::{Digest, IdempotencyKey, Once};

impl Disk for FaultyDisk {
    fn open(&self, create: bool) -> Result<Database, DatabaseError> {
        FaultyDisk::open(self, create)
    }

    fn probe(&self, _: usize) -> std::io::Result<()> {
        FaultyDisk::probe(self)
    }
}

fn faulty() -> (TempDir, PathBuf, EmbeddedLog, Faults) {
    let (directory, path) = directory();
    let faults = Faults::default();
    let log = open(&path, &faults).unwrap();
    (directory, path, log, faults)
}

fn open(path: &Path, faults: &Faults) -> Result<EmbeddedLog> {
    let disk = Box::new(FaultyDisk { path: path.to_path_buf(), faults: faults.clone() });
    // What is read comes from the disk.
    EmbeddedLog::open_on(disk, path, &[stream("s", 1)], REMEMBER_KEYS, 0)
}

fn keyed(key: &str, numbers: std::ops::Range<i64>) -> AppendRequest {
    let key = IdempotencyKey::new(key).unwrap();
    let once = Once { stream: "s".into(), digest: Digest::of(key.as_str().as_bytes()), key };
    AppendRequest { appends: append(numbers), ingest_time: 7, note: String::new(), once: Some(once) }
}

/// Sends a request until it is answered, as a producer does.
async fn until_answered(log: &EmbeddedLog, request: AppendRequest) -> Appended {
    for _ in 0..400 {
        match log.append_request(request.clone()).await {
            Ok(appended) => return appended,
            Err(e) => assert_eq!(e.kind(), Kind::Unavailable, "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it does not go on by itself");
}

async fn numbers(log: &EmbeddedLog) -> Vec<i64> {
    use arrow::array::AsArray;
    let chunk = log.read("s", Partition(0), Offset(0), usize::MAX).await.unwrap();
    let numbers = |b: &arrow::array::RecordBatch| {
        b.column(0).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec()
    };
    chunk.batches.iter().flat_map(numbers).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_goes_on_when_room_returns() {
    let (_directory, path, log, faults) = faulty();
    log.append(append(0..10), 0).await.unwrap();
    let full_at = std::fs::metadata(&path).unwrap().len();
    faults.plan(|plan| plan.full_at = Some(full_at));
    let mut next = 10;
    let error = loop {
        match log.append(append(next..next + 50_000), 0).await {
            Ok(_) => next += 50_000,
            Err(e) => break e,
        }
        assert!(next < 10_000_000, "the disk never was full");
    };
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    for part in ["log.redb", "No space left on device", "nothing was taken in"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    for _ in 0..3 {
        let error = log.append(append(0..1), 0).await.unwrap_err();
        assert!(error.to_string().contains("No space left on device"), "{error}");
        assert_eq!(numbers(&log).await, (0..next).collect::<Vec<_>>(), "what it has, it keeps and gives");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    faults.plan(|plan| plan.full_at = None);
    until_answered(&log, keyed("k", next..next + 50_000)).await;
    assert_eq!(numbers(&log).await, (0..next + 50_000).collect::<Vec<_>>());
}

/// Each write and each sync of three requests fails once, in three ways, and the producer goes on by sending again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_write_fails_each_request_goes_in_once() {
    for how in [How::Before, How::Torn, How::After] {
        for nth in 0.. {
            let (_directory, path, log, faults) = faulty();
            faults.fail(nth, how);
            for n in 0..3 {
                let key = format!("key {n}").replace(' ', "-");
                let first = until_answered(&log, keyed(&key, 3 * n..3 * n + 3)).await;
                let again = until_answered(&log, keyed(&key, 3 * n..3 * n + 3)).await;
                assert_eq!(again, first, "{how:?} at {nth}");
            }
            assert_eq!(numbers(&log).await, (0..9).collect::<Vec<_>>(), "{how:?} at {nth}");
            let failed = faults.failed();
            drop(log);
            let log = open(&path, &Faults::default()).unwrap();
            assert_eq!(numbers(&log).await, (0..9).collect::<Vec<_>>(), "reopened, {how:?} at {nth}");
            if failed == 0 {
                assert!(nth > 5, "so few writes?");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_in_the_commit_is_told_and_its_key_adds_nothing() {
    let mut lost = 0;
    // One of the syncs of a commit is the one that makes it durable.
    for nth in 0..4 {
        let (_directory, _, log, faults) = faulty();
        log.append(append(0..3), 0).await.unwrap();
        let mut appended = log.appended();
        appended.mark_unchanged();
        faults.plan(|plan| plan.lost_sync = Some(nth));
        let answer = log.append_request(keyed("k", 3..6)).await;
        faults.plan(|plan| plan.lost_sync = None);
        let end = log.bounds("s", Partition(0)).await.unwrap().end;
        if let Err(e) = answer {
            assert_eq!(e.to_string().contains("not known"), end == Offset(6), "sync {nth}: {e}");
            assert_eq!(appended.has_changed().unwrap(), end == Offset(6), "what turned up is announced");
            lost += usize::from(end == Offset(6));
        }
        let receipt = until_answered(&log, keyed("k", 3..6)).await;
        assert_eq!(receipt.ranges, [OffsetRange::new(Offset(3), Offset(6))], "sync {nth}");
        assert_eq!(numbers(&log).await, (0..6).collect::<Vec<_>>(), "its key adds nothing");
    }
    assert!(lost > 0, "no answer was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_is_tried_again_on_the_reopened_file() {
    let (_directory, path, log, _) = faulty();
    for n in 0..4 {
        log.append(append(50_000 * n..50_000 * (n + 1)), 0).await.unwrap();
    }
    drop(log);
    let faults = Faults::default();
    let log = open(&path, &faults).unwrap();
    faults.plan(|plan| plan.read = true);
    assert_eq!(numbers(&log).await, (0..200_000).collect::<Vec<_>>());
    assert!(!faults.plan(|plan| plan.read), "a read failed");
    until_answered(&log, keyed("k", 0..1)).await;
    assert_eq!(numbers(&log).await.len(), 200_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_gone_is_not_replaced_by_an_empty_one() {
    let (directory, path, log, faults) = faulty();
    log.append(append(0..3), 0).await.unwrap();
    let aside = directory.path().join("aside.redb");
    std::fs::rename(&path, &aside).unwrap();
    faults.fail(0, How::Before);
    assert_eq!(log.append(append(3..6), 0).await.unwrap_err().kind(), Kind::Unavailable);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(log.append(append(3..6), 0).await.is_err());
    assert!(!path.exists(), "no log was made");
    // Another log in its place is not taken for it.
    drop(EmbeddedLog::open(&path, &[stream("s", 1)]).unwrap());
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(log.append(append(3..6), 0).await.is_err());
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    until_answered(&log, keyed("k", 3..6)).await;
    assert_eq!(numbers(&log).await, (0..6).collect::<Vec<_>>());
}

/// On a real file system that fills up, if this process may mount one.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_file_system_fills_up_and_is_emptied() {
    use std::process::{Command, Stdio};
    let directory = tempfile::tempdir().unwrap();
    let mount = directory.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    let run =
        |command: &mut Command| command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&mount)) {
        eprintln!("not tried: nothing may be mounted here");
        return;
    }
    let ballast = mount.join("ballast");
    std::fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let log = EmbeddedLog::open(&mount.join("log.redb"), &[stream("s", 1)]).unwrap();
    let mut next = 0;
    while log.append(append(next..next + 10_000), 0).await.is_ok() {
        next += 10_000;
    }
    assert_eq!(numbers(&log).await, (0..next).collect::<Vec<_>>());
    std::fs::remove_file(&ballast).unwrap();
    until_answered(&log, keyed("k", next..next + 10_000)).await;
    assert_eq!(numbers(&log).await, (0..next + 10_000).collect::<Vec<_>>());
    drop(log);
    assert!(run(Command::new("umount").arg(&mount)));
}
