//! `approx_percentile_cont`, `approx_percentile_cont_with_weight` and `approx_median` over a [`Sketch`].
//!
//! They take the place of the engine's functions of these names, whose centroids depend on the order of the rows, and
//! have their arguments and types: integers and decimals are taken as `DOUBLE`. A last argument from 1 is a number of
//! centroids and without effect; one from 0.001 to below 1 is the relative error, which otherwise is 1 %. The error
//! is that before the value is rounded to `REAL`. A weight is an integer; nulls are left out; nothing has no quantile.

use super::bucket::Resolution;
use super::function::{Function, arity, damaged, floating, number, percentile, udaf};
use super::groups::Fold;
use super::sketch::Sketch;
use super::weight::{self, Weights};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{internal_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::AccumulatorArgs;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Median,
    Percentile,
    Weighted,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxPercentile {
    kind: Kind,
    /// Whether ranks count from the greatest, besides what `WITHIN GROUP` says.
    descending: bool,
}

/// `approx_median(x)`.
pub(crate) fn approx_median() -> Arc<AggregateUDF> {
    Arc::new(udaf(ApproxPercentile { kind: Kind::Median, descending: false }))
}

/// `approx_percentile_cont(x, q [, error])`; descending for calls that lost their `ORDER BY x DESC`.
pub(crate) fn approx_percentile_cont(descending: bool) -> Arc<AggregateUDF> {
    Arc::new(udaf(ApproxPercentile { kind: Kind::Percentile, descending }))
}

/// `approx_percentile_cont_with_weight(x, weight, q [, error])`.
pub(crate) fn approx_percentile_cont_with_weight(descending: bool) -> Arc<AggregateUDF> {
    Arc::new(udaf(ApproxPercentile { kind: Kind::Weighted, descending }))
}

impl Kind {
    fn usage(self) -> (usize, usize, &'static str) {
        match self {
            Self::Median => (1, 1, "approx_median(x)"),
            Self::Percentile => (2, 3, "approx_percentile_cont(x, q [, error])"),
            Self::Weighted => (3, 4, "approx_percentile_cont_with_weight(x, weight, q [, error])"),
        }
    }
}

impl Function for ApproxPercentile {
    type Fold = SketchFold;

    fn name(&self) -> &str {
        match self.kind {
            Kind::Median => "approx_median",
            Kind::Percentile => "approx_percentile_cont",
            Kind::Weighted => "approx_percentile_cont_with_weight",
        }
    }

    fn coerce(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (least, most, usage) = self.kind.usage();
        arity(self.name(), types, least, most, usage)?;
        let mut coerced = vec![floating(self.name(), &types[0])?];
        let mut rest = &types[1..];
        if self.kind == Kind::Weighted {
            coerced.push(weight::coerce(self.name(), &rest[0])?);
            rest = &rest[1..];
        }
        if let Some(other) = rest.iter().find(|t| !t.is_numeric()) {
            return plan_err!(
                "{} takes a percentile and an error that are numbers, found {other}",
                self.name()
            );
        }
        coerced.extend_from_slice(rest);
        Ok(coerced)
    }

    fn result(&self, types: &[DataType]) -> Result<DataType> {
        match types.first() {
            Some(first) => floating(self.name(), first),
            None => internal_err!("{} without an argument", self.name()),
        }
    }

    fn state(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn fold(&self, call: &AccumulatorArgs<'_>) -> Result<SketchFold> {
        let place = if self.kind == Kind::Weighted { 2 } else { 1 };
        let q = if self.kind == Kind::Median { 0.5 } else { percentile(call, place)? };
        let sorted_down = call.order_bys.first().is_some_and(|sort| sort.options.descending);
        let resolution = if call.exprs.len() > place + 1 {
            resolution(self.name(), number(call, place + 1, "the error or the number of centroids")?)?
        } else {
            Resolution::DEFAULT
        };
        Ok(SketchFold {
            name: self.name().to_string(),
            q: if self.descending || sorted_down { 1.0 - q } else { q },
            resolution,
            weighted: self.kind == Kind::Weighted,
            data_type: call.return_field.data_type().clone(),
        })
    }

    fn within_group(&self) -> bool {
        self.kind != Kind::Median
    }
}

fn resolution(name: &str, error_or_centroids: f64) -> Result<Resolution> {
    if error_or_centroids >= 1.0 {
        return Ok(Resolution::DEFAULT);
    }
    Resolution::of_error(name, error_or_centroids)
}

/// A sketch for each group.
#[derive(Debug)]
struct SketchFold {
    name: String,
    q: f64,
    resolution: Resolution,
    weighted: bool,
    data_type: DataType,
}

impl Fold for SketchFold {
    type Group = Sketch;
    type Batch = (Float64Array, Weights);
    type States = BinaryArray;

    fn batch(&self, arguments: &[ArrayRef]) -> Result<Self::Batch> {
        let (Some(numbers), false) = (arguments.first(), self.weighted && arguments.len() < 2) else {
            return internal_err!("{} with {} arguments", self.name, arguments.len());
        };
        let weights = if self.weighted { Weights::of(&arguments[1])? } else { Weights::One };
        Ok((cast(numbers, &DataType::Float64)?.as_primitive::<Float64Type>().clone(), weights))
    }

    fn row(&self, group: &mut Sketch, (numbers, weights): &Self::Batch, row: usize) -> Result<()> {
        if numbers.is_valid(row) {
            group.add(self.resolution, numbers.value(row), weights.at(row)?);
        }
        Ok(())
    }

    fn states(&self, column: &ArrayRef) -> Result<BinaryArray> {
        binary_states(&self.name, column)
    }

    fn merge(&self, group: &mut Sketch, states: &BinaryArray, row: usize) -> Result<()> {
        if states.is_null(row) {
            return Ok(());
        }
        group.merge(&self.name, self.resolution, states.value(row))
    }

    fn state(&self, groups: &[Sketch]) -> Result<ArrayRef> {
        let states = groups.iter().map(|group| group.write(self.resolution));
        Ok(Arc::new(BinaryArray::from_iter_values(states)))
    }

    fn finish(&self, groups: &[Sketch]) -> Result<ArrayRef> {
        let mut known = BTreeMap::new();
        let mut middle = |b| *known.entry(b).or_insert_with(|| self.resolution.middle(b));
        let values: Float64Array = groups.iter().map(|g| g.quantile(self.q, &mut middle)).collect();
        Ok(cast(&values, &self.data_type)?)
    }

    fn size(group: &Sketch) -> usize {
        group.size()
    }
}

/// A state column of bytes.
pub(super) fn binary_states(name: &str, column: &ArrayRef) -> Result<BinaryArray> {
    match column.as_binary_opt::<i32>() {
        Some(states) => Ok(states.clone()),
        None => Err(damaged(name, format!("expected BYTEA, found {}", column.data_type()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::conformance::{Argument, Call, answer, cases};
    use arrow::array::{Float32Array, Int64Array, StringArray};
    use datafusion::common::ScalarValue;
    use proptest::prelude::*;

    /// 1 to 100 in two groups, the first twice as large.
    fn hundred() -> Vec<(&'static str, ArrayRef)> {
        let x: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=100));
        let half = cast(&x, &DataType::Float32).unwrap();
        let g: ArrayRef = Arc::new(StringArray::from_iter_values((1..=100).map(|i| ["a", "a", "b"][i % 3])));
        let null: ArrayRef = Arc::new(Int64Array::new_null(100));
        vec![("x", x), ("h", half), ("g", g), ("z", null)]
    }

    fn number(sql: &str) -> f64 {
        answer(sql, hundred()).unwrap().concat().parse().unwrap()
    }

    fn refused(call: &str) -> String {
        answer(&format!("SELECT {call} FROM t"), hundred()).unwrap_err().to_string()
    }

    #[test]
    fn every_way_to_ask_for_a_percentile_gives_it() {
        for call in [
            "approx_percentile_cont(x, 0.75)",
            "approx_percentile_cont(0.75) WITHIN GROUP (ORDER BY x)",
            "approx_percentile_cont(0.25) WITHIN GROUP (ORDER BY x DESC)",
            "approx_percentile_cont(x, 0.75, 200)",
            "approx_percentile_cont(0.75, 0.005) WITHIN GROUP (ORDER BY x)",
            "approx_percentile_cont(h, 0.75)",
            "approx_percentile_cont(CAST(x AS DECIMAL(10, 2)), 0.75)",
            "approx_percentile_cont_with_weight(x, 2, 0.75)",
            "approx_percentile_cont_with_weight(2, 0.75) WITHIN GROUP (ORDER BY x)",
            "approx_median(x) FILTER (WHERE x > 50)",
        ] {
            let found = number(&format!("SELECT {call} FROM t"));
            assert!((found - 75.5).abs() <= 0.9, "{call}: {found}");
        }
        assert_eq!(number("SELECT approx_percentile_cont(x, 1) FROM t"), 100.0);
    }

    #[test]
    fn groups_have_percentiles_of_their_own() {
        let sql = "SELECT g, approx_percentile_cont(x, 0), approx_percentile_cont(x, 1.0), approx_median(z)
            FROM t GROUP BY g ORDER BY g";
        assert_eq!(answer(sql, hundred()).unwrap(), ["a 1.0 100.0 ", "b 2.0 98.0 "]);
    }

    #[test]
    fn a_running_window_goes_on_after_each_value() {
        let sql = "SELECT max(m) FROM (SELECT approx_percentile_cont(x, 0) OVER (ORDER BY x) AS m FROM t)";
        assert_eq!(number(sql), 1.0);
    }

    #[test]
    fn the_type_is_that_of_the_numbers() {
        let sql = "SELECT arrow_typeof(approx_median(h)), arrow_typeof(approx_median(x)) FROM t";
        assert_eq!(answer(sql, hundred()).unwrap(), ["Float32 Float64"]);
    }

    #[test]
    fn weights_count_as_often_as_they_say() {
        let sql = "SELECT approx_percentile_cont_with_weight(x, CASE WHEN x = 7 THEN 1000 END, 0.3) FROM t";
        assert_eq!(number(sql), 7.0);
        assert!(refused("approx_percentile_cont_with_weight(x, h, 0.5)").contains("cast it to BIGINT"));
        assert!(refused("approx_percentile_cont_with_weight(x, -x, 0.5)").contains("weight of 0 or more"));
    }

    #[test]
    fn what_is_no_percentile_is_refused() {
        assert!(refused("approx_percentile_cont(x, 1.5)").contains("from 0 to 1, found 1.5"));
        assert!(refused("approx_percentile_cont(x, h)").contains("must be a constant"));
        assert!(refused("approx_percentile_cont(g, 0.5)").contains("takes numbers, found Utf8"));
        assert!(refused("approx_percentile_cont(x, 0.5, 0.0001)").contains("0.001 to below 1"));
        assert!(refused("approx_percentile_cont(x)").contains("approx_percentile_cont(x, q [, error])"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        #[test]
        fn the_laws_hold(
            rows in proptest::collection::vec((proptest::option::of(any::<f32>()), -1_i64..4, 0_usize..3), 0..40),
            seed in any::<u64>(),
        ) {
            let numbers: Float32Array = rows.iter().map(|row| row.0).collect();
            let weights: Int64Array = rows.iter().map(|row| (row.1 >= 0).then_some(row.1)).collect();
            let groups: Vec<usize> = rows.iter().map(|row| row.2).collect();
            let q = Argument::Constant(ScalarValue::from(0.4));
            let plain = vec![numbers.clone().into(), q.clone()];
            Call::new(approx_percentile_cont(false), plain, groups.clone()).check(seed);
            let weighted = vec![numbers.into(), weights.into(), q];
            Call::new(approx_percentile_cont_with_weight(true), weighted, groups).check(seed);
        }
    }
}
