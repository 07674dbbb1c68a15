//! Coverage: the offset ranges that an answer is made of.
//!
//! For each partition that an answer rests on, with `H` the horizon of the batch part:
//!
//! ```text
//! coverage = [0, H) + [H, a) + [a, b) + … = [0, end)        disjoint and without a gap
//! ```
//!
//! An answer for which this does not hold is not given.

use crate::error::{Error, Result};
use crate::finality::optional_time;
use crate::offset::{Offset, OffsetRange, Partition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One offset for each partition of one stream.
pub type Offsets = BTreeMap<Partition, Offset>;

/// One offset for each partition of each stream: the exclusive upper end of what a batch view covers.
pub type Horizon = BTreeMap<String, Offsets>;

/// What one partition gave to an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The view or stream that was read.
    pub relation: String,
    /// The stream whose events these are.
    pub stream: String,
    /// The partition.
    pub partition: Partition,
    /// What came from the batch view (of a stream: from the archive).
    #[serde(with = "pair")]
    pub batch: OffsetRange,
    /// What came from the speed layer.
    #[serde(with = "pair")]
    pub speed: OffsetRange,
    /// The watermark of the partition at the end of `speed`: nanoseconds since the epoch, UTC; RFC 3339 as text.
    #[serde(default, with = "optional_time")]
    pub watermark: Option<i64>,
    /// Whether the partition is idle, and so does not hold back the watermark of the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
}

impl Coverage {
    /// The coverage of one partition: batch up to `horizon`, then `speed`, which must follow without gap or overlap;
    /// without a watermark.
    ///
    /// # Errors
    /// `Internal` if the ranges have a gap or overlap: the coverage law is broken, and no answer may be given.
    pub fn assemble(
        relation: &str,
        stream: &str,
        partition: Partition,
        horizon: Offset,
        speed: &[OffsetRange],
    ) -> Result<Self> {
        let mut end = horizon;
        for range in speed {
            if range.start != end || range.end < range.start {
                let what = if range.start > end { "are missing" } else { "are there twice" };
                let (a, b) = (range.start.min(end), range.start.max(end));
                return Err(Error::Internal(format!(
                    "{relation}: stream {stream}, partition {partition}: offsets [{a}, {b}) {what}; no answer is \
                     given from them"
                )));
            }
            end = range.end;
        }
        Ok(Self {
            relation: relation.to_string(),
            stream: stream.to_string(),
            partition,
            batch: OffsetRange::new(Offset(0), horizon),
            speed: OffsetRange::new(horizon, end),
            watermark: None,
            idle: false,
        })
    }
}

/// A range as `[start, end]`, end exclusive.
mod pair {
    use super::{Offset, OffsetRange};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(range: &OffsetRange, s: S) -> Result<S::Ok, S::Error> {
        (range.start, range.end).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<OffsetRange, D::Error> {
        let (start, end) = <(Offset, Offset)>::deserialize(d)?;
        Ok(OffsetRange::new(start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(horizon: u64, speed: &[(u64, u64)]) -> Result<Coverage> {
        let speed: Vec<_> = speed.iter().map(|&(a, b)| OffsetRange::new(Offset(a), Offset(b))).collect();
        Coverage::assemble("v", "s", Partition(1), Offset(horizon), &speed)
    }

    #[test]
    fn ranges_that_meet_are_a_coverage() {
        let coverage = assemble(10, &[(10, 20), (20, 25)]).unwrap();
        assert_eq!(coverage.batch, OffsetRange::new(Offset(0), Offset(10)));
        assert_eq!(coverage.speed, OffsetRange::new(Offset(10), Offset(25)));
        assert!(assemble(10, &[]).unwrap().speed.is_empty());
    }

    #[test]
    fn a_gap_is_refused_with_its_offsets() {
        let message = assemble(10, &[(10, 20), (21, 25)]).unwrap_err().to_string();
        assert!(message.contains("v: stream s, partition 1: offsets [20, 21) are missing"), "{message}");
    }

    #[test]
    fn an_overlap_is_refused_with_its_offsets() {
        let message = assemble(10, &[(8, 20)]).unwrap_err().to_string();
        assert!(message.contains("offsets [8, 10) are there twice"), "{message}");
    }
}
