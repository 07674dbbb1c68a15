//! The exact sums of many groups: one column of an aggregate's state.

use super::number::Exact;
use arrow::array::{Array, ArrayRef, BinaryArray, BinaryBuilder};
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;
use std::sync::Arc;

/// One exact sum for each group.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    sums: Vec<Exact>,
    /// Bytes that the sums have on the heap beside this vector.
    heap: usize,
}

impl Sums {
    pub(super) fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, Exact::default());
    }

    #[inline]
    pub(super) fn add_f64(&mut self, group: usize, value: f64) {
        self.heap += self.sums[group].add_f64(value);
    }

    #[inline]
    pub(super) fn add_product(&mut self, group: usize, x: f64, y: f64) {
        self.heap += self.sums[group].add_product(x, y);
    }

    #[inline]
    pub(super) fn add_scaled(&mut self, group: usize, mantissa: i128, exponent: i32) {
        self.heap += self.sums[group].add_scaled(mantissa, exponent);
    }

    /// Adds a column of stored sums; null is the sum of nothing.
    pub(super) fn merge(&mut self, stored: &BinaryArray, groups: &[usize]) -> Result<()> {
        for (row, &group) in groups.iter().enumerate() {
            if stored.is_valid(row) {
                self.heap += self.sums[group].merge(stored.value(row))?;
            }
        }
        Ok(())
    }

    pub(super) fn take(&mut self, emit_to: EmitTo) -> Vec<Exact> {
        let taken = emit_to.take_needed(&mut self.sums);
        self.heap -= taken.iter().map(Exact::heap).sum::<usize>();
        taken
    }

    /// The sums as they are stored; null is the sum of nothing.
    pub(super) fn store(&mut self, emit_to: EmitTo) -> ArrayRef {
        let sums = self.take(emit_to);
        let mut column = BinaryBuilder::with_capacity(sums.len(), 16 * sums.len());
        let mut bytes = Vec::new();
        for sum in &sums {
            bytes.clear();
            sum.encode(&mut bytes);
            column.append_option(sum.seen().then_some(&bytes));
        }
        Arc::new(column.finish())
    }

    pub(super) fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Exact>() + self.heap
    }
}
