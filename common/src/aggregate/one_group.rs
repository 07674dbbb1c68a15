//! An accumulator for one group from one for many: what a query without `GROUP BY` asks for, and a window.

use arrow::array::{Array, ArrayRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use std::fmt::Debug;

/// Groups that can be there before a row has come.
pub(super) trait Groups: GroupsAccumulator + Debug + Sync {
    /// Makes room for this many groups.
    fn resize(&mut self, groups: usize);

    /// The value of the only group, which stays as it is: a window asks after each row.
    fn value(&mut self) -> Result<ArrayRef> {
        let state = self.state(EmitTo::All)?;
        self.merge_batch(&state, &[0], 1)?;
        let value = self.evaluate(EmitTo::All)?;
        self.merge_batch(&state, &[0], 1)?;
        Ok(value)
    }
}

/// All rows as one group.
#[derive(Debug)]
pub(super) struct OneGroup<G>(pub(super) G);

impl<G: Groups> Accumulator for OneGroup<G> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |v| v.len());
        self.0.update_batch(values, &vec![0; rows], None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.resize(1);
        ScalarValue::try_from_array(&self.0.value()?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.resize(1);
        self.0.state(EmitTo::All)?.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |v| v.len());
        self.0.merge_batch(states, &vec![0; rows], 1)
    }
}
