//! The tables of the log's file: `docs/log-format.md` says what is in them.

use redb::TableDefinition;

/// `"format"`: the version of the file.
pub(super) const META: TableDefinition<'static, &str, u32> = TableDefinition::new("meta");
/// (stream, partition) → (start, end).
pub(super) const PARTITIONS: TableDefinition<'static, (&str, u32), (u64, u64)> =
    TableDefinition::new("partitions");
/// (stream, partition, first offset) → stored batch.
pub(super) const EVENTS: TableDefinition<'static, (&str, u32, u64), &[u8]> = TableDefinition::new("events");
