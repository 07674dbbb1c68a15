//! How often each value of a group occurs.
//!
//! ```text
//! counts(A + B)[v] = counts(A)[v] + counts(B)[v]        nulls left out
//! ```
//!
//! Two values are the same if their [records](super::records) are: `-0` and `0` are two values, and so are two `NaN`
//! of different bits. A state is the list of values and counts, by value.

use super::function::damaged;
use super::records::{Lists, Records, fields, list_type, lists};
use super::weight::Weights;
use arrow::array::{Array, ArrayRef, AsArray, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Fields, UInt64Type};
use arrow::row::Rows;
use datafusion::common::internal_err;
use datafusion::error::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The values of one group, as records, and their counts, which are above 0.
#[derive(Debug, Default)]
pub(super) struct Counts {
    counts: BTreeMap<Box<[u8]>, u64>,
    bytes: usize,
}

impl Counts {
    fn add(&mut self, value: &[u8], count: u64) {
        if count == 0 {
            return;
        }
        if let Some(so_far) = self.counts.get_mut(value) {
            *so_far = so_far.saturating_add(count);
            return;
        }
        self.bytes += value.len() + 2 * size_of::<(Box<[u8]>, u64)>();
        self.counts.insert(value.into(), count);
    }

    /// The values in ascending order, each with its count.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], u64)> {
        self.counts.iter().map(|(value, &count)| (value.as_ref(), count))
    }

    /// How many values there are, each as often as it occurs.
    pub(super) fn total(&self) -> u128 {
        self.counts.values().map(|&count| u128::from(count)).sum()
    }

    /// The value of this rank, counting from 0 and each as often as it occurs.
    pub(super) fn at(&self, rank: u128) -> Option<&[u8]> {
        let mut below = 0;
        for (value, count) in self.iter() {
            below += u128::from(count);
            if rank < below {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn size(&self) -> usize {
        self.bytes
    }
}

/// How values are read from arguments and states.
#[derive(Debug)]
pub(super) struct Counting {
    name: String,
    weighted: bool,
    pub(super) values: Records,
    fields: Fields,
}

/// The values of a batch or of states, and how often each row counts.
#[derive(Debug)]
pub(super) struct Valued {
    rows: Rows,
    nulls: Option<NullBuffer>,
    weights: Weights,
}

impl Counting {
    pub(super) fn try_new(name: &str, data_type: &DataType, weighted: bool) -> Result<Self> {
        let values = Records::of_one(data_type)?;
        Ok(Self { name: name.to_string(), weighted, values, fields: Self::fields(data_type) })
    }

    fn fields(data_type: &DataType) -> Fields {
        fields([("value", data_type.clone()), ("count", DataType::UInt64)])
    }

    pub(super) fn state_type(data_type: &DataType) -> DataType {
        list_type(&Self::fields(data_type))
    }

    pub(super) fn batch(&self, arguments: &[ArrayRef]) -> Result<Valued> {
        match arguments {
            [values, weights, ..] if self.weighted => self.valued(values, Weights::of(weights)?),
            [values, ..] if !self.weighted => self.valued(values, Weights::One),
            _ => internal_err!("{} with {} arguments", self.name, arguments.len()),
        }
    }

    fn valued(&self, values: &ArrayRef, weights: Weights) -> Result<Valued> {
        let rows = self.values.encode(std::slice::from_ref(values))?;
        Ok(Valued { rows, nulls: values.logical_nulls(), weights })
    }

    pub(super) fn row(group: &mut Counts, batch: &Valued, row: usize) -> Result<()> {
        if batch.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
            group.add(batch.rows.row(row).data(), batch.weights.at(row)?);
        }
        Ok(())
    }

    pub(super) fn states(&self, column: &ArrayRef) -> Result<(Lists, Valued)> {
        let lists = Lists::open(&self.name, column, self.fields.len())?;
        let Some(counts) = lists.columns[1].as_primitive_opt::<UInt64Type>() else {
            let found = lists.columns[1].data_type();
            return Err(damaged(&self.name, format!("expected counts, found {found}")));
        };
        let weights = Weights::Unsigned(counts.clone());
        let valued = self.valued(&lists.columns[0], weights).map_err(|e| damaged(&self.name, e))?;
        Ok((lists, valued))
    }

    pub(super) fn merge(group: &mut Counts, (lists, valued): &(Lists, Valued), row: usize) -> Result<()> {
        lists.rows(row).try_for_each(|row| Self::row(group, valued, row))
    }

    pub(super) fn state(&self, groups: &[Counts]) -> Result<ArrayRef> {
        let all = || groups.iter().flat_map(Counts::iter);
        let mut columns = self.values.decode(all().map(|(value, _)| value))?;
        columns.push(Arc::new(UInt64Array::from_iter_values(all().map(|(_, count)| count))));
        lists(&self.fields, groups.iter().map(|group| group.counts.len()), columns, None)
    }
}
