//! How many values each group has had.

use arrow::array::{Array, ArrayRef, UInt64Array};
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;
use std::sync::Arc;

/// One count for each group.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(Vec<u64>);

impl Counts {
    pub(super) fn resize(&mut self, groups: usize) {
        self.0.resize(groups, 0);
    }

    #[inline]
    pub(super) fn add_one(&mut self, group: usize) {
        self.0[group] += 1;
    }

    /// Adds a column of stored counts.
    ///
    /// # Errors
    ///
    /// If one is null, or a count would pass 2^64: then the state is damaged.
    pub(super) fn merge(&mut self, stored: &UInt64Array, groups: &[usize]) -> Result<()> {
        for (row, &group) in groups.iter().enumerate() {
            let count = stored.is_valid(row).then(|| self.0[group].checked_add(stored.value(row))).flatten();
            self.0[group] = count.ok_or_else(|| {
                exec_datafusion_err!("the stored state of an aggregate is damaged: no count of its values")
            })?;
        }
        Ok(())
    }

    pub(super) fn take(&mut self, emit_to: EmitTo) -> Vec<u64> {
        emit_to.take_needed(&mut self.0)
    }

    pub(super) fn store(&mut self, emit_to: EmitTo) -> ArrayRef {
        Arc::new(UInt64Array::from(self.take(emit_to)))
    }

    pub(super) fn size(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }
}
