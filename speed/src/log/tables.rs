//! The tables of the log's file: `docs/log-format.md` says what is in them.

use redb::TableDefinition;

/// `"format"`: the version of the file.
pub(super) const META: TableDefinition<'static, &str, u32> = TableDefinition::new("meta");
/// (stream, partition) → (start, end).
pub(super) const PARTITIONS: TableDefinition<'static, (&str, u32), (u64, u64)> =
    TableDefinition::new("partitions");
/// (stream, partition, first offset) → stored batch.
pub(super) const EVENTS: TableDefinition<'static, (&str, u32, u64), &[u8]> = TableDefinition::new("events");
/// (stream, key) → what its request added.
pub(super) const REQUESTS: TableDefinition<'static, (&str, &str), &[u8]> = TableDefinition::new("requests");
/// (ingest time, stream, key): the requests in the order in which they are forgotten.
pub(super) const REQUEST_TIMES: TableDefinition<'static, (i64, &str, &str), ()> =
    TableDefinition::new("request_times");
/// (stream, id) → the ingest time of its event.
pub(super) const IDS: TableDefinition<'static, (&str, u128), i64> = TableDefinition::new("ids");
/// (stream, ingest time, number) → ids, in the order in which they are forgotten.
pub(super) const ID_TIMES: TableDefinition<'static, (&str, i64, u64), &[u8]> =
    TableDefinition::new("id_times");
