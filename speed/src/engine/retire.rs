//! Retiring: letting go of what batch views cover. This is garbage collection: no answer changes by it, and a crash
//! between any two steps loses nothing.
//!
//! ```text
//! states below the horizon of the newest batch view    go after a grace period
//! log and segments below every view's states           go when they are archived
//! ```

use super::{Engine, Worker};
use tokio::time::Instant;
use twofold_common::{Failpoint, Result};

impl Engine {
    /// Lets go of states that batch views cover, and of log and segments that nobody needs.
    pub(super) async fn retire(&self, worker: &mut Worker) -> Result<()> {
        for view in self.views() {
            let fingerprint = view.fingerprint();
            let horizon = self.horizon(view.name(), fingerprint).await?;
            if horizon.is_empty() {
                continue;
            }
            let now = Instant::now();
            let seen = worker.horizons.entry(fingerprint).or_default();
            seen.see(&horizon, now);
            let over = seen.over(now, self.config.retire_grace).cloned().unwrap_or_default();
            let writes = {
                let held = self.read();
                let mut writes = Vec::new();
                for (stream, offsets) in &horizon {
                    for (partition, newest) in offsets {
                        let place = (stream.clone(), *partition);
                        let at = held.views.get(&fingerprint).and_then(|v| v.partitions.get(&place));
                        // A view that has not come to the horizon yet need not fold what batch already has.
                        let behind = at.is_some_and(|p| p.to < *newest).then_some(newest);
                        let over = over.get(stream).and_then(|offsets| offsets.get(partition));
                        if let Some(offset) = behind.or(over) {
                            let offset = held.floor(&place, *offset);
                            writes.extend(held.retire(fingerprint, &place, offset));
                        }
                    }
                }
                writes
            };
            let drops = !writes.is_empty();
            self.commit(writes).await?;
            if drops {
                Failpoint::StatesRetired.reach();
            }
        }
        self.trim().await
    }

    pub(super) async fn trim(&self) -> Result<()> {
        for stream in self.catalog.streams().keys() {
            for (partition, archived) in self.archived(stream).await? {
                let place = (stream.clone(), partition);
                let bounds = self.log.bounds(stream, partition).await?;
                self.fit(&place, bounds, &archived).await?;
                let (covered, writes) = {
                    let held = self.read();
                    let covered = held.covered(&place, archived.end());
                    (covered, held.forget_segments(&place, covered))
                };
                if covered > bounds.start {
                    self.log.trim(stream, partition, covered).await?;
                    Failpoint::LogTrimmed.reach();
                    tracing::info!(stream, partition = partition.0, below = covered.0, "log trimmed");
                }
                self.commit(writes).await?;
            }
        }
        Ok(())
    }
}
