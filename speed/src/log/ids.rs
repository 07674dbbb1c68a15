//! The ids that a log remembers, of streams that declare `deduplicate_by`.
//!
//! ```text
//! an event is left out  <=>  an event of its stream and id was taken in less than `within` before it,
//!                            by ingest time, or stands ahead of it in its request
//! ```
//!
//! Ids are written in the transaction of their events. An id that is left out does not renew its time, and events whose
//! id is null are never left out. Ids are told apart by 128 bits of BLAKE3 (see `ids_of`), whatever their length.
//!
//! An id that is too old does not count, whether or not it was removed already. Each transaction removes some of those,
//! the oldest first: at most [`AT_ONCE`] and twice as many as it adds.

use super::failure::Worked;
use super::tables::{ID_TIMES, IDS};
use arrow::array::BooleanArray;
use redb::{ReadableTable, WriteTransaction};

/// How many forgotten ids a transaction removes besides those that it makes room for.
const AT_ONCE: usize = 4096;
/// How many ids stand together in the order of forgetting.
const TOGETHER: usize = 4096;
const ID_BYTES: usize = 16;

/// The ids of some rows: which of them are left is known only when they are written.
#[derive(Debug)]
pub(super) struct Ids {
    /// How long an id is remembered, in nanoseconds.
    pub(super) within: i64,
    /// The id of each row.
    pub(super) ids: Vec<Option<u128>>,
}

impl Ids {
    /// Which rows are no repetitions; their ids are remembered from now on. `None` if all are.
    pub(super) fn fresh(
        &self,
        txn: &WriteTransaction,
        stream: &str,
        now: i64,
    ) -> Worked<Option<BooleanArray>> {
        let mut known = txn.open_table(IDS)?;
        let (mut fresh, mut added) = (Vec::with_capacity(self.ids.len()), Vec::new());
        for id in &self.ids {
            let Some(id) = *id else {
                fresh.push(true);
                continue;
            };
            let before = known.get((stream, id))?.map(|time| time.value());
            let repeated = before.is_some_and(|time| now.saturating_sub(time) < self.within);
            if !repeated {
                known.insert((stream, id), now)?;
                added.push(id);
            }
            fresh.push(!repeated);
        }
        let mut times = txn.open_table(ID_TIMES)?;
        let last = times.range((stream, now, 0)..=(stream, now, u64::MAX))?.next_back().transpose()?;
        let first = last.map_or(0, |(key, _)| key.value().2 + 1);
        for (number, together) in (first..).zip(added.chunks(TOGETHER)) {
            let bytes: Vec<u8> = together.iter().flat_map(|id| id.to_le_bytes()).collect();
            times.insert((stream, now, number), bytes.as_slice())?;
        }
        drop(times);
        drop(known);
        forget(txn, stream, now.checked_sub(self.within), added.len())?;
        Ok((added.len() < self.ids.len() && fresh.contains(&false)).then(|| BooleanArray::from(fresh)))
    }
}

/// Removes some of the ids of a stream that were taken in at `until` or before.
pub(super) fn forget(txn: &WriteTransaction, stream: &str, until: Option<i64>, added: usize) -> Worked {
    let Some(until) = until else { return Ok(()) };
    let mut times = txn.open_table(ID_TIMES)?;
    let mut known = txn.open_table(IDS)?;
    let mut left = AT_ONCE + 2 * added;
    while left > 0 {
        let Some((time, number, ids)) = ({
            let oldest =
                times.range((stream, i64::MIN, 0)..=(stream, until, u64::MAX))?.next().transpose()?;
            oldest.map(|(key, value)| (key.value().1, key.value().2, value.value().to_vec()))
        }) else {
            return Ok(());
        };
        times.remove((stream, time, number))?;
        for id in ids.as_chunks::<ID_BYTES>().0 {
            let id = u128::from_le_bytes(*id);
            // An id that came again since is kept.
            let stored = known.get((stream, id))?.map(|time| time.value());
            if stored == Some(time) {
                known.remove((stream, id))?;
            }
        }
        left = left.saturating_sub(ids.len() / ID_BYTES + 1);
    }
    Ok(())
}

/// The streams of which ids are stored.
pub(super) fn streams(txn: &WriteTransaction) -> Worked<Vec<String>> {
    let times = txn.open_table(ID_TIMES)?;
    let mut found: Vec<String> = Vec::new();
    loop {
        let after = found.last().map_or_else(String::new, |last| format!("{last}\0"));
        let Some((key, _)) = times.range((after.as_str(), i64::MIN, 0)..)?.next().transpose()? else {
            return Ok(found);
        };
        found.push(key.value().0.to_string());
    }
}
