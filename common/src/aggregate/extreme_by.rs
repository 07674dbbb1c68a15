//! `arg_min(x, y)` and `arg_max(x, y)`, also called `min_by` and `max_by`: `x` where `y` is least or greatest.
//!
//! Rows without a `y` are left out; among equal `y` it is the least `x`, null after all others. Floats are in total
//! order: `-0` is less than `0`, and `NaN` is the greatest. Any `x` and `y` that can be ordered will do; of no rows it
//! is null.

use super::function::udaf;
use super::pick::{LeftOut, Pick, Which};
use arrow::compute::SortOptions;
use datafusion::logical_expr::AggregateUDF;
use std::sync::Arc;

/// `arg_min(x, y)`.
pub(crate) fn arg_min() -> Arc<AggregateUDF> {
    extreme_by("arg_min", "min_by", false)
}

/// `arg_max(x, y)`.
pub(crate) fn arg_max() -> Arc<AggregateUDF> {
    extreme_by("arg_max", "max_by", true)
}

fn extreme_by(name: &str, alias: &str, descending: bool) -> Arc<AggregateUDF> {
    Arc::new(udaf(Pick {
        name: name.to_string(),
        aliases: vec![alias.to_string()],
        // The first by y descending and x ascending, and not the last, which would be the greatest x.
        which: Which::First,
        options: vec![SortOptions { descending, nulls_first: false }],
        left_out: LeftOut::NullKeys,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::conformance::{Call, answer, cases};
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;

    fn rows() -> Vec<(&'static str, ArrayRef)> {
        let y = [Some(2.0), Some(1.0), Some(1.0), None, Some(2.0), Some(f64::NAN)];
        vec![
            (
                "x",
                Arc::new(StringArray::from(vec![
                    Some("e"),
                    Some("c"),
                    Some("b"),
                    Some("a"),
                    None,
                    Some("n"),
                ])),
            ),
            ("y", Arc::new(Float64Array::from_iter(y))),
            ("g", Arc::new(Int64Array::from(vec![1, 1, 1, 2, 1, 3]))),
        ]
    }

    #[test]
    fn among_equals_it_is_the_least() {
        let sql =
            "SELECT arg_min(x, y), min_by(x, y), arg_max(x, y), max_by(x, y) FILTER (WHERE y < 5) FROM t";
        assert_eq!(answer(sql, rows()).unwrap(), ["b b n e"]);
    }

    #[test]
    fn each_group_has_its_own_and_one_without_y_none() {
        let sql = "SELECT g, arg_max(x, y), arg_max(y, x) FROM t GROUP BY g ORDER BY g";
        assert_eq!(answer(sql, rows()).unwrap(), ["1 e 2.0", "2  ", "3 n NaN"]);
    }

    #[test]
    fn it_takes_two_arguments() {
        let error = answer("SELECT arg_min(x) FROM t", rows()).unwrap_err().to_string();
        assert!(error.contains("arg_min with a value and 1 keys"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        #[test]
        fn the_laws_hold(
            rows in proptest::collection::vec(
                (proptest::option::of("[a-c]?"), proptest::option::of(any::<u64>()), 0_usize..3), 0..40),
            seed in any::<u64>(),
        ) {
            let x: StringArray = rows.iter().map(|row| row.0.clone()).collect();
            let y: Float64Array = rows.iter().map(|row| row.1.map(f64::from_bits)).collect();
            let groups: Vec<usize> = rows.iter().map(|row| row.2).collect();
            for function in [arg_min(), arg_max()] {
                Call::new(function, vec![x.clone().into(), y.clone().into()], groups.clone()).check(seed);
            }
        }
    }
}
