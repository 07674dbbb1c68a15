//! What is counted of late events, in the state store.
//!
//! | table            | key                                                            | value                               |
//! | ---------------- | -------------------------------------------------------------- | ----------------------------------- |
//! | `late_positions` | fingerprint, stream, partition                                 | offset counted to, watermark there  |
//! | `late_events`    | …, whether there is a window, its end and start in nanoseconds | count, worst lateness in nanoseconds |
//!
//! A store without these tables is one in which nothing is counted yet.

use super::late::{LateChange, LateId, Tally, Window};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use twofold_common::Offset;

type Result<T> = std::result::Result<T, redb::Error>;

/// Fingerprint, stream, partition, whether there is a window, its end, its start.
type LateKey = (&'static str, &'static str, u32, bool, i64, i64);

const POSITIONS: TableDefinition<'_, (&str, &str, u32), (u64, Option<i64>)> =
    TableDefinition::new("late_positions");
const EVENTS: TableDefinition<'_, LateKey, (u64, i64)> = TableDefinition::new("late_events");

/// Makes the tables if they are not there.
pub(super) fn create(txn: &WriteTransaction) -> Result<()> {
    txn.open_table(POSITIONS)?;
    txn.open_table(EVENTS)?;
    Ok(())
}

/// Fingerprint (as it is stored), stream and partition of what is counted, and a change that leads there.
pub(super) type Stored = ((String, String, u32), LateChange);

/// Reads everything.
pub(super) fn load(txn: &ReadTransaction) -> Result<Vec<Stored>> {
    let mut stored = Vec::new();
    for entry in txn.open_table(POSITIONS)?.iter()? {
        let (key, value) = entry?;
        let (fingerprint, stream, partition) = key.value();
        let (to, watermark) = value.value();
        let id = (fingerprint.to_string(), stream.to_string(), partition);
        stored.push((id, LateChange::To(Offset(to), watermark)));
    }
    for entry in txn.open_table(EVENTS)?.iter()? {
        let (key, value) = entry?;
        let (fingerprint, stream, partition, windowed, end, start) = key.value();
        let (count, worst) = value.value();
        let id = (fingerprint.to_string(), stream.to_string(), partition);
        let window = windowed.then_some(Window { end, start });
        stored.push((id, LateChange::Tally(window, Tally { count, worst })));
    }
    Ok(stored)
}

/// Makes one change.
pub(super) fn write(txn: &WriteTransaction, id: &LateId, change: &LateChange) -> Result<()> {
    let fingerprint = id.fingerprint.to_string();
    let (stream, partition) = (id.stream.as_str(), id.partition.0);
    let key = |window: Option<Window>| {
        let Window { end, start } = window.unwrap_or(Window { end: 0, start: 0 });
        (fingerprint.as_str(), stream, partition, window.is_some(), end, start)
    };
    match change {
        LateChange::To(to, watermark) => {
            let key = (fingerprint.as_str(), stream, partition);
            txn.open_table(POSITIONS)?.insert(key, (to.0, *watermark))?;
        }
        LateChange::Tally(window, tally) => {
            txn.open_table(EVENTS)?.insert(key(*window), (tally.count, tally.worst))?;
        }
        LateChange::Drop(window) => {
            txn.open_table(EVENTS)?.remove(key(Some(*window)))?;
        }
    }
    Ok(())
}

/// Removes all of a view.
pub(super) fn drop_view(txn: &WriteTransaction, fingerprint: &str) -> Result<()> {
    txn.open_table(POSITIONS)?.retain(|key, _| key.0 != fingerprint)?;
    txn.open_table(EVENTS)?.retain(|key, _| key.0 != fingerprint)?;
    Ok(())
}
