//! What answers about each view are made of now, without asking for one.

use crate::query::Serving;
use std::collections::BTreeMap;
use twofold_common::{Catalog, Coverage, Offset, OffsetRange, Result};

impl Serving {
    /// The coverage of each maintained view that is built: the newest batch view's, and what is folded above it.
    ///
    /// The views are looked at one after the other: they are not of one moment.
    pub(crate) async fn coverage_of_views(&self, catalog: &Catalog) -> Result<Vec<Coverage>> {
        let status = self.speed.status().await?;
        let mut coverage = Vec::new();
        for view in catalog.views().values() {
            let (name, fingerprint) = (view.name(), view.fingerprint());
            let is_built = status.views.iter().any(|known| {
                known.fingerprint == fingerprint && known.building.is_none() && known.failed.is_none()
            });
            if !is_built {
                continue;
            }
            let manifest = self.batch_views.latest(name, &fingerprint.to_string()).await?;
            let horizon = manifest.map(|manifest| manifest.body.horizon).unwrap_or_default();
            let streams = view.streams();
            for part in status.partitions.iter().filter(|part| streams.contains(&part.stream)) {
                let batch =
                    horizon.get(&part.stream).unwrap_or(&BTreeMap::new()).get(&part.partition).copied();
                let batch = batch.unwrap_or(Offset(0));
                // A batch view may be newer than the status.
                let end = Offset(part.folded.max(batch.0));
                let speed = [OffsetRange::new(batch, end)];
                let mut known = Coverage::assemble(name, &part.stream, part.partition, batch, &speed)?;
                (known.watermark, known.idle) = (part.watermark, part.idle);
                coverage.push(known);
            }
        }
        Ok(coverage)
    }
}
