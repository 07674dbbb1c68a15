//! Exact quantiles of values that are given with their counts.
//!
//! They are the engine's `median` and `percentile_cont`, bit for bit, as if each value stood there as often as its
//! count says:
//!
//! ```text
//! median          = x[(n - 1) / 2] if n is odd, and otherwise (x[n / 2 - 1] + x[n / 2]) / 2 in the type of x
//! percentile_cont = x[floor(p)] + (x[ceil(p)] - x[floor(p)]) * w        for p = q (n - 1)
//! ```
//!
//! where `w` is `p - floor(p)` cut off after six decimals. A median of decimals is cut off towards zero at their
//! scale. The one difference: values are ordered by the total order of floats even where the engine compares them
//! partially (the lower of the two middle values; `q` of 0 and 1), which shows with `NaN` and both zeros only.

use super::counts::Counts;
use super::records::Records;
use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, AsArray, PrimitiveArray, PrimitiveBuilder,
};
use arrow::datatypes::{
    ArrowNativeType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type,
    Float32Type, Float64Type,
};
use datafusion::common::internal_err;
use datafusion::error::Result;
use std::sync::Arc;

/// The engine keeps this many parts of the way between two values.
const PARTS: f64 = 1_000_000.0;

/// Two neighbours among the values of each group, null where there is none, and how far between them to go.
struct Neighbours<W> {
    low: ArrayRef,
    high: ArrayRef,
    /// `None` for the lower value as it is.
    way: Vec<Option<W>>,
}

impl<W: Copy> Neighbours<W> {
    /// `ranks` gives the lower rank, the higher rank and the way for so many values, which are at least one.
    fn of(
        groups: &[Counts],
        values: &Records,
        ranks: impl Fn(u128) -> (u128, u128, Option<W>),
    ) -> Result<Self> {
        let (mut low, mut high, mut way) = (Vec::new(), Vec::new(), Vec::new());
        for group in groups {
            let total = group.total();
            let (l, h, w) = if total > 0 { ranks(total) } else { (0, 0, None) };
            low.push(group.at(l));
            high.push(group.at(h));
            way.push(w);
        }
        Ok(Self { low: values.decode_some(&low, 0)?, high: values.decode_some(&high, 0)?, way })
    }

    fn between<T: ArrowPrimitiveType>(
        &self,
        between: impl Fn(T::Native, T::Native, W) -> T::Native,
    ) -> ArrayRef {
        let (low, high): (&PrimitiveArray<T>, &PrimitiveArray<T>) =
            (self.low.as_primitive(), self.high.as_primitive());
        let mut found =
            PrimitiveBuilder::<T>::with_capacity(low.len()).with_data_type(low.data_type().clone());
        for (row, &way) in self.way.iter().enumerate() {
            found.append_option(low.is_valid(row).then(|| match way {
                Some(way) => between(low.value(row), high.value(row), way),
                None => low.value(row),
            }));
        }
        Arc::new(found.finish())
    }
}

/// The median of each group: in the type of its values, which are floats or decimals.
pub(super) fn medians(groups: &[Counts], values: &Records) -> Result<ArrayRef> {
    let both = Neighbours::of(groups, values, |n| {
        if n % 2 == 1 { (n / 2, n / 2, None) } else { (n / 2 - 1, n / 2, Some(())) }
    })?;
    match both.low.data_type() {
        DataType::Float16 => Ok(both.between::<Float16Type>(|l, h, ()| midpoint(l, h))),
        DataType::Float32 => Ok(both.between::<Float32Type>(|l, h, ()| midpoint(l, h))),
        DataType::Float64 => Ok(both.between::<Float64Type>(|l, h, ()| midpoint(l, h))),
        DataType::Decimal32(..) => Ok(both.between::<Decimal32Type>(|l, h, ()| midpoint(l, h))),
        DataType::Decimal64(..) => Ok(both.between::<Decimal64Type>(|l, h, ()| midpoint(l, h))),
        DataType::Decimal128(..) => Ok(both.between::<Decimal128Type>(|l, h, ()| midpoint(l, h))),
        DataType::Decimal256(..) => Ok(both.between::<Decimal256Type>(|l, h, ()| midpoint(l, h))),
        other => internal_err!("a median of {other}"),
    }
}

/// Half of the sum, rounded as the type divides.
fn midpoint<N: ArrowNativeTypeOp + ArrowNativeType>(low: N, high: N) -> N {
    let two = N::usize_as(2);
    match low.add_checked(high) {
        Ok(sum) => sum.div_wrapping(two),
        // Halves first, where the sum has no room, and then what the halves lost.
        Err(_) => {
            let lost = low.mod_wrapping(two).add_wrapping(high.mod_wrapping(two)).div_wrapping(two);
            low.div_wrapping(two).add_wrapping(high.div_wrapping(two)).add_wrapping(lost)
        }
    }
}

