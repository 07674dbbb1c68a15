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
        engine.turn().await.unwrap();
        let segments = SealedSegments::sealed(&*engine, "clicks", Partition(0), Offset(0));
        assert!(segments.iter().all(|s| s.rows <= SEGMENT_ROWS), "{segments:?}");
        let end = platform.log.bounds("clicks", Partition(0)).await.unwrap().end;
        assert_eq!(segments.last().unwrap().range.end, end, "all that was there is sealed");
        platform.take(&Step::Archive).await;
        sealed.await.unwrap();
    });
}
