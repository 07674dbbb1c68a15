//! The requests that a log remembers: what was added under which key.
//!
//! ```text
//! remembered(key, now) = there is a request of that key, taken in less than `remember` before now
//! ```
//!
//! They are written in the transaction of their events, so that either both are durable or neither. A request that is
//! too old is not remembered, whether or not it was removed already; each transaction removes some of those, the oldest
//! first, and at most [`AT_ONCE`] and twice as many as it adds.
//!
//! A value is `format u8 | ingest time i64 | digest of the request [u8; 32] | digest [u8; 32] | JSON of Appended`
//! (little-endian); its own digest is over stream, key, what stands before it, and the JSON.

use super::failure::Worked;
use super::tables::{REQUEST_TIMES, REQUESTS};
use redb::{ReadableTable, WriteTransaction};
use twofold_common::{Appended, Digest, Error, Once, Result};

/// The format of stored requests that is written, and the newest that is read.
const FORMAT: u8 = 1;
const FACTS: usize = 1 + 8 + 32;
const HEADER: usize = FACTS + 32;
/// How many forgotten requests a transaction removes besides those that it makes room for.
const AT_ONCE: usize = 256;

/// A stored request.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    ingest_time: i64,
    digest: Digest,
    appended: Appended,
}

/// What the request of that key added, if it is remembered at `now`.
///
/// # Errors
/// `Conflict` (inside) if it was another request; `Corrupt` (inside) if what is stored is damaged.
pub(super) fn find(
    txn: &WriteTransaction,
    path: &str,
    once: &Once,
    now: i64,
    remember: i64,
) -> Worked<Result<Option<Appended>>> {
    let requests = txn.open_table(REQUESTS)?;
    let Some(value) = requests.get((once.stream.as_str(), once.key.as_str()))? else {
        return Ok(Ok(None));
    };
    let stored = match decode(once, value.value()) {
        Ok(stored) => stored,
        Err(reason) => {
            let reason = format!("stream {}, request with key {}: {reason}", once.stream, once.key);
            return Ok(Err(Error::corrupt(path, reason)));
        }
    };
    Ok(if now.saturating_sub(stored.ingest_time) >= remember {
        Ok(None)
    } else if stored.digest != once.digest {
        Err(conflict(once))
    } else {
        Ok(Some(stored.appended))
    })
}

/// Another request had this key.
pub(super) fn conflict(once: &Once) -> Error {
    Error::Conflict(format!(
        "the Idempotency-Key {} was used for another request to stream {}: give each request a key of its own, and send \
         a repetition as it was",
        once.key, once.stream
    ))
}

/// Remembers what a request added.
pub(super) fn keep(txn: &WriteTransaction, once: &Once, now: i64, appended: &Appended) -> Worked {
    let stored = Stored { ingest_time: now, digest: once.digest, appended: appended.clone() };
    let value = encode(once, &stored)?;
    let (stream, key) = (once.stream.as_str(), once.key.as_str());
    txn.open_table(REQUESTS)?.insert((stream, key), value.as_slice())?;
    txn.open_table(REQUEST_TIMES)?.insert((now, stream, key), ())?;
    Ok(())
}

/// Removes some of the requests that are not remembered at `now`; `added` is how many this transaction added.
pub(super) fn forget(txn: &WriteTransaction, now: i64, remember: i64, added: usize) -> Worked {
    let Some(until) = now.checked_sub(remember) else { return Ok(()) };
    let mut times = txn.open_table(REQUEST_TIMES)?;
    let mut old = Vec::new();
    for entry in times.range(..=(until, "\u{10ffff}", "\u{10ffff}"))?.take(AT_ONCE + 2 * added) {
        let (key, _) = entry?;
        let (time, stream, key) = key.value();
        old.push((time, stream.to_string(), key.to_string()));
    }
    let mut requests = txn.open_table(REQUESTS)?;
    for (time, stream, key) in old {
        let (stream, key) = (stream.as_str(), key.as_str());
        times.remove((time, stream, key))?;
        // A key that was used again since is kept.
        let stored = requests.get((stream, key))?.and_then(|value| ingest_time(value.value()));
        if stored == Some(time) {
            requests.remove((stream, key))?;
        }
    }
    Ok(())
}

fn ingest_time(value: &[u8]) -> Option<i64> {
    value.get(1..9).and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes)
}

fn encode(once: &Once, stored: &Stored) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(&stored.appended).map_err(|e| Error::Internal(e.to_string()))?;
    let mut value = Vec::with_capacity(HEADER + json.len());
    value.push(FORMAT);
    value.extend_from_slice(&stored.ingest_time.to_le_bytes());
    value.extend_from_slice(stored.digest.as_bytes());
    let check = check(once, &value, &json);
    value.extend_from_slice(check.as_bytes());
    value.extend_from_slice(&json);
    Ok(value)
}

fn decode(once: &Once, value: &[u8]) -> Result<Stored, String> {
    let Some((header, json)) = value.split_at_checked(HEADER) else {
        return Err(format!("expected a header of {HEADER} bytes, found {} bytes", value.len()));
    };
    if header[0] != FORMAT {
        let found = header[0];
        return Err(format!("format {found} of a newer version, expected {FORMAT}: upgrade this program"));
    }
    let (facts, digest) = header.split_at(FACTS);
    if check(once, facts, json).as_bytes() != digest {
        return Err("the bytes do not have the digest that was stored with them".into());
    }
    Ok(Stored {
        ingest_time: ingest_time(facts).ok_or("no ingest time")?,
        digest: Digest::from_bytes(&facts[9..]).ok_or("no digest of the request")?,
        appended: serde_json::from_slice(json).map_err(|e| e.to_string())?,
    })
}

fn check(once: &Once, facts: &[u8], json: &[u8]) -> Digest {
    Digest::of_parts([once.stream.as_bytes(), once.key.as_str().as_bytes(), facts, json])
}

#[cfg(test)]
mod tests {
    use super::*;
    use twofold_common::{IdempotencyKey, Offset, OffsetRange};

    #[test]
    fn every_flipped_byte_of_a_stored_request_is_noticed() {
        let once = |key: &str| Once {
            stream: "s".into(),
            key: IdempotencyKey::new(key).unwrap(),
            digest: Digest::of(b"body"),
        };
        let appended = Appended {
            ranges: vec![OffsetRange::new(Offset(3), Offset(5))],
            duplicates: vec![1],
            note: "note".into(),
        };
        let stored = Stored { ingest_time: 77, digest: once("k").digest, appended };
        let value = encode(&once("k"), &stored).unwrap();
        assert_eq!(decode(&once("k"), &value).unwrap(), stored);
        assert!(decode(&once("j"), &value).is_err(), "under another key");
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 0x40;
            assert!(decode(&once("k"), &damaged).is_err(), "byte {at}");
            assert!(decode(&once("k"), &value[..at]).is_err(), "cut at {at}");
        }
    }
}
