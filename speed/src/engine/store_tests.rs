//! The state store on a disk that fails, and with files that are damaged.

use super::store::{Contents, META, Opener, StateStore, UnitId, WHOLES, Write};
use super::{Engine, EngineConfig};
use crate::faults::{Faults, FaultyDisk, How};
use crate::log::MemoryLog;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use twofold_common::{
    Answer, Append, Archive, BatchViews, Catalog, Digest, Kind, Log, Offset, Partition, Project,
    SnapshotRequest, SpeedLayer, State, Store, Versions, ViewRequest,
};

fn opener(faults: &Faults) -> Opener {
    let faults = faults.clone();
    Box::new(move |path: &Path| FaultyDisk { path: path.to_path_buf(), faults: faults.clone() }.open(true))
}

pub(super) struct World {
    dir: TempDir,
    catalog: Arc<Catalog>,
    log: Arc<MemoryLog>,
    store: Store,
    pub(super) faults: Faults,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::of("SELECT count(*) AS c FROM s").await
    }

    pub(super) async fn of(view: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sql = format!("CREATE STREAM s (n BIGINT); CREATE MATERIALIZED VIEW v AS {view};");
        std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
        std::fs::write(dir.path().join("a.sql"), sql).unwrap();
        let project = Project::load(dir.path()).unwrap();
        let catalog = Arc::new(Catalog::new(&project).await.unwrap());
        let log = Arc::new(MemoryLog::new(&crate::with_rejected(project.streams.values())));
        Self { dir, catalog, log, store: Store::memory(), faults: Faults::default() }
    }

    pub(super) async fn open(&self) -> Arc<Engine> {
        self.open_with(3, 4).await
    }

    pub(super) async fn open_with(&self, epoch_rows: usize, segment_rows: u64) -> Arc<Engine> {
        let config = EngineConfig {
            state_path: self.dir.path().join("state.redb"),
            epoch_rows,
            epoch_interval: Duration::ZERO,
            segment_rows,
            segment_age: Duration::MAX,
            retire_grace: Duration::ZERO,
        };
        let store = StateStore::open_with(&config.state_path, opener(&self.faults)).unwrap();
        let versions = Versions::new(Arc::clone(&self.catalog), None);
        let (archive, views) = (Archive::new(self.store.clone()), BatchViews::new(self.store.clone()));
        let log: Arc<dyn Log> = self.log.clone();
        Engine::open_over(config, store, versions, log, archive, views, Arc::new(|| 7)).await.unwrap()
    }

    pub(super) async fn append(&self, events: i64) {
        let column = Arc::new(Int64Array::from_iter_values(0..events));
        let schema = Arc::clone(&self.catalog.stream("s").unwrap().schema);
        let rows = RecordBatch::try_new(schema, vec![column]).unwrap();
        let append = Append { stream: "s".into(), partition: Partition(0), rows };
        self.log.append(vec![append], 7).await.unwrap();
    }
}

/// The count of the view, added up over all of its states.
pub(super) async fn count(engine: &Engine) -> i64 {
    let view = engine.views()[0].clone();
    let from = [("s".to_string(), Default::default())].into();
    let request = ViewRequest { view: "v".into(), fingerprint: view.fingerprint(), from };
    let request = SnapshotRequest { views: vec![request], ..SnapshotRequest::default() };
    let Answer::Snapshot(snapshot) = engine.snapshot(&request).await.unwrap() else { panic!("no snapshot") };
    let counts = snapshot.views[0].states.iter().map(|(_, state)| {
        let counts = state.batch().columns().last().unwrap().as_struct().column(0).clone();
        counts.as_primitive::<Int64Type>().values().iter().sum::<i64>()
    });
    counts.sum()
}

/// Whichever write or sync of whichever commit fails, and whether it was done or not: nothing is counted twice, and
/// nothing is left out.
#[tokio::test]
async fn a_commit_that_fails_counts_nothing_twice() {
    let mut failed = 0;
    for how in [How::Before, How::Torn, How::After] {
        for nth in 0.. {
            let world = World::new().await;
            let engine = world.open().await;
            world.append(5).await;
            engine.catch_up().await.unwrap();
            world.append(7).await;
            world.faults.fail(nth, how);
            while let Err(e) = engine.catch_up().await {
                assert_eq!(e.kind(), Kind::Unavailable, "{how:?} {nth}: {e}");
            }
            assert_eq!(count(&engine).await, 12, "{how:?} {nth}");
            world.append(1).await;
            while engine.catch_up().await.is_err() {}
            drop(engine);
            if world.faults.failed() == 0 {
                break;
            }
            failed += 1;
            assert_eq!(count(world.open().await.as_ref()).await, 13, "{how:?} {nth}, after a restart");
        }
    }
    assert!(failed > 30, "{failed} operations failed");
}

/// The same of a state that is compacted in pieces: these count when the last of them is there, and what they are made
/// of counts until then.
#[tokio::test]
async fn a_state_compacted_in_pieces_counts_once() {
    let mut failed = 0;
    for (nth, how) in (0..).step_by(3).zip([How::Before, How::Torn, How::After].into_iter().cycle()) {
        let world = World::of("SELECT n, count(*) AS c FROM s GROUP BY n").await;
        let engine = world.open_with(2000, 6000).await;
        world.append(6000).await;
        world.faults.fail(nth, how);
        let mut tries = 0;
        while engine.catch_up().await.is_err() {
            // Stopped in the midst of it, and then gone on with.
            tries += 1;
            assert_eq!(count(&engine).await % 2000, 0, "{how:?} {nth}, try {tries}");
        }
        let left = engine.worker.lock().await.compaction.is_done();
        assert!(left, "{how:?} {nth}: not all is compacted");
        assert_eq!(count(&engine).await, 6000, "{how:?} {nth}");
        drop(engine);
        if world.faults.failed() == 0 {
            break;
        }
        failed += 1;
        assert_eq!(count(world.open().await.as_ref()).await, 6000, "{how:?} {nth}, after a restart");
    }
    assert!(failed > 20, "{failed} operations failed");
}

