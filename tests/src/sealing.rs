//! Sealing because somebody asks for it, as each batch run does.

use crate::events::Event;
use crate::parity::{Platform, Step, runtime};
use futures::poll;
use std::pin::pin;
use twofold_common::{Log, Offset, Partition, SealedSegments, SpeedLayer};

const SEGMENT_ROWS: u64 = 4;

/// A seal that is asked for while much is in the log folds it in pieces of a segment each, not in one endless segment
/// that takes in one event an epoch.
#[test]
fn a_seal_under_load_keeps_segments_to_their_size() {
    runtime().block_on(async {
        let mut platform = Platform::new(&["counts"], SEGMENT_ROWS).await;
        let event =
            |i: i64| Event { second: i, k: Some("a"), n: Some(i), x: None, ok: None, partition: 0, gap: 0 };
        platform.take(&Step::Ingest("clicks", (0..40).map(event).collect())).await;
        let engine = platform.engine().clone();
        let mut sealed = pin!(engine.seal());
        assert!(poll!(&mut sealed).is_pending());
        let end = platform.log.bounds("clicks", Partition(0)).await.unwrap().end;
        // One closes all that was there; its segments are summed up beside the next ones.
        let mut turns = 0..100;
        loop {
            assert!(turns.next().is_some(), "all that was there is sealed");
            engine.turn().await.unwrap();
            let segments = SealedSegments::sealed(&*engine, "clicks", Partition(0), Offset(0));
            assert!(segments.iter().all(|s| s.rows <= SEGMENT_ROWS), "{segments:?}");
            if segments.last().is_some_and(|segment| segment.range.end == end) {
                break;
            }
            tokio::task::yield_now().await;
        }
        platform.take(&Step::Archive).await;
        sealed.await.unwrap();
    });
}
