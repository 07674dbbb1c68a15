//! The archive: the master dataset, immutable Parquet files of one segment each, and the manifests that name them.
//!
//! ```text
//! archive/<stream>/manifest/…                                          see [`Manifests`]
//! archive/<stream>/<partition>/<start>-<end>-<digest>.parquet          offsets with 20 digits, 16 of the digest
//! archive/<stream>/_rejected/…                                         the same for the stream <stream>_rejected
//! ```
//!
//! A file's name holds the digest of its bytes: no file is ever overwritten by other bytes, whoever writes. What the
//! newest manifest does not name is not part of the archive. Segments are written first and named after: a crash
//! between leaves a file for `gc`. Each segment is verified when it is written, and what is read of it when it is read.

use crate::error::{Error, Kind, Result};
use crate::failpoint::Failpoint;
use crate::manifest::{Manifests, Versioned};
use crate::off_thread::off_thread;
use crate::offset::{OffsetRange, Partition};
use crate::parquet_file::{self, ParquetFile};
use crate::store::{Store, path_part};
use crate::stream::{OFFSET, PARTITION, REJECTED_SUFFIX, StreamDef, adapt};
use crate::stream_manifest::{Evolution, Segment, StreamManifest, evolve};
use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Int32Type, Int64Type, Schema, SchemaRef};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The directory of all streams.
pub(crate) const ARCHIVE: &str = "archive";
/// What the envelope of a stream's manifest says.
pub(crate) const STREAM_MANIFEST: &str = "stream-manifest";
const DECLARE_ATTEMPTS: usize = 8;
/// What the name of a segment's copy ends with while it is being collected.
pub(crate) const ASIDE_SUFFIX: &str = ".gone";

/// The archive of a project.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Store,
}

/// What becomes a segment.
#[derive(Debug, Clone)]
pub struct NewSegment {
    /// The partition.
    pub partition: Partition,
    /// The offsets that it covers.
    pub range: OffsetRange,
    /// The event schema of the stream as declared today.
    pub schema: SchemaRef,
    /// The events by offset, of this event schema or an earlier one.
    pub batches: Vec<RecordBatch>,
    /// As in [`Segment`].
    pub watermark: Option<i64>,
    /// As in [`Segment`].
    pub states: BTreeMap<String, crate::Digest>,
}

impl Archive {
    /// The archive in `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// What is archived of `stream`; `None` if it was never declared.
    ///
    /// # Errors
    /// `Corrupt` if the manifest is damaged, is another stream's, or leaves offsets out.
    pub async fn manifest(&self, stream: &str) -> Result<Option<Versioned<StreamManifest>>> {
        let Some(found) = self.manifests(stream).latest().await? else { return Ok(None) };
        if found.body.stream != stream {
            let reason = format!("expected the manifest of {stream}, found that of {}", found.body.stream);
            return Err(Error::corrupt(stream_dir(stream), reason));
        }
        found.body.validate()?;
        Ok(Some(found))
    }

    /// Makes the archive know `def`, as a new stream or with new nullable columns. Idempotent.
    ///
    /// # Errors
    /// `Invalid` if the stream was declared otherwise before: see [`evolve`].
    pub async fn declare(&self, def: &StreamDef) -> Result<Versioned<StreamManifest>> {
        let mut tried = 0;
        loop {
            let (after, next) = match self.manifest(&def.name).await? {
                None => (None, StreamManifest::new(def)?),
                Some(known) => match evolve(&known.body, def)? {
                    Evolution::Same => return Ok(known),
                    Evolution::Gains(_) => {
                        let schema = Arc::clone(&def.schema);
                        (Some(known.version), StreamManifest { schema, ..known.body })
                    }
                },
            };
            match self.manifests(&def.name).publish(after, next).await {
                Err(e) if e.kind() == Kind::Conflict && tried < DECLARE_ATTEMPTS => tried += 1,
                answer => return answer,
            }
        }
    }

    /// Makes the archive know `def` as it stands now, for a stream of which there is no event: neither here nor in the
    /// log. A stream that has events is [declared](Self::declare) as ever.
    ///
    /// # Errors
    /// Those of [`declare`](Self::declare).
    pub async fn declare_empty(&self, def: &StreamDef) -> Result<Versioned<StreamManifest>> {
        match self.manifest(&def.name).await? {
            Some(known)
                if !known.body.holds_events() && !matches!(evolve(&known.body, def), Ok(Evolution::Same)) =>
            {
                self.manifests(&def.name).publish(Some(known.version), StreamManifest::new(def)?).await
            }
            _ => self.declare(def).await,
        }
    }

