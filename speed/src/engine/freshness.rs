//! Freshness: which of the acknowledged events are in an answer.
//!
//! ```text
//! staleness(answer) = when it was asked for - when the oldest event was taken in that had been acknowledged by then
//!                     and is not in the answer                                        (0 if there is none)
//! ```

use super::held::Place;
use super::{Engine, Ordering};
use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use twofold_common::stream::INGEST_TIME;
use twofold_common::{Offset, Result, SnapshotRequest};

/// How long an answer waits for what was acknowledged before it.
const FRESH_WITHIN: Duration = Duration::from_secs(5);

impl Engine {
    /// Waits, if the loop runs, until the answer may be as stale as it is then: without a bound, until all that is in
    /// the log now is folded. How stale it would be if it is not waited for any longer, and that is too much.
    pub(super) async fn wait_until_fresh(&self, request: &SnapshotRequest) -> Result<Option<Duration>> {
        let asked = (self.clock)();
        let ends = self.ends(request).await?;
        let running = self.running.load(Ordering::SeqCst);
        let started = Instant::now();
        let mut progress = self.progress.subscribe();
        loop {
            progress.borrow_and_update();
            let stale = match request.max_staleness {
                Some(max) => Some(self.staleness(&ends, asked).await?).filter(|stale| *stale > max),
                None if running && !self.is_folded_to(&ends) => Some(Duration::ZERO),
                None => None,
            };
            let Some(stale) = stale else { return Ok(None) };
            self.awaited.notify_one();
            let left = FRESH_WITHIN.saturating_sub(started.elapsed());
            if !running || timeout(left, progress.changed()).await.is_err() {
                // Without a bound the answer is what there is: its coverage says so.
                return Ok(request.max_staleness.map(|_| stale));
            }
        }
    }

    /// Where the log ends now, in each partition that an answer rests on.
    async fn ends(&self, request: &SnapshotRequest) -> Result<Vec<(Place, Offset)>> {
        let of_views = request.views.iter().flat_map(|v| v.from.keys());
        let of_streams = request.streams.iter().map(|s| &s.stream);
        let timed = self.catalog.streams().values().filter(|s| request.late_events && s.watermark.is_some());
        let mut ends = Vec::new();
        for stream in of_views.chain(of_streams).chain(timed.map(|s| &s.name)) {
            for partition in self.catalog.stream(stream)?.partitions() {
                ends.push(((stream.clone(), partition), self.log.bounds(stream, partition).await?.end));
            }
        }
        Ok(ends)
    }

    fn is_folded_to(&self, ends: &[(Place, Offset)]) -> bool {
        let held = self.read();
        ends.iter().all(|(place, end)| held.folded(place) >= *end)
    }

    async fn staleness(&self, ends: &[(Place, Offset)], asked: i64) -> Result<Duration> {
        let mut oldest = asked;
        for (place, end) in ends {
            let folded = self.read().folded(place);
            if folded >= *end {
                continue;
            }
            let chunk = self.log.read(&place.0, place.1, folded, 1).await?;
            let taken_in = chunk.batches.first().and_then(|batch| batch.column_by_name(INGEST_TIME));
            if let Some(times) =
                taken_in.and_then(|times| times.as_primitive_opt::<TimestampNanosecondType>())
            {
                oldest = times.values().first().map_or(oldest, |at| oldest.min(*at));
            }
        }
        Ok(Duration::from_nanos(u64::try_from(asked.saturating_sub(oldest)).unwrap_or(0)))
    }
}
