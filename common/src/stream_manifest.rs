//! What the archive holds of a stream: its segments, and the shape that its events have.
//!
//! For each partition the segments cover the offsets from 0 on, without a gap and without an overlap:
//!
//! ```text
//! segments[p][0].start = 0      segments[p][i].end = segments[p][i + 1].start      end(p) = the last one's end
//! ```
//!
//! A manifest names everything that the one before it named: segments are only ever appended. A stream may gain
//! nullable columns; every other change of its shape is refused, since old segments could not be read as the new one.
//! All of this is decided here, over values; [`Archive`](crate::Archive) does the reading and writing.

use crate::chunks::Footer;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::offset::{Offset, OffsetRange, Partition};
use crate::stream::StreamDef;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A contiguous offset range of one partition, as an immutable Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The offsets that it covers.
    pub range: OffsetRange,
    /// How many events it holds; 0 where the range is only gaps.
    pub rows: u64,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// The digest of the file's bytes.
    pub digest: Digest,
    /// The end of the file; `None` in what earlier versions wrote, which can only be read whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footer: Option<Footer>,
    /// The file, relative to the store.
    pub path: String,
    /// The watermark of the partition at its end, in nanoseconds since the epoch, UTC; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<i64>,
    /// The speed layer's state digests over these events, by `<fingerprint>/<cut>`: the audit compares them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<String, Digest>,
}

/// What the archive holds of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamManifest {
    /// The stream.
    pub stream: String,
    /// The stream's own columns, without the meta columns.
    #[serde(with = "columns")]
    pub schema: SchemaRef,
    /// How many partitions it has.
    pub partitions: u32,
    /// The column whose value chooses the partition.
    pub partition_by: Option<String>,
    /// The segments of each partition, by offset.
    pub segments: BTreeMap<Partition, Vec<Segment>>,
}

/// What a declaration means for a stream that the archive knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evolution {
    /// The same columns.
    Same,
    /// These nullable columns are new; they are null in what is archived already.
    Gains(Vec<String>),
}

impl StreamManifest {
    /// Whether a segment was archived: then the stream's columns and partitions may not change as they like.
    pub fn holds_events(&self) -> bool {
        self.segments.values().any(|segments| !segments.is_empty())
    }

    /// The manifest of a stream of which nothing is archived yet.
    ///
    /// # Errors
    /// `Invalid` for a column whose type has no stable text form.
    pub fn new(def: &StreamDef) -> Result<Self> {
        for field in def.schema.fields() {
            check_storable(&def.name, field)?;
        }
        Ok(Self {
            stream: def.name.clone(),
            schema: Arc::clone(&def.schema),
            partitions: def.partitions,
            partition_by: def.partition_by.clone(),
            segments: BTreeMap::new(),
        })
    }

    /// One past the last archived offset of a partition.
    pub fn end(&self, partition: Partition) -> Offset {
        self.segments.get(&partition).and_then(|all| all.last()).map_or(Offset(0), |last| last.range.end)
    }

    /// Checks that each partition is covered from 0 on, without a gap and without an overlap.
    ///
    /// # Errors
    /// `Corrupt`, naming the offsets.
    pub fn validate(&self) -> Result<()> {
        let broken = |partition: &Partition, reason: String| {
            Error::corrupt(
                format!("manifest of stream {}", self.stream),
                format!("partition {partition}: {reason}"),
            )
        };
        for (partition, segments) in &self.segments {
            if partition.0 >= self.partitions {
                return Err(broken(partition, format!("the stream has {} partitions", self.partitions)));
            }
            let mut end = Offset(0);
            for Segment { range, rows, .. } in segments {
                if range.start > end {
                    let gap = OffsetRange::new(end, range.start);
                    return Err(broken(partition, format!("no segment covers the offsets {gap}")));
                }
                if range.start < end {
                    let overlap = format!("segment {range} overlaps the one before it, which ends at {end}");
                    return Err(broken(partition, overlap));
                }
                if range.is_empty() || *rows > range.end.0 - range.start.0 {
                    return Err(broken(partition, format!("segment {range} cannot hold {rows} events")));
                }
                end = range.end;
            }
        }
        Ok(())
    }