    /// Writes a segment's file; it is not part of the archive before [`append`](Self::append).
    ///
    /// # Errors
    /// `Internal` if an event lies outside the range or partition, or offsets do not grow.
    pub async fn write_segment(&self, stream: &str, new: NewSegment) -> Result<Segment> {
        let NewSegment { partition, range, schema, batches, watermark, states } = new;
        let batches = batches.iter().map(|batch| adapt(batch, &schema)).collect::<Result<Vec<_>>>()?;
        check_events(&batches, partition, range).map_err(|reason| {
            Error::Internal(format!("stream {stream}, partition {partition}, segment {range}: {reason}"))
        })?;
        let about = vec![
            ("twofold.file.kind", "segment".to_string()),
            ("twofold.file.stream", stream.to_string()),
            ("twofold.file.partition", partition.to_string()),
            ("twofold.file.range", range.to_string()),
        ];
        let (start, end, dir) = (range.start.0, range.end.0, stream_dir(stream));
        let file = parquet_file::write(&self.store, schema, batches, about, |digest| {
            format!("{dir}/{partition}/{start:020}-{end:020}-{}.parquet", digest.short())
        })
        .await?;
        Failpoint::SegmentWritten.reach();
        let ParquetFile { path, rows, bytes, digest, footer } = file;
        Ok(Segment { range, rows, bytes, digest, footer, path, watermark, states })
    }

    /// Makes `segments` part of the archive, all or none, by publishing the version after `after`.
    ///
    /// # Errors
    /// `Conflict` if somebody else published after `after`, or a segment does not start where its partition ends:
    /// read the manifest again and start from there. `NotFound` if the stream was never declared.
    pub async fn append(
        &self,
        stream: &str,
        after: u64,
        segments: Vec<(Partition, Segment)>,
    ) -> Result<Versioned<StreamManifest>> {
        let Some(current) = self.manifest(stream).await? else {
            return Err(Error::NotFound(format!("stream {stream} is not in the archive: declare it first")));
        };
        if current.version != after {
            return Err(Error::Conflict(format!(
                "stream {stream}: the manifest is at version {}, not {after}: read it again and decide anew",
                current.version
            )));
        }
        self.manifests(stream).publish(Some(after), current.body.extend(segments)?).await
    }

    /// Checks that a segment's file is there, and what it was when it was written.
    ///
    /// # Errors
    /// `Corrupt` if it is not; `NotFound` if it is gone.
    pub async fn verify(&self, segment: &Segment) -> Result<()> {
        parquet_file::verify(&self.store, &file_of(segment)).await
    }

    /// Moves the file of a damaged segment out of the way, to `quarantine/`.
    pub async fn set_aside(&self, segment: &Segment) -> Result<()> {
        self.store.set_aside(&segment.path).await
    }

    /// Names another file for the events of a segment, by publishing the version after `after`.
    ///
    /// # Errors
    /// `Conflict` if somebody else published after `after`; `Internal` if there is no segment of this range.
    pub async fn replace(
        &self,
        stream: &str,
        after: u64,
        partition: Partition,
        segment: Segment,
    ) -> Result<Versioned<StreamManifest>> {
        let Some(current) = self.manifest(stream).await? else {
            return Err(Error::NotFound(format!("stream {stream} is not in the archive")));
        };
        let mut next = current.body;
        let segments = next.segments.get_mut(&partition).into_iter().flatten();
        match segments.into_iter().find(|known| known.range == segment.range) {
            Some(known) if known.rows == segment.rows => *known = segment,
            _ => {
                return Err(Error::Internal(format!(
                    "stream {stream}, partition {partition}: the archive has no segment {} of {} events",
                    segment.range, segment.rows
                )));
            }
        }
        self.manifests(stream).publish(Some(after), next).await
    }

    /// The events of a segment by offset, as `schema` (the event schema wanted today) has them: all of its columns,
    /// or those that `columns` names, in the order of `schema`. Batches of 8192 rows; none if there are no events.
    ///
    /// # Errors
    /// `Corrupt` if the file is not what the manifest says; `NotFound` if it is gone; `Invalid` if `schema` does not
    /// have one of `columns`.
    pub async fn read_segment(
        &self,
        segment: &Segment,
        schema: &SchemaRef,
        columns: Option<&[String]>,
    ) -> Result<Vec<RecordBatch>> {
        let events = self.open_segment(segment, schema, columns).await?;
        off_thread(move || events.collect()).await
    }

