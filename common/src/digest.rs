//! Digests of stored bytes and of states: BLAKE3, 32 bytes, written as 64 hexadecimal digits.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// How much is gathered before it is hashed.
const GATHERED_BYTES: usize = 32 << 10;

/// A BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of several byte strings, each with its length, so that no two lists collide by concatenation.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = DigestOfParts::default();
        parts.into_iter().for_each(|part| digest.add(part));
        digest.finish()
    }

    /// A digest that is these bytes.
    pub(crate) const fn from_array(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A digest read from its raw bytes; `None` if there are not exactly 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A digest read from 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|h| Self(*h.as_bytes()))
    }

    /// The first 16 hexadecimal digits, for people and file names.
    pub fn short(&self) -> String {
        self.to_string()[..16].to_string()
    }
}

/// The digest of byte strings that come one by one: see [`Digest::of_parts`].
#[derive(Debug, Default)]
pub(crate) struct DigestOfParts {
    hasher: blake3::Hasher,
    /// What is not hashed yet: much at once is hashed many times as fast.
    gathered: Vec<u8>,
}

impl DigestOfParts {
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.gathered.extend_from_slice(&(part.len() as u64).to_le_bytes());
        if self.gathered.len() + part.len() < GATHERED_BYTES {
            self.gathered.extend_from_slice(part);
            return;
        }
        self.hasher.update(&self.gathered);
        self.gathered.clear();
        match part.len() {
            ..GATHERED_BYTES => self.gathered.extend_from_slice(part),
            _ => drop(self.hasher.update(part)),
        }
    }

    pub(crate) fn finish(mut self) -> Digest {
        self.hasher.update(&self.gathered);
        Digest(*self.hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Digest::from_hex(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a digest")))
    }
}
