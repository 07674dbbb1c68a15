//! The log: the durable tail of each stream, embedded in one file, or in memory for tests.
//!
//! The contract is [`twofold_common::Log`]; [`conformance()`] is that contract as a test, and every
//! implementation runs it.

mod conformance;
mod embedded;
mod failure;
mod file;
mod ids;
mod memory;
mod requests;
mod stored;
mod tables;
mod tail;
mod trouble;
mod writer;

pub use conformance::conformance;
pub use embedded::EmbeddedLog;
pub use memory::MemoryLog;

use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use twofold_common::{Append, Error, LogBounds, Partition, Result, StreamDef};

/// The streams that a log was opened for.
#[derive(Debug)]
struct Declared(BTreeMap<String, DeclaredStream>);

#[derive(Debug)]
struct DeclaredStream {
    schema: SchemaRef,
    partitions: u32,
    /// The place of the column of ids, and how long they are remembered, in nanoseconds.
    ids: Option<(usize, i64)>,
}

impl Declared {
    fn new(streams: &[StreamDef]) -> Self {
        let declared = |s: &StreamDef| DeclaredStream {
            schema: s.schema.clone(),
            partitions: s.partitions,
            ids: s.deduplicate.as_ref().and_then(|d| {
                let within = i64::try_from(d.within.as_nanos()).unwrap_or(i64::MAX);
                Some((s.schema.index_of(&d.column).ok()?, within))
            }),
        };
        Self(streams.iter().map(|s| (s.name.clone(), declared(s))).collect())
    }

    fn ids(&self, stream: &str) -> Option<(usize, i64)> {
        self.0.get(stream)?.ids
    }

    /// Checks that the log may take `append` in.
    fn check(&self, append: &Append) -> Result<()> {
        let stream = &append.stream;
        let Some(DeclaredStream { schema, partitions, .. }) = self.0.get(stream) else {
            return Err(Error::NotFound(format!("the log has no stream {stream}")));
        };
        if append.partition.0 >= *partitions {
            let partition = append.partition;
            return Err(Error::NotFound(format!(
                "stream {stream} has {partitions} partitions, and no {partition}"
            )));
        }
        let found = append.rows.schema();
        let alike = |(a, b): (&arrow::datatypes::FieldRef, &arrow::datatypes::FieldRef)| {
            a.name() == b.name() && a.data_type() == b.data_type()
        };
        if found.fields().len() != schema.fields().len()
            || !found.fields().iter().zip(schema.fields()).all(alike)
        {
            let message = format!("an append to stream {stream} has the columns {found}, expected {schema}");
            return Err(Error::Invalid(message));
        }
        Ok(())
    }
}

/// The partitions that a log holds, by stream and number.
type Partitions = BTreeMap<String, Vec<LogBounds>>;

fn find_bounds(partitions: &Partitions, stream: &str, partition: Partition) -> Result<LogBounds> {
    let found = partitions.get(stream).and_then(|all| all.get(partition.0 as usize));
    found.copied().ok_or_else(|| no_partition(stream, partition))
}

fn no_partition(stream: &str, partition: Partition) -> Error {
    Error::NotFound(format!("the log has no partition {partition} of stream {stream}"))
}

fn trimmed(stream: &str, partition: Partition, start: u64, from: u64) -> Error {
    Error::NotFound(format!(
        "stream {stream}, partition {partition}: the log starts at offset {start}, and {from} was trimmed: read the archive"
    ))
}
