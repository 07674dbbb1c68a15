//! The value of the first, last or n-th row of a group, in the order of the keys that are given with it.
//!
//! ```text
//! pick(value, key1, …, keym) = the value of the n-th row by (key1, …, keym, value)
//! ```
//!
//! Rows with equal keys follow one another by value, so the order is a function of the rows; with keys that are
//! unique, such as `_partition, _offset` at the end, it does not come to that. Floats are in total order. A state is
//! the list of the n first (or last) rows, in their order: what else there was can never be picked.

use super::function::{Function, arity, damaged, udaf};
use super::groups::Fold;
use super::records::{ASCENDING, Lists, RecordColumn, Records, list_type, lists};
use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::row::Rows;
use datafusion::common::{internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;
use std::sync::Arc;

/// Which row is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    First,
    Last,
    /// The n-th from 1, or from the end below 0.
    Nth(i64),
}

/// Which rows are no candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum LeftOut {
    Nothing,
    NullValues,
    /// Rows of which a key is null.
    NullKeys,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Pick {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) which: Which,
    /// One for each key.
    pub(super) options: Vec<SortOptions>,
    pub(super) left_out: LeftOut,
}

/// The value of the row that is `which` by its keys, which come after the value and are ordered by `options`.
///
/// With `ignore_nulls` rows without a value are left out. Null if there is no such row.
pub(crate) fn pick(
    name: impl Into<String>,
    which: Which,
    options: Vec<SortOptions>,
    ignore_nulls: bool,
) -> Arc<AggregateUDF> {
    let left_out = if ignore_nulls { LeftOut::NullValues } else { LeftOut::Nothing };
    Arc::new(udaf(Pick { name: name.into(), aliases: Vec::new(), which, options, left_out }))
}

impl Pick {
    /// How many rows are kept, and whether from the end.
    fn rows(&self) -> Result<(usize, bool)> {
        let (rows, last) = match self.which {
            Which::First => (1, false),
            Which::Last => (1, true),
            Which::Nth(n) => (n.unsigned_abs(), n < 0),
        };
        match usize::try_from(rows) {
            Ok(rows @ 1..) => Ok((rows, last)),
            _ => plan_err!("{}: expected n to be 1 or more, or -1 or less, found {rows}", self.name),
        }
    }
}

impl Function for Pick {
    type Fold = PickFold;

    fn name(&self) -> &str {
        &self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let arguments = 1 + self.options.len();
        let usage = format!("{} with a value and {} keys", self.name, self.options.len());
        arity(&self.name, types, arguments, arguments, &usage)?;
        types.iter().try_for_each(|t| Records::check(&self.name, t))?;
        Ok(types.to_vec())
    }

    fn result(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(value) => Ok(value.clone()),
            None => internal_err!("{} without an argument", self.name),
        }
    }

    fn state(&self, types: &[DataType]) -> Result<DataType> {
        Ok(list_type(&row_fields(types)))
    }

    fn fold(&self, call: &AccumulatorArgs<'_>) -> Result<PickFold> {
        let types = super::function::types(call.expr_fields);
        if types.len() != 1 + self.options.len() {
            return internal_err!("{} with {} arguments", self.name, types.len());
        }
        let keys = types[1..].iter().cloned().zip(self.options.iter().copied());
        let columns: Vec<RecordColumn> = keys.chain([(types[0].clone(), ASCENDING)]).collect();
        let (rows, last) = self.rows()?;
        Ok(PickFold {
            name: self.name.clone(),
            fields: row_fields(&types),
            records: Records::try_new(columns)?,
            rows,
            last,
            left_out: self.left_out,
        })
    }
}

/// The keys and then the value.
fn row_fields(types: &[DataType]) -> Fields {
    let keys = types.iter().skip(1).enumerate().map(|(i, t)| Field::new(format!("k{i}"), t.clone(), true));
    keys.chain(types.first().map(|t| Field::new("value", t.clone(), true))).collect()
}

/// The rows of a group that are or may yet be picked, as records, the first (or last) first.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    rows: Vec<Vec<u8>>,
    bytes: usize,
}

#[derive(Debug)]
pub(super) struct PickFold {
    name: String,
    fields: Fields,
    records: Records,
    rows: usize,
    last: bool,
    left_out: LeftOut,
}

/// Rows to choose from; those that are null here are no candidates.
#[derive(Debug)]
pub(super) struct Choice {
    rows: Rows,
    candidates: Option<NullBuffer>,
}

impl PickFold {
    /// Rows of these columns: the keys and then the value.
    fn choice(&self, columns: &[ArrayRef]) -> Result<Choice> {
        let Some((value, keys)) = columns.split_last() else { return internal_err!("no columns") };
        let candidates = match self.left_out {
            LeftOut::Nothing => None,
            LeftOut::NullValues => value.logical_nulls(),
            LeftOut::NullKeys => keys
                .iter()
                .fold(None, |all, key| NullBuffer::union(all.as_ref(), key.logical_nulls().as_ref())),
        };
        Ok(Choice { rows: self.records.encode(columns)?, candidates })
    }

    fn before(&self, a: &[u8], b: &[u8]) -> bool {
        if self.last { a > b } else { a < b }
    }

    fn add(&self, group: &mut Candidates, choice: &Choice, row: usize) {
        if choice.candidates.as_ref().is_some_and(|candidates| candidates.is_null(row)) {
            return;
        }
        let record = choice.rows.row(row).data();
        let full = group.rows.len() >= self.rows;
        if full && !group.rows.last().is_some_and(|last| self.before(record, last)) {
            return;
        }
        // The buffer of the row that leaves serves the one that comes.
        let mut kept = if full { group.rows.pop().unwrap_or_default() } else { Vec::new() };
        let before = if full { kept.capacity() } else { 0 };
        kept.clear();
        kept.extend_from_slice(record);
        group.bytes = group.bytes - before + kept.capacity();
        let place = group.rows.partition_point(|other| !self.before(record, other));
        group.rows.insert(place, kept);
    }
}

