//! Finds damage in what is stored, and mends what can be made again.
//!
//! | damaged | mended |
//! | --- | --- |
//! | a segment whose events are still in the log | it is written again from there |
//! | any other segment | not at all: answers that need it refuse, until the file is restored from a backup |
//! | a state of a batch view | the next batch run folds the view again from the archive |
//! | a batch of the log below the archive's end | it is trimmed: the archive has the events |
//! | any other batch of the log | not at all: restore the log from a backup |
//!
//! What is damaged is moved to `quarantine/` of the store, never deleted. Manifests are not mended: one that is damaged
//! is an error. It is for one process at a time, the one that owns the log.

use crate::archiver::events_of;
use std::fmt;
use std::sync::Arc;
use twofold_common::{
    Archive, BatchViews, Catalog, Kind, Log, NewSegment, Offset, Partition, Result, Segment, StateFile,
    StreamDef, View,
};

/// Events of the log that are checked at once.
const ROWS: usize = 65_536;

/// What looks for damage.
#[derive(Debug)]
pub struct Repair {
    /// The project.
    pub catalog: Arc<Catalog>,
    /// Its log.
    pub log: Arc<dyn Log>,
    /// Its archive.
    pub archive: Archive,
    /// Its batch views.
    pub batch_views: BatchViews,
}

/// Something that is not as it was written.
#[derive(Debug, Clone)]
pub struct Damage {
    what: What,
    /// What is wrong, with the file.
    pub reason: String,
    /// What can be done about it.
    pub remedy: Remedy,
}

/// How damage is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Written again from the log.
    FromLog,
    /// Folded again by the next batch run.
    NextBatch,
    /// Let go of, since the archive has it.
    FromArchive,
    /// Not at all: only a backup has it.
    Backup,
}

#[derive(Debug, Clone)]
enum What {
    Segment { stream: StreamDef, partition: Partition, segment: Box<Segment> },
    State { view: String, file: StateFile },
    Log { stream: String, partition: Partition, below: Offset },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Segment { stream, partition, segment } => {
                write!(f, "stream {}, partition {partition}, segment {}", stream.name, segment.range)
            }
            What::State { view, .. } => write!(f, "batch view of {view}"),
            What::Log { stream, partition, .. } => write!(f, "log of stream {stream}, partition {partition}"),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Remedy::FromLog => "is written again from the log",
            Remedy::NextBatch => "is folded again by the next batch run",
            Remedy::FromArchive => "is trimmed: the archive has it",
            Remedy::Backup => "restore it from a backup: there is no other copy",
        })
    }
}

impl Repair {
    /// Everything that is not as it was written. Reads all that is stored, and changes nothing.
    ///
    /// # Errors
    /// Those of log and store, other than damage; `Corrupt` for a damaged manifest.
    pub async fn find(&self) -> Result<Vec<Damage>> {
        let mut found = Vec::new();
        for stream in self.catalog.streams().values() {
            let Some(manifest) = self.archive.manifest(&stream.name).await? else { continue };
            for partition in stream.partitions() {
                let start = self.log.bounds(&stream.name, partition).await?.start;
                for segment in manifest.body.segments.get(&partition).into_iter().flatten() {
                    if let Some(reason) = damage(self.archive.verify(segment).await)? {
                        let in_log = start <= segment.range.start;
                        let remedy = if in_log { Remedy::FromLog } else { Remedy::Backup };
                        let (stream, segment) = (stream.clone(), Box::new(segment.clone()));
                        found.push(Damage {
                            what: What::Segment { stream, partition, segment },
                            reason,
                            remedy,
                        });
                    }
                }
                found.extend(self.in_log(stream, partition, manifest.body.end(partition)).await?);
            }
        }
        for view in self.catalog.views().values() {
            found.extend(self.in_batch_view(view).await?);
        }
        Ok(found)
    }

    async fn in_log(
        &self,
        stream: &StreamDef,
        partition: Partition,
        archived: Offset,
    ) -> Result<Option<Damage>> {
        let bounds = self.log.bounds(&stream.name, partition).await?;
        let mut at = bounds.start;
        while at < bounds.end {
            let read = self.log.read(&stream.name, partition, at, ROWS).await;
            let end = read.as_ref().map_or(at, |chunk| chunk.range.end);
            if let Some(reason) = damage(read.map(drop))? {
                // Whatever lies below the archive's end is there too.
                let rest = self.log.read(&stream.name, partition, archived, 1).await;
                let is_archived = at < archived && damage(rest.map(drop))?.is_none();
                let remedy = if is_archived { Remedy::FromArchive } else { Remedy::Backup };
                let what = What::Log { stream: stream.name.clone(), partition, below: archived };
                return Ok(Some(Damage { what, reason, remedy }));
            }
            if end <= at {
                break;
            }
            at = end;
        }
        Ok(None)
    }

    async fn in_batch_view(&self, view: &View) -> Result<Vec<Damage>> {
        let latest = self.batch_views.latest(view.name(), &view.fingerprint().to_string()).await?;
        let mut found = Vec::new();
        for file in latest.into_iter().flat_map(|manifest| manifest.body.cuts).flatten() {
            if let Some(reason) = damage(self.batch_views.verify(&file).await)? {
                let what = What::State { view: view.name().to_string(), file };
                found.push(Damage { what, reason, remedy: Remedy::NextBatch });
            }
        }
        Ok(found)
    }

    /// Mends what can be mended here, and moves what is damaged out of the way.
    ///
    /// # Errors
    /// Those of log and store. What was mended before stays so.
    pub async fn mend(&self, found: &[Damage]) -> Result<()> {
        // Segments first: what is trimmed cannot be written again.
        for damage in found {
            match &damage.what {
                What::Segment { stream, partition, segment } => {
                    self.archive.set_aside(segment).await?;
                    if damage.remedy == Remedy::FromLog {
                        self.write_again(stream, *partition, segment).await?;
                    }
                }
                What::State { file, .. } => self.batch_views.set_aside(file).await?,
                What::Log { .. } => {}
            }
        }
        for damage in found.iter().filter(|damage| damage.remedy == Remedy::FromArchive) {
            if let What::Log { stream, partition, below } = &damage.what {
                self.log.trim(stream, *partition, *below).await?;
            }
        }
        Ok(())
    }

    async fn write_again(&self, stream: &StreamDef, partition: Partition, lost: &Segment) -> Result<()> {
        let batches = events_of(self.log.as_ref(), &stream.name, partition, lost.range).await?;
        let new = NewSegment {
            partition,
            range: lost.range,
            schema: stream.event_schema(),
            batches,
            watermark: lost.watermark,
            states: lost.states.clone(),
        };
        let segment = self.archive.write_segment(&stream.name, new).await?;
        if segment.path == lost.path {
            return Ok(());
        }
        let version = self.archive.manifest(&stream.name).await?.map_or(0, |manifest| manifest.version);
        self.archive.replace(&stream.name, version, partition, segment).await.map(drop)
    }
}

/// What is damaged, if that is the error.
fn damage(checked: Result<()>) -> Result<Option<String>> {
    match checked {
        Ok(()) => Ok(None),
        Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::NotFound) => Ok(Some(e.to_string())),
        Err(e) => Err(e),
    }
}
