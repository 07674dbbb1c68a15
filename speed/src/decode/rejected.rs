//! The events that did not decode, each with its reason and its raw bytes.

use super::column::VarBytes;
use super::fault::Fault;
use arrow::array::RecordBatch;
use arrow::datatypes::{BinaryType, SchemaRef, Utf8Type};
use twofold_common::{Error, Result};

/// Rejections on their way into a batch.
#[derive(Debug)]
pub(crate) struct Rejections {
    reasons: VarBytes,
    raw: VarBytes,
    len: usize,
    overflow: bool,
}

impl Rejections {
    pub(crate) fn new() -> Self {
        Self { reasons: VarBytes::new(0), raw: VarBytes::new(0), len: 0, overflow: false }
    }

    pub(crate) fn push(&mut self, fault: &Fault, raw: &[u8]) {
        let reason = self.reasons.push(fault.to_string().as_bytes());
        let raw = self.raw.push(raw);
        self.overflow |= reason.is_err() || raw.is_err();
        self.len += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The rejections as a batch of `reason` and `raw`; there are none afterwards.
    pub(crate) fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        if self.overflow {
            let message = "more than 2 GiB of rejected events at once: send them in smaller pieces";
            return Err(Error::Invalid(message.to_string()));
        }
        self.len = 0;
        let columns = vec![self.reasons.finish::<Utf8Type>(None)?, self.raw.finish::<BinaryType>(None)?];
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}