impl Fold for PickFold {
    type Group = Candidates;
    type Batch = Choice;
    type States = (Lists, Choice);

    fn batch(&self, arguments: &[ArrayRef]) -> Result<Choice> {
        let Some((value, keys)) = arguments.split_first() else {
            return internal_err!("{} without an argument", self.name);
        };
        self.choice(&[keys, std::slice::from_ref(value)].concat())
    }

    fn row(&self, group: &mut Candidates, batch: &Choice, row: usize) -> Result<()> {
        self.add(group, batch, row);
        Ok(())
    }

    fn states(&self, column: &ArrayRef) -> Result<(Lists, Choice)> {
        let lists = Lists::open(&self.name, column, self.fields.len())?;
        let choice = self.choice(&lists.columns).map_err(|e| damaged(&self.name, e))?;
        Ok((lists, choice))
    }

    fn merge(&self, group: &mut Candidates, (lists, choice): &(Lists, Choice), row: usize) -> Result<()> {
        lists.rows(row).for_each(|row| self.add(group, choice, row));
        Ok(())
    }

    fn state(&self, groups: &[Candidates]) -> Result<ArrayRef> {
        let columns = self.records.decode(groups.iter().flat_map(|g| &g.rows).map(Vec::as_slice))?;
        lists(&self.fields, groups.iter().map(|g| g.rows.len()), columns, None)
    }

    fn finish(&self, groups: &[Candidates]) -> Result<ArrayRef> {
        let picked: Vec<_> = groups.iter().map(|g| g.rows.get(self.rows - 1).map(Vec::as_slice)).collect();
        self.records.decode_some(&picked, self.fields.len() - 1)
    }

    fn size(group: &Candidates) -> usize {
        group.bytes + group.rows.capacity() * size_of::<Vec<u8>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::conformance::{Call, cases, query};
    use arrow::array::{AsArray, Float64Array, Int32Array, Int64Array, StringArray};
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    const DOWN: SortOptions = SortOptions { descending: true, nulls_first: false };

    fn picked(which: Which, ignore_nulls: bool) -> String {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("v", Arc::new(StringArray::from(vec![None, Some("a"), Some("b"), Some("c"), Some("d")]))),
            ("k", Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), Some(3), None]))),
        ];
        let pick = pick("pick_it", which, vec![ASCENDING], ignore_nulls);
        let rows = query("SELECT pick_it(v, k) FROM t", columns, &[pick]).unwrap();
        rows.column(0).as_string::<i32>().iter().next().flatten().unwrap_or("none").to_string()
    }

    #[test]
    fn the_row_that_is_asked_for_is_picked() {
        assert_eq!([picked(Which::First, false), picked(Which::First, true)], ["none", "a"]);
        assert_eq!(picked(Which::Last, false), "d");
        assert_eq!(
            [2, 4, 5, 6, -1, -2, -5, -6].map(|n| picked(Which::Nth(n), false)),
            ["a", "c", "d", "none", "d", "c", "none", "none"]
        );
        assert_eq!([picked(Which::Nth(-4), true), picked(Which::Nth(-5), true)], ["a", "none"]);
    }

    #[test]
    fn there_is_no_row_0() {
        let call = Call::new(
            pick("p", Which::Nth(0), vec![], false),
            vec![Int64Array::from(vec![1]).into()],
            vec![0],
        );
        assert!(call.accumulator().err().unwrap().to_string().contains("expected n to be 1 or more"));
    }

    #[test]
    fn a_state_column_that_is_none_is_refused() {
        let arguments = vec![Int64Array::from(vec![1]).into(), Int64Array::from(vec![1]).into()];
        let call = Call::new(pick("p", Which::First, vec![DOWN], false), arguments, vec![0]);
        let state: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let error = call.accumulator().unwrap().merge_batch(&[state], &[0], 1).unwrap_err().to_string();
        assert!(error.contains("state of p: expected lists of 2 columns, found Int64"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        #[test]
        fn it_is_what_sorting_gives_and_the_laws_hold(
            rows in proptest::collection::vec(
                (proptest::option::of(0..9), 0..4_i64, any::<f64>(), 0_usize..3), 1..40),
            n in prop_oneof![1_i64..5, -5_i64..0],
            ignore_nulls in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let values: Int32Array = rows.iter().map(|row| row.0).collect();
            let first: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
            let second: Float64Array = rows.iter().map(|row| Some(row.2)).collect();
            let groups: Vec<usize> = rows.iter().map(|row| row.3).collect();
            let function = pick("p", Which::Nth(n), vec![DOWN, ASCENDING], ignore_nulls);
            let call = Call::new(function, vec![values.into(), first.into(), second.into()], groups);
            call.check(seed);
            let found = call.values();
            for group in 0..found.len() {
                let mut rows: Vec<_> = rows.iter().filter(|row| row.3 == group).collect();
                rows.retain(|row| !ignore_nulls || row.0.is_some());
                rows.sort_by(|a, b| {
                    let value = (a.0.is_none(), a.0).cmp(&(b.0.is_none(), b.0));
                    b.1.cmp(&a.1).then(a.2.total_cmp(&b.2)).then(value)
                });
                let place = if n > 0 { n as usize - 1 } else { rows.len().wrapping_sub(n.unsigned_abs() as usize) };
                let expected = rows.get(place).and_then(|row| row.0);
                let found = found.as_primitive::<Int32Type>();
                prop_assert_eq!(found.is_valid(group).then(|| found.value(group)), expected);
            }
        }
    }
}
