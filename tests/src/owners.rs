//! Two owners of the same streams, over one log and one store: what one archives, the other takes over.

use crate::events::Event;
use crate::oracle::{answer, assert_same};
use crate::parity::{Platform, Sizes, Step, open, runtime};
use std::sync::Arc;
use tempfile::TempDir;
use twofold_batch::Archiver;
use twofold_common::{Archive, Kind, Log, Partition, Versions};
use twofold_serving::Serving;
use twofold_speed::Engine;

const VIEWS: &[&str] = &["counts", "whole", "distinct_counts", "kept", "hops"];
/// Segments that are never those of the platform, which are of 3.
const SIZES: Sizes = Sizes { epoch_rows: 4, segment_rows: 5 };

/// The other owner.
struct Other {
    engine: Arc<Engine>,
    serving: Serving,
    archiver: Archiver,
}

impl Other {
    async fn open(dir: &TempDir, platform: &Platform) -> Self {
        let versions = Versions::new(platform.catalog.clone(), None);
        let (engine, serving) = open(dir, versions, &platform.log, &platform.store, SIZES).await;
        let archive = Archive::new(platform.store.clone());
        let archiver = Archiver::new(platform.catalog.clone(), platform.log.clone(), archive, engine.clone());
        Self { engine, serving, archiver }
    }

    /// Every answer is there, and that of all events.
    async fn check(&self, platform: &Platform) {
        for view in VIEWS {
            let sql = format!("SELECT * FROM {view}");
            let rows = self.serving.query(&sql).await.unwrap_or_else(|e| panic!("{view}: {e}"));
            for covered in &rows.coverage {
                let ends = platform.ends(&covered.stream).await;
                assert_eq!(covered.speed.end, ends[covered.partition.0 as usize], "{view}");
            }
            let oracle = platform.oracle(&rows.coverage).await;
            assert_same(view, &rows.batches, &answer(&oracle, &sql).await);
        }
    }
}

fn clicks(partition: u32, seconds: std::ops::Range<i64>) -> Step {
    let event = |i: i64| Event {
        second: i,
        k: Some(if i % 3 == 0 { "a" } else { "b" }),
        n: Some(i),
        x: Some(0.1),
        ok: None,
        partition,
        gap: 0,
    };
    Step::Ingest("clicks", seconds.map(event).collect())
}

async fn hand_off(platform: &mut Platform) {
    for step in [Step::Epochs, Step::Seal, Step::Archive, Step::Batch { full: false }] {
        platform.take(&step).await;
    }
}

/// Who has sealed at other offsets than those that were archived neither waits for ever nor holds up what fits.
#[test]
fn an_owner_whose_segments_are_not_the_archives_folds_them_again() {
    runtime().block_on(async {
        let mut platform = Platform::new(VIEWS, 3).await;
        let dir = tempfile::tempdir().unwrap();
        let other = Other::open(&dir, &platform).await;
        platform.take(&clicks(1, 0..8)).await;
        for step in [Step::Epochs, Step::Seal, clicks(1, 8..14), clicks(0, 10..17)] {
            platform.take(&step).await;
        }
        other.engine.catch_up().await.unwrap();
        other.engine.seal_all().await.unwrap();
        platform.take(&Step::Archive).await;
        assert_eq!(other.archiver.run_once().await.unwrap_err().kind(), Kind::Conflict);
        let manifest = Archive::new(platform.store.clone()).manifest("clicks").await.unwrap().unwrap().body;
        let ends = platform.ends("clicks").await;
        assert_eq!(
            manifest.end(Partition(0)),
            ends[0],
            "one partition in conflict does not hold up the other"
        );

        other.engine.retire_covered().await.unwrap();
        other.engine.catch_up().await.unwrap();
        other.check(&platform).await;
        // And so on, in turns: each goes on from what the other has archived.
        for round in 0..3 {
            platform.take(&clicks(round % 2, 20..31)).await;
            other.engine.catch_up().await.unwrap();
            other.engine.seal_all().await.unwrap();
            assert!(other.archiver.run_once().await.unwrap() > 0);
            other.check(&platform).await;
            for step in [Step::Epochs, Step::Retire, Step::Epochs] {
                platform.take(&step).await;
            }
            platform.check(VIEWS).await;
            platform.take(&clicks(round % 2, 31..40)).await;
            hand_off(&mut platform).await;
            other.engine.retire_covered().await.unwrap();
            other.engine.catch_up().await.unwrap();
            other.check(&platform).await;
        }
        // No state claims more than was folded into it: those that were compared are equal.
        let (equal, _) = platform.batch(true).await;
        assert!(equal > 20, "{equal} states were compared");
    });
}

/// States that were put back from an older copy are brought up to date from archive and log.
#[test]
fn states_older_than_the_archive_are_folded_again() {
    runtime().block_on(async {
        let mut platform = Platform::new(VIEWS, 3).await;
        let dir = tempfile::tempdir().unwrap();
        platform.take(&clicks(1, 0..10)).await;
        {
            let other = Other::open(&dir, &platform).await;
            other.engine.catch_up().await.unwrap();
            other.engine.seal_all().await.unwrap();
        }
        platform.take(&clicks(1, 10..31)).await;
        platform.take(&clicks(0, 0..4)).await;
        hand_off(&mut platform).await;
        platform.take(&Step::Retire).await;
        let start = platform.log.bounds("clicks", Partition(1)).await.unwrap().start;
        assert!(start.0 > 10, "the log was trimmed beyond what the older states hold");
        let other = Other::open(&dir, &platform).await;
        other.engine.catch_up().await.unwrap();
        other.check(&platform).await;
    });
}