    /// This manifest with `new` segments appended, in the given order.
    ///
    /// # Errors
    /// `Conflict` if one does not start where its partition ends; `Internal` if one cannot be.
    pub fn extend(mut self, new: Vec<(Partition, Segment)>) -> Result<Self> {
        for (partition, segment) in new {
            let end = self.end(partition);
            if segment.range.start != end {
                return Err(Error::Conflict(format!(
                    "stream {}, partition {partition}: segment {} does not start at {end}, where the archive ends: \
                     read the manifest again and start from there",
                    self.stream, segment.range
                )));
            }
            self.segments.entry(partition).or_default().push(segment);
        }
        self.validate().map_err(|e| Error::Internal(format!("segments that cannot be appended: {e}")))?;
        Ok(self)
    }
}

/// What `def` means for the stream of `known`.
///
/// # Errors
/// `Invalid` if it is more than new nullable columns, with the way out.
pub fn evolve(known: &StreamManifest, def: &StreamDef) -> Result<Evolution> {
    let refuse = |what: String| {
        Err(Error::Invalid(format!(
            "stream {}: {what}: declare it as before, or give the new shape a new stream name",
            def.name
        )))
    };
    if known.partitions != def.partitions {
        return refuse(format!(
            "has {} partitions, and is now declared with {}",
            known.partitions, def.partitions
        ));
    }
    if known.partition_by != def.partition_by {
        let name = |by: &Option<String>| {
            by.clone().map_or("round robin".to_string(), |column| format!("by {column}"))
        };
        let (was, is) = (name(&known.partition_by), name(&def.partition_by));
        return refuse(format!("was partitioned {was}, and is now declared to be {is}"));
    }
    for was in known.schema.fields() {
        match def.schema.field_with_name(was.name()) {
            Err(_) => {
                return refuse(format!("column {} ({}) is no longer declared", was.name(), describe(was)));
            }
            Ok(is) if describe(is) != describe(was) => {
                let (was, is, name) = (describe(was), describe(is), was.name());
                return refuse(format!("column {name} was {was}, and is now declared {is}"));
            }
            Ok(_) => {}
        }
    }
    let mut gains = Vec::new();
    for field in def.schema.fields().iter().filter(|f| known.schema.field_with_name(f.name()).is_err()) {
        if !field.is_nullable() {
            let name = field.name();
            return refuse(format!(
                "the new column {name} is NOT NULL, but events without it are stored; let it be null"
            ));
        }
        check_storable(&def.name, field)?;
        gains.push(field.name().clone());
    }
    Ok(if gains.is_empty() { Evolution::Same } else { Evolution::Gains(gains) })
}

fn describe(field: &Field) -> String {
    format!("{}{}", field.data_type(), if field.is_nullable() { "" } else { " NOT NULL" })
}

fn check_storable(stream: &str, field: &Field) -> Result<()> {
    let data_type = field.data_type();
    if data_type.to_string().parse::<DataType>().ok().as_ref() == Some(data_type) {
        return Ok(());
    }
    let name = field.name();
    Err(Error::Invalid(format!("stream {stream}: column {name}: a stream cannot store the type {data_type}")))
}

/// Columns as JSON: name, Arrow type as Arrow writes and reads it as text, and whether it may be null.
mod columns {
    use super::{Arc, DataType, Deserialize, Field, Schema, SchemaRef, Serialize};
    use serde::{Deserializer, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    struct Column {
        name: String,
        r#type: String,
        nullable: bool,
    }

    pub(super) fn serialize<S: Serializer>(schema: &SchemaRef, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(schema.fields().iter().map(|field| Column {
            name: field.name().clone(),
            r#type: field.data_type().to_string(),
            nullable: field.is_nullable(),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<SchemaRef, D::Error> {
        let field = |Column { name, r#type, nullable }: Column| match r#type.parse::<DataType>() {
            Ok(data_type) => Ok(Field::new(name, data_type, nullable)),
            Err(e) => Err(D::Error::custom(format!("column {name}: unknown type {type}: {e}"))),
        };
        let fields = Vec::<Column>::deserialize(d)?.into_iter().map(field).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(Schema::new(fields)))
    }
}

#[cfg(test)]
#[path = "stream_manifest_tests.rs"]
pub(crate) mod tests;