/// Pieces without the last word count for nothing when the store is opened, and with it in the place of what was before.
#[test]
fn pieces_count_from_the_last_word_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let schema = Arc::new(Schema::new(vec![Field::new("k0", DataType::Int64, true)]));
    let state = |n: i64| {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![n]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
        State::from_rows(&schema, 1, &[batch]).unwrap()
    };
    let id = UnitId {
        fingerprint: Digest::of(b"v"),
        stream: "s".into(),
        partition: Partition(0),
        start: Offset(7),
    };
    let run = |number: u64| Write::Run { id: id.clone(), cut: 0, number, state: state(number as i64) };
    let piece = |number: u64| Write::Piece { id: id.clone(), cut: 0, number, state: state(number as i64) };
    let stage = |first: u64| Write::Stage { id: id.clone(), cut: 0, first };
    let numbers =
        |contents: Contents| contents.runs.iter().map(|(_, _, number, _)| *number).collect::<Vec<_>>();
    let (store, _) = StateStore::open(&path).unwrap();
    store.commit(&[run(1), run(2)]).unwrap();
    store.commit(&[stage(3), piece(3)]).unwrap();
    assert_eq!(numbers(store.reopen().unwrap()), [1, 2]);
    store.commit(&[stage(5), piece(5)]).unwrap();
    let last = Write::Whole { id: id.clone(), cut: 0, numbers: vec![5, 6] };
    store.commit(&[piece(6), last]).unwrap();
    store.commit(&[Write::DropRun { id: id.clone(), cut: 0, number: 1 }]).unwrap();
    assert_eq!(numbers(store.reopen().unwrap()), [5, 6]);
    assert_eq!(numbers(store.reopen().unwrap()), [5, 6]);
    store.commit(&[stage(7), piece(7), Write::DropUnit { id: id.clone() }, run(8)]).unwrap();
    assert_eq!(numbers(store.reopen().unwrap()), [8], "pieces go with their unit");
}

/// A file of the format before this one is taken over with all that it holds; one of a format to come is refused.
#[test]
fn a_file_of_format_1_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let id = UnitId {
        fingerprint: Digest::of(b"v"),
        stream: "s".into(),
        partition: Partition(0),
        start: Offset(7),
    };
    let write = Write::Unit { id: id.clone(), end: Offset(9) };
    StateStore::open(&path).unwrap().0.commit(&[write]).unwrap();
    let set_format = |format: &str| {
        let txn = redb::Database::open(&path).unwrap().begin_write().unwrap();
        txn.delete_table(WHOLES).unwrap();
        txn.open_table(META).unwrap().insert("format", format).unwrap();
        txn.commit().unwrap();
    };
    set_format("1");
    for _ in 0..2 {
        assert_eq!(StateStore::open(&path).unwrap().1.units, [(id.clone(), Offset(9))]);
    }
    set_format("3");
    let refused = StateStore::open(&path).unwrap_err().to_string();
    assert!(refused.contains("format 3, this one reads 2"), "{refused}");
}

/// A full disk holds up what is new, and nothing else; when there is room, all goes on.
#[tokio::test]
async fn a_full_disk_holds_up_what_is_new() {
    let world = World::new().await;
    let engine = world.open().await;
    world.append(5).await;
    engine.catch_up().await.unwrap();
    world.append(7).await;
    world.faults.plan(|plan| plan.full_at = Some(0));
    for _ in 0..3 {
        assert_eq!(engine.catch_up().await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(count(&engine).await, 5, "what was committed before is answered on");
    }
    world.faults.plan(|plan| plan.full_at = None);
    engine.catch_up().await.unwrap();
    assert_eq!(count(&engine).await, 12);
}

/// A damaged file is set aside, and its states are folded again.
#[tokio::test]
async fn damaged_states_are_folded_again() {
    let world = World::new().await;
    let path = world.dir.path().join("state.redb");
    world.append(5).await;
    let mut aside = 0;
    for damage in [
        |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 3),
        |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte = 0),
        |bytes: &mut Vec<u8>| bytes.clear(),
        // Somewhere in the pages of the tables.
        |bytes: &mut Vec<u8>| bytes[4096..].chunks_mut(512).for_each(|page| page[100] ^= 0x55),
    ] {
        {
            let engine = world.open().await;
            engine.catch_up().await.unwrap();
            assert_eq!(count(&engine).await, 5);
        }
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let engine = world.open().await;
        engine.catch_up().await.unwrap();
        assert_eq!(count(&engine).await, 5);
        let kept = |name: &str| world.dir.path().join(name).exists();
        aside += usize::from(kept(&format!("state.redb.damaged-{aside}")));
    }
    assert!(aside >= 2, "{aside} files were set aside");
}

/// Wherever a bit flips, the states are those that were stored, or made again.
#[tokio::test]
async fn flipped_bits_anywhere_change_no_count() {
    let world = World::new().await;
    let path = world.dir.path().join("state.redb");
    world.append(5).await;
    world.open().await.catch_up().await.unwrap();
    let good = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    for at in used.iter().step_by(used.len().div_ceil(150)) {
        let mut bad = good.clone();
        bad[*at] ^= 1 << (at % 8);
        std::fs::write(&path, bad).unwrap();
        let engine = world.open().await;
        engine.catch_up().await.unwrap();
        assert_eq!(count(&engine).await, 5, "a bit at {at}");
    }
}