    /// The same events, decoded batch by batch while they are read. What is decoded is verified before.
    ///
    /// # Errors
    /// Those of [`read_segment`](Self::read_segment): what is wrong with rows is told where they are read.
    pub async fn open_segment(
        &self,
        segment: &Segment,
        schema: &SchemaRef,
        columns: Option<&[String]>,
    ) -> Result<SegmentEvents> {
        let wanted = project(schema, columns)?;
        let path = segment.path.clone();
        let file = file_of(segment);
        let aside = ParquetFile { path: set_aside(&path), ..file.clone() };
        let open = |file| parquet_file::open(&self.store, file, Some(&wanted));
        // What was named while it was being collected is aside for a moment, or until the collector comes again.
        let rows = match open(&file).await {
            Err(e) if e.kind() == Kind::NotFound => match open(&aside).await {
                Err(e) if e.kind() == Kind::NotFound => open(&file).await,
                opened => opened,
            },
            opened => opened,
        }?;
        Ok(SegmentEvents { rows, wanted, path })
    }

    fn manifests(&self, stream: &str) -> Manifests<StreamManifest> {
        Manifests::new(self.store.clone(), format!("{}/manifest", stream_dir(stream)), STREAM_MANIFEST)
    }
}

/// The events of a segment by offset, decoded while they are read: see [`Archive::open_segment`].
pub struct SegmentEvents {
    rows: parquet_file::Rows,
    wanted: SchemaRef,
    path: String,
}

impl fmt::Debug for SegmentEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentEvents").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Iterator for SegmentEvents {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.rows.next()?;
        Some(batch.and_then(|batch| conform(&batch, &self.wanted)).map_err(|e| match e {
            Error::Corrupt { reason, .. } => Error::corrupt(&self.path, reason),
            e => e,
        }))
    }
}

/// Where the collector puts a segment while it looks whether a manifest names it after all.
pub(crate) fn set_aside(path: &str) -> String {
    format!("{path}{ASIDE_SUFFIX}")
}

fn file_of(segment: &Segment) -> ParquetFile {
    let Segment { rows, bytes, digest, footer, ref path, .. } = *segment;
    ParquetFile { path: path.clone(), rows, bytes, digest, footer }
}

/// Where a stream's files are; rejected events lie beside those of the stream that they were rejected from.
fn stream_dir(stream: &str) -> String {
    match stream.strip_suffix(REJECTED_SUFFIX).filter(|of| !of.is_empty()) {
        Some(of) => format!("{ARCHIVE}/{}/{REJECTED_SUFFIX}", path_part(of)),
        None => format!("{ARCHIVE}/{}", path_part(stream)),
    }
}

/// Whether the events lie in `partition` and `range`, with growing offsets; if not, why.
fn check_events(batches: &[RecordBatch], partition: Partition, range: OffsetRange) -> Result<(), String> {
    if range.is_empty() {
        return Err("the range is empty".to_string());
    }
    let mut next = range.start.0;
    for batch in batches {
        let column = |name| batch.column_by_name(name).ok_or(format!("column {name} is missing"));
        let partitions = column(PARTITION)?.as_primitive_opt::<Int32Type>().ok_or("_partition is not INT")?;
        let offsets = column(OFFSET)?.as_primitive_opt::<Int64Type>().ok_or("_offset is not BIGINT")?;
        if let Some(other) = partitions.values().iter().find(|p| u32::try_from(**p) != Ok(partition.0)) {
            return Err(format!("an event of partition {other}"));
        }
        for &offset in offsets.values() {
            match u64::try_from(offset) {
                Ok(offset) if (next..range.end.0).contains(&offset) => next = offset + 1,
                _ => {
                    return Err(format!(
                        "an event at offset {offset}, expected one in [{next}, {})",
                        range.end
                    ));
                }
            }
        }
    }
    Ok(())
}

/// The fields of `schema` that `columns` names, in the order of `schema`.
fn project(schema: &SchemaRef, columns: Option<&[String]>) -> Result<SchemaRef> {
    let Some(columns) = columns else { return Ok(Arc::clone(schema)) };
    if let Some(unknown) = columns.iter().find(|name| schema.field_with_name(name).is_err()) {
        return Err(Error::Invalid(format!("the stream has no column {unknown}")));
    }
    let fields = schema.fields().iter().filter(|field| columns.contains(field.name())).cloned();
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if !schema.fields().is_empty() {
        return adapt(batch, schema);
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), vec![], &rows)?)
}

#[cfg(test)]
#[path = "archive_tests.rs"]
pub(crate) mod tests;