/// The value at `q` of the way through each group: in the type of its values, which are floats.
pub(super) fn percentiles(groups: &[Counts], values: &Records, q: f64) -> Result<ArrayRef> {
    let both = Neighbours::of(groups, values, |n| {
        let place = q * (n - 1) as f64;
        let rank = |place: f64| (place as u128).min(n - 1);
        let (low, high) = (rank(place.floor()), rank(place.ceil()));
        let way = ((place - place.floor()) * PARTS).floor() / PARTS;
        (low, high, (low < high).then_some(way))
    })?;
    match both.low.data_type() {
        DataType::Float16 => {
            type F16 = <Float16Type as ArrowPrimitiveType>::Native;
            Ok(both.between::<Float16Type>(|l, h, w| F16::from_f64(along(l.to_f64(), h.to_f64(), w))))
        }
        DataType::Float32 => Ok(both.between::<Float32Type>(|l, h, w| along(l.into(), h.into(), w) as f32)),
        DataType::Float64 => Ok(both.between::<Float64Type>(along)),
        other => internal_err!("a percentile of {other}"),
    }
}

fn along(low: f64, high: f64, way: f64) -> f64 {
    low + (high - low) * way
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::conformance::{Argument, Call, cases, query};
    use crate::aggregate::tally::{weighted_median, weighted_percentile_cont};
    use arrow::array::{Float64Array, Int64Array};
    use arrow::compute::cast;
    use datafusion::common::ScalarValue;
    use proptest::prelude::*;

    fn assert_like_the_engine(rows: &[(f64, i64)], data_type: &DataType, q: f64) {
        let numbers = |numbers: Vec<f64>| cast(&Float64Array::from(numbers), data_type).unwrap();
        let often = rows.iter().flat_map(|&(x, n)| std::iter::repeat_n(x, n as usize)).collect();
        let pairs: Vec<(&str, ArrayRef)> = vec![
            ("x", numbers(rows.iter().map(|row| row.0).collect())),
            ("n", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)))),
        ];
        let functions = [weighted_median(), weighted_percentile_cont(true)];
        let ours = format!("SELECT weighted_median(x, n) a, weighted_percentile_cont(x, n, {q}) b FROM t");
        let theirs =
            format!("SELECT median(x) a, percentile_cont({q}) WITHIN GROUP (ORDER BY x DESC) b FROM t");
        let ours = query(&ours, pairs, &functions).unwrap();
        let theirs = query(&theirs, vec![("x", numbers(often))], &[]).unwrap();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn sums_without_room_are_halved_first() {
        let type_ = DataType::Decimal128(38, 0);
        assert_like_the_engine(&[(9e37, 1), (-3.0, 1), (9.1e37, 2)], &type_, 0.5);
        assert_eq!(midpoint(i128::MAX, i128::MAX - 2), i128::MAX - 1);
        assert_eq!((midpoint(-3_i128, 0), midpoint(f64::MAX, f64::MAX)), (-1, f64::INFINITY));
    }

    #[test]
    fn nothing_has_no_median() {
        assert_like_the_engine(&[(1.0, 0)], &DataType::Float64, 0.5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases()))]

        #[test]
        fn they_are_the_engines_bit_for_bit(
            rows in proptest::collection::vec((-1e4..1e4_f64, 0_i64..4), 0..20),
            q in prop_oneof![Just(0.0), Just(1.0), Just(0.5), 0.0..=1.0],
        ) {
            for data_type in [
                DataType::Float64, DataType::Float32, DataType::Float16, DataType::Int32,
                DataType::Decimal128(12, 3), DataType::Decimal256(50, 3), DataType::Decimal64(10, 1),
            ] {
                assert_like_the_engine(&rows, &data_type, q);
            }
        }

        #[test]
        fn the_laws_hold(
            rows in proptest::collection::vec((any::<u64>(), 0_i64..4, 0_usize..3), 0..40),
            seed in any::<u64>(),
        ) {
            let numbers: Float64Array = rows.iter().map(|row| Some(f64::from_bits(row.0))).collect();
            let weights: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
            let groups: Vec<usize> = rows.iter().map(|row| row.2).collect();
            let mut arguments = vec![numbers.into(), weights.into()];
            Call::new(weighted_median(), arguments.clone(), groups.clone()).check(seed);
            arguments.push(Argument::Constant(ScalarValue::from(0.7)));
            Call::new(weighted_percentile_cont(false), arguments, groups).check(seed);
        }
    }
}
