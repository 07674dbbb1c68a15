//! `histogram(x, b1, …, bn)`: how many numbers lie between bounds.
//!
//! ```text
//! x < b1,   b1 <= x < b2,   …,   bn <= x
//! ```
//!
//! The bounds are constants, ascending, 1 to 1000 of them. The value is a `LIST<STRUCT<start DOUBLE, end DOUBLE, count
//! BIGINT>>` of `n + 1` buckets, the first without a start and the last without an end. Numbers are compared as
//! `DOUBLE`, both zeros alike; `NaN`, which is in no range, and nulls are left out. Of no numbers it is null.
//!
//! # Bytes of a state
//!
//! The format, 1, and then, unless all counts are 0, the `n + 1` counts as [`super::varint`].

use super::approx_percentile::binary_states;
use super::function::{Function, arity, damaged, number, udaf};
use super::groups::Fold;
use super::records::{fields, list_type, lists};
use super::varint;
use super::weight::bigint;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Fields, Float64Type};
use datafusion::common::{internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;
use std::cmp::Ordering::Less;
use std::sync::Arc;

const NAME: &str = "histogram";
const FORMAT: u8 = 1;
/// The most bounds.
const MOST: usize = 1000;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Histogram;

/// `histogram(x, b1, …, bn)`.
pub(crate) fn histogram() -> Arc<AggregateUDF> {
    Arc::new(udaf(Histogram))
}

impl Function for Histogram {
    type Fold = Buckets;

    fn name(&self) -> &str {
        NAME
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        arity(NAME, types, 2, 1 + MOST, "histogram(x, bound, …) with at most 1000 bounds")?;
        if let Some(other) = types.iter().find(|t| !t.is_numeric() && !t.is_null()) {
            return plan_err!("histogram takes numbers, found {other}");
        }
        Ok(std::iter::once(DataType::Float64).chain(types[1..].iter().cloned()).collect())
    }

    fn result(&self, _: &[DataType]) -> Result<DataType> {
        Ok(list_type(&bucket_fields()))
    }

    fn state(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn fold(&self, call: &AccumulatorArgs<'_>) -> Result<Buckets> {
        let bounds = (1..call.exprs.len()).map(|i| number(call, i, "a bound"));
        let bounds = bounds.collect::<Result<Vec<f64>>>()?;
        if let Some(wrong) = bounds.windows(2).find(|pair| pair[0].partial_cmp(&pair[1]) != Some(Less)) {
            return plan_err!("histogram takes ascending bounds, found {} before {}", wrong[0], wrong[1]);
        }
        if bounds.iter().any(|bound| bound.is_nan()) {
            return plan_err!("histogram takes bounds that are numbers, found NaN");
        }
        Ok(Buckets { bounds })
    }
}

fn bucket_fields() -> Fields {
    fields([("start", DataType::Float64), ("end", DataType::Float64), ("count", DataType::Int64)])
}

/// Counts between bounds; a group is its counts, or nothing while they are all 0.
#[derive(Debug)]
struct Buckets {
    bounds: Vec<f64>,
}

impl Buckets {
    fn add(&self, group: &mut Vec<u64>, bucket: usize, count: u64) {
        group.resize(self.bounds.len() + 1, 0);
        group[bucket] = group[bucket].saturating_add(count);
    }

    fn read(&self, mut bytes: &[u8]) -> Result<Vec<u64>, String> {
        let format = bytes.split_off_first();
        if format != Some(&FORMAT) {
            return Err(format!("expected format {FORMAT}, found {format:?}"));
        }
        let mut counts = Vec::new();
        while !bytes.is_empty() {
            counts.push(varint::read(&mut bytes)?);
        }
        let expected = self.bounds.len() + 1;
        if counts.is_empty() || counts.len() == expected && counts.iter().any(|&count| count > 0) {
            return Ok(counts);
        }
        Err(format!("expected {expected} counts that are not all 0, found {}", counts.len()))
    }
}

impl Fold for Buckets {
    type Group = Vec<u64>;
    type Batch = Float64Array;
    type States = BinaryArray;

    fn batch(&self, arguments: &[ArrayRef]) -> Result<Float64Array> {
        match arguments.first().and_then(|numbers| numbers.as_primitive_opt::<Float64Type>()) {
            Some(numbers) => Ok(numbers.clone()),
            None => internal_err!("histogram over no doubles"),
        }
    }

    fn row(&self, group: &mut Vec<u64>, numbers: &Float64Array, row: usize) -> Result<()> {
        let number = numbers.value(row);
        if numbers.is_valid(row) && !number.is_nan() {
            self.add(group, self.bounds.partition_point(|&bound| bound <= number), 1);
        }
        Ok(())
    }

    fn states(&self, column: &ArrayRef) -> Result<BinaryArray> {
        binary_states(NAME, column)
    }

    fn merge(&self, group: &mut Vec<u64>, states: &BinaryArray, row: usize) -> Result<()> {
        if states.is_valid(row) {
            let counts = self.read(states.value(row)).map_err(|found| damaged(NAME, found))?;
            counts.iter().enumerate().for_each(|(bucket, &count)| self.add(group, bucket, count));
        }
        Ok(())
    }

    fn state(&self, groups: &[Vec<u64>]) -> Result<ArrayRef> {
        let states = groups.iter().map(|counts| {
            let mut bytes = vec![FORMAT];
            counts.iter().for_each(|&count| varint::write(&mut bytes, count));
            bytes
        });
        Ok(Arc::new(BinaryArray::from_iter_values(states)))
    }

    fn finish(&self, groups: &[Vec<u64>]) -> Result<ArrayRef> {
        let filled = || groups.iter().filter(|counts| !counts.is_empty());
        let starts = || std::iter::once(None).chain(self.bounds.iter().copied().map(Some));
        let ends = || self.bounds.iter().copied().map(Some).chain(std::iter::once(None));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(filled().flat_map(|_| starts()).collect::<Float64Array>()),
            Arc::new(filled().flat_map(|_| ends()).collect::<Float64Array>()),
            Arc::new(Int64Array::from_iter_values(filled().flatten().map(|&count| bigint(count)))),
        ];
        let nulls: NullBuffer = groups.iter().map(|counts| !counts.is_empty()).collect();
        lists(&bucket_fields(), groups.iter().map(Vec::len), columns, Some(nulls))
    }

    fn size(group: &Vec<u64>) -> usize {
        group.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::conformance::{Argument, Call, answer, cases};
    use datafusion::common::ScalarValue;
    use proptest::prelude::*;

    fn of_numbers(select: &str) -> Result<Vec<String>> {
        let numbers =
            [Some(-1.0), Some(-0.0), Some(0.0), Some(10.0), Some(f64::NAN), None, Some(f64::INFINITY)];
        answer(&format!("SELECT {select} FROM t"), vec![("x", Arc::new(Float64Array::from_iter(numbers)))])
    }

    #[test]
    fn buckets_hold_their_start_and_not_their_end() {
        let found = of_numbers("histogram(x, 0, 10.0)").unwrap();
        let expected = "[{start: , end: 0.0, count: 1}, {start: 0.0, end: 10.0, count: 2}, \
            {start: 10.0, end: , count: 2}]";
        assert_eq!(found, [expected]);
        assert_eq!(of_numbers("histogram(x, 0) FILTER (WHERE x IS NULL)").unwrap(), [""]);
        let whole = of_numbers("histogram(CAST(x AS INT), 0) FILTER (WHERE x < 5)").unwrap();
        assert_eq!(whole, ["[{start: , end: 0.0, count: 1}, {start: 0.0, end: , count: 2}]"]);
    }

    #[test]
    fn bounds_that_make_no_buckets_are_refused() {
        for (call, why) in [
            ("histogram(x, 1, 1)", "ascending bounds, found 1 before 1"),
            ("histogram(x, 2, 1)", "ascending"),
            ("histogram(x, 1, NULL)", "a bound must be a constant"),
            ("histogram(x, x)", "a bound must be a constant"),
            ("histogram(x, CAST('NaN' AS DOUBLE))", "found NaN"),
            ("histogram(x)", "histogram(x, bound, …)"),
            ("histogram(x, 'a')", "takes numbers, found Utf8"),
        ] {
            let error = of_numbers(call).unwrap_err().to_string();
            assert!(error.contains(why), "{call}: {error}");
        }
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let buckets = Buckets { bounds: vec![0.0, 1.0] };
        for bytes in [&[][..], &[2, 1, 1, 1], &[1, 1, 1], &[1, 0, 0, 0], &[1, 1, 1, 1, 1], &[1, 1, 1, 0x80]] {
            assert!(buckets.read(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(buckets.read(&[1, 0, 2, 0]), Ok(vec![0, 2, 0]));
        assert_eq!(buckets.read(&[1]), Ok(vec![]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        #[test]
        fn the_laws_hold(
            rows in proptest::collection::vec((proptest::option::of(-3.0..3.0_f64), 0_usize..3), 0..40),
            seed in any::<u64>(),
        ) {
            let numbers: Float64Array = rows.iter().map(|row| row.0).collect();
            let groups: Vec<usize> = rows.iter().map(|row| row.1).collect();
            let bounds = [-1.0, 1.0].map(|bound| Argument::Constant(ScalarValue::from(bound)));
            let arguments = std::iter::once(numbers.into()).chain(bounds).collect();
            Call::new(histogram(), arguments, groups).check(seed);
        }
    }
}
