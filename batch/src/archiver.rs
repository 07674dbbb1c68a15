//! The archiver: sealed segments, from the log into the archive.
//!
//! ```text
//! events of the archive's segment = events of the log in its range
//! ```
//!
//! A segment's file is written and read back before the manifest names it, and the manifest is advanced by one
//! conditional put. Who loses that put was not the only owner: it starts again from the manifest. The archiver
//! trims nothing.

use arrow::array::RecordBatch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use twofold_common::stream::below;
use twofold_common::{
    Archive, Catalog, Error, Kind, Log, NewSegment, Offset, OffsetRange, Partition, Result, SealedSegment,
    SealedSegments, Segment, StreamDef,
};

/// How long the archiver waits before it tries again what failed, or looks again without being told.
const AGAIN: Duration = Duration::from_secs(1);

/// Brings what a [`SealedSegments`] has sealed into the archive.
#[derive(Debug)]
pub struct Archiver {
    catalog: Arc<Catalog>,
    log: Arc<dyn Log>,
    archive: Archive,
    sealed: Arc<dyn SealedSegments>,
}

impl Archiver {
    /// An archiver of a project's streams.
    pub fn new(
        catalog: Arc<Catalog>,
        log: Arc<dyn Log>,
        archive: Archive,
        sealed: Arc<dyn SealedSegments>,
    ) -> Self {
        Self { catalog, log, archive, sealed }
    }

    /// Archives what is sealed, whenever something is, until told to stop.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut sealing = self.sealed.sealing();
        while !*stop.borrow() {
            sealing.borrow_and_update();
            if let Err(e) = self.run_once().await {
                tracing::error!(error = %e, "segments could not be archived; the archiver tries again");
            }
            tokio::select! {
                _ = stop.changed() => {}
                _ = sealing.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// Archives what is sealed now: how many segments that were. A partition that fails holds up no other.
    ///
    /// # Errors
    /// The first of any partition: `Conflict` if another owner archived the same offsets in other segments; what log
    /// and archive fail with.
    pub async fn run_once(&self) -> Result<usize> {
        let (mut archived, mut failed) = (0, None);
        for stream in self.catalog.streams().values() {
            match self.archive_stream(stream, &mut failed).await {
                Ok(segments) => archived += segments,
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        failed.map_or(Ok(archived), Err)
    }

    async fn archive_stream(&self, stream: &StreamDef, failed: &mut Option<Error>) -> Result<usize> {
        let manifest = match self.archive.manifest(&stream.name).await? {
            Some(manifest) => manifest,
            None => self.archive.declare(stream).await?,
        };
        let mut new = Vec::new();
        for partition in stream.partitions() {
            if let Err(e) = self.write_all(stream, partition, manifest.body.end(partition), &mut new).await {
                failed.get_or_insert(e);
            }
        }
        let segments = new.len();
        if segments > 0 {
            self.archive.append(&stream.name, manifest.version, new).await?;
            tracing::info!(stream = stream.name, segments, "segments archived");
        }
        Ok(segments)
    }

    /// Writes the sealed segments of a partition from `end` on; those before one that fails are in `new`.
    async fn write_all(
        &self,
        stream: &StreamDef,
        partition: Partition,
        mut end: Offset,
        new: &mut Vec<(Partition, Segment)>,
    ) -> Result<()> {
        for sealed in self.sealed.sealed(&stream.name, partition, end) {
            if sealed.range.start != end {
                return Err(Error::Conflict(format!(
                    "stream {}, partition {partition}: the archive ends at offset {end}, but the sealed segment is {}: \
                     another owner archived other segments",
                    stream.name, sealed.range
                )));
            }
            end = sealed.range.end;
            new.push((partition, self.write(stream, partition, sealed).await?));
        }
        Ok(())
    }

    async fn write(
        &self,
        stream: &StreamDef,
        partition: Partition,
        sealed: SealedSegment,
    ) -> Result<Segment> {
        let batches = events_of(self.log.as_ref(), &stream.name, partition, sealed.range).await;
        let batches = batches.map_err(|e| match e.kind() {
            Kind::NotFound => Error::Conflict(format!("{e}: another owner has archived it")),
            _ => e,
        })?;
        let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        if rows != sealed.rows {
            return Err(Error::corrupt(
                format!("log of stream {}, partition {partition}", stream.name),
                format!("offsets {} hold {rows} events, but {} were folded", sealed.range, sealed.rows),
            ));
        }
        let new = NewSegment {
            partition,
            range: sealed.range,
            schema: stream.event_schema(),
            batches,
            watermark: sealed.watermark,
            states: sealed.states,
        };
        self.archive.write_segment(&stream.name, new).await
    }
}

/// The events of a range, from the log.
pub(crate) async fn events_of(
    log: &dyn Log,
    stream: &str,
    partition: Partition,
    range: OffsetRange,
) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let chunk = log.read(stream, partition, at, usize::MAX).await?;
        if chunk.range.is_empty() {
            break;
        }
        for batch in &chunk.batches {
            batches.push(below(batch, range.end)?);
        }
        at = chunk.range.end;
    }
    Ok(batches)
}
