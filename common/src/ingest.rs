//! One request of events, and its receipt.
//!
//! ```text
//! accepted + rejected + duplicates = the events of the request
//! ```
//!
//! A producer that may send a request again, because it did not get the answer, gives it an [`IdempotencyKey`]. For
//! as long as the key is remembered, the same request adds nothing and gets the same receipt; another request of
//! that key is a conflict. Without a key, a request that is sent twice goes in twice.

use crate::error::{Error, Result};
use crate::offset::{OffsetRange, Partition};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The header of HTTP requests that carries the key.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// How long keys are remembered unless `twofold.toml` says otherwise.
pub const REMEMBER_KEYS: Duration = Duration::from_secs(24 * 3600);

/// Events of one stream, as a producer sends them.
#[derive(Debug, Clone)]
pub struct IngestRequest {
    /// The stream.
    pub stream: String,
    /// A MIME type: how the events are written in the body.
    pub format: String,
    /// What makes a repetition of this request known as one.
    pub key: Option<IdempotencyKey>,
    /// The events.
    pub body: Bytes,
}

impl IngestRequest {
    /// A request without a key.
    pub fn new(stream: impl Into<String>, format: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { stream: stream.into(), format: format.into(), key: None, body: body.into() }
    }

    /// The same with a key.
    pub fn with_key(mut self, key: Option<IdempotencyKey>) -> Self {
        self.key = key;
        self
    }
}

/// A name that a producer gives to one request to a stream: 1 to 255 visible ASCII characters, compared as they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// How many characters a key has at most.
    pub const MAX: usize = 255;

    /// The key that `text` is.
    ///
    /// # Errors
    /// `Invalid` if it is empty, longer than [`MAX`](Self::MAX), or not of visible ASCII characters.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.is_empty() || text.len() > Self::MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::Invalid(format!(
                "Idempotency-Key: expected 1 to {} visible ASCII characters, found {} bytes",
                Self::MAX,
                text.len()
            )));
        }
        Ok(Self(text))
    }

    /// The key that a header's value is.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn from_header(value: &[u8]) -> Result<Self> {
        Self::new(String::from_utf8_lossy(value).trim())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The answer to a request: it is given after all of it is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestReceipt {
    /// How many events went in.
    pub accepted: u64,
    /// How many were rejected and kept as raw bytes.
    pub rejected: u64,
    /// How many were left out because the stream had taken in an event of the same id.
    #[serde(default)]
    pub duplicates: u64,
    /// Where the accepted ones sit.
    pub offsets: Vec<PartitionRange>,
    /// The first distinct reasons of rejection.
    pub reasons: Vec<String>,
}

impl IngestReceipt {
    /// How many different reasons a receipt tells.
    pub const REASONS: usize = 10;

    /// The receipt for this and a later part of the same input.
    pub fn and(mut self, later: IngestReceipt) -> IngestReceipt {
        self.accepted += later.accepted;
        self.rejected += later.rejected;
        self.duplicates += later.duplicates;
        self.offsets.extend(later.offsets);
        for reason in later.reasons {
            if self.reasons.len() < Self::REASONS && !self.reasons.contains(&reason) {
                self.reasons.push(reason);
            }
        }
        self
    }
}

/// A range of offsets of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRange {
    /// The partition.
    pub partition: Partition,
    /// The range.
    #[serde(flatten)]
    pub range: OffsetRange,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        assert_eq!(IdempotencyKey::from_header(b" a-1 ").unwrap().as_str(), "a-1");
        assert!(IdempotencyKey::new("x".repeat(255)).is_ok());
        for bad in ["".to_string(), "x".repeat(256), "a b".into(), "ü".into(), "a\n".into()] {
            assert_eq!(IdempotencyKey::new(bad.clone()).unwrap_err().kind(), Kind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn a_receipt_of_a_server_that_knows_no_duplicates_is_read() {
        let old = r#"{"accepted":1,"rejected":0,"offsets":[],"reasons":[]}"#;
        assert_eq!(serde_json::from_str::<IngestReceipt>(old).unwrap().duplicates, 0);
    }
}
