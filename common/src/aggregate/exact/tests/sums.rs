//! `sum`, `avg`, `min` and `max` over doubles.

use super::oracle::{Fraction, is_nearest};
use super::*;
use arrow::array::{Array, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Float64Type;

fn first(values: &ArrayRef) -> Option<f64> {
    let values = values.as_primitive::<Float64Type>();
    values.is_valid(0).then(|| values.value(0))
}

fn nullable(values: &[Option<f64>]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

#[test]
fn no_value_is_null_and_nulls_are_no_values() {
    for name in ["sum", "avg", "min", "max"] {
        assert_eq!(first(&value(name, &[nullable(&[None, None])])), None, "{name}");
        assert_eq!(first(&value(name, &[nullable(&[None, Some(2.5)])])), Some(2.5), "{name}");
    }
}

#[test]
fn extremes_go_by_the_total_order() {
    let values = [1.0, f64::NAN, 0.0, -0.0, f64::NEG_INFINITY];
    assert!(first(&value("max", &[doubles(&values)])).unwrap().is_nan());
    assert_eq!(first(&value("min", &[doubles(&values)])), Some(f64::NEG_INFINITY));
    for zeros in [[0.0, -0.0], [-0.0, 0.0]] {
        assert_eq!(first(&value("max", &[doubles(&zeros)])).unwrap().to_bits(), 0.0f64.to_bits());
        assert_eq!(first(&value("min", &[doubles(&zeros)])).unwrap().to_bits(), (-0.0f64).to_bits());
    }
}

#[test]
fn a_filter_that_is_null_keeps_nothing() {
    let f = function("avg");
    let mut groups = many(&f, &[DataType::Float64]);
    let valid = NullBuffer::from(vec![true, false, true, true]);
    let kept = BooleanArray::new(vec![true, true, false, true].into(), Some(valid));
    groups.update_batch(&[doubles(&[1.0, 10.0, 100.0, 4.0])], &[0; 4], Some(&kept), 1).unwrap();
    assert_eq!(first(&groups.evaluate(EmitTo::All).unwrap()), Some(2.5));
}

#[test]
fn the_first_groups_can_be_emitted_and_the_others_go_on() {
    for name in ["sum", "avg"] {
        let f = function(name);
        let mut groups = many(&f, &[DataType::Float64]);
        groups.update_batch(&[doubles(&[1.0, 2.0, 1e300, 1e-300])], &[0, 1, 2, 2], None, 4).unwrap();
        let before = groups.size();
        assert_eq!(groups.evaluate(EmitTo::First(2)).unwrap().as_ref(), doubles(&[1.0, 2.0]).as_ref());
        groups.update_batch(&[doubles(&[-1e300, 7.0])], &[0, 1], None, 2).unwrap();
        let rest = groups.evaluate(EmitTo::All).unwrap();
        let small = if name == "sum" { 1e-300 } else { 1e-300 / 3.0 };
        assert_eq!(rest.as_ref(), doubles(&[small, 7.0]).as_ref(), "{name}");
        assert!(groups.size() < before);
    }
}

#[test]
fn a_window_may_ask_again_and_again() {
    for name in ["sum", "avg", "min", "max", "var_pop", "stddev_pop"] {
        let mut window = one(&function(name), &[DataType::Float64]);
        window.update_batch(&[doubles(&[2.0])]).unwrap();
        window.evaluate().unwrap();
        window.update_batch(&[doubles(&[4.0])]).unwrap();
        let again = window.evaluate().unwrap().to_array().unwrap();
        assert_eq!(again.as_ref(), value(name, &[doubles(&[2.0, 4.0])]).as_ref(), "{name}");
    }
}

#[test]
fn rows_converted_to_states_merge_to_the_value() {
    for name in ["sum", "avg", "min", "max", "var", "stddev_pop"] {
        let (f, columns) = (function(name), [nullable(&[Some(0.1), None, Some(1e300), Some(-7.0)])]);
        let kept = filter(&[true, true, true, false]);
        let states = many(&f, &[DataType::Float64]).convert_to_state(&columns, Some(&kept)).unwrap();
        let mut merged = many(&f, &[DataType::Float64]);
        merged.merge_batch(&states, &[0; 4], 1).unwrap();
        let plain = value(name, &[doubles(&[0.1, 1e300])]);
        assert_eq!(merged.evaluate(EmitTo::All).unwrap().as_ref(), plain.as_ref(), "{name}");
    }
}

#[test]
fn a_damaged_state_is_an_error() {
    let mut groups = many(&function("avg"), &[DataType::Float64]);
    let sums: ArrayRef = Arc::new(arrow::array::BinaryArray::from_vec(vec![b"\0\0\0\x02"]));
    let counts: ArrayRef = Arc::new(arrow::array::UInt64Array::from(vec![1]));
    assert!(groups.merge_batch(&[Arc::clone(&sums), Arc::clone(&counts)], &[0], 1).is_err());
    assert!(groups.merge_batch(&[Arc::clone(&counts), counts], &[0], 1).is_err());
    assert!(groups.merge_batch(&[sums], &[0], 1).is_err());
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bracketing_gives_the_same_state(
        (values, deal) in proptest::collection::vec(proptest::option::weighted(0.9, wild_double()), 1..40)
            .prop_flat_map(|v| { let n = v.len(); (Just(v), shuffled(n)) }),
        parts in 1usize..5,
    ) {
        let groups: Vec<usize> = (0..values.len()).map(|i| i % 3).collect();
        let in_order: Vec<usize> = (0..values.len()).collect();
        for name in ["sum", "avg", "min", "max", "var", "stddev_pop"] {
            let f = function(name);
            let whole = dealt(&f, &[nullable(&values)], &groups, &in_order, 1);
            let pieces = dealt(&f, &[nullable(&values)], &groups, &deal, parts);
            prop_assert_eq!(bits(&whole.1), bits(&pieces.1), "{}", name);
            prop_assert_eq!(&whole.0, &pieces.0, "{}", name);
        }
    }

    #[test]
    fn sum_and_avg_are_nearest(values in proptest::collection::vec(double(), 1..40)) {
        let exact = Fraction::sum(values.iter().map(|&x| Fraction::of(x)));
        let n = Fraction::whole(values.len() as u64);
        let (sum, mean) = (value("sum", &[doubles(&values)]), value("avg", &[doubles(&values)]));
        prop_assert!(is_nearest(first(&sum).unwrap(), &exact));
        prop_assert!(is_nearest(first(&mean).unwrap(), &exact.over(&n)));
        // Without groups it is the same.
        let mut alone = one(&function("avg"), &[DataType::Float64]);
        alone.update_batch(&[doubles(&values)]).unwrap();
        let alone = alone.evaluate().unwrap().to_array().unwrap();
        prop_assert_eq!(alone.as_ref(), mean.as_ref());
    }
}

/// The bits of a column of doubles.
fn bits(values: &ArrayRef) -> Vec<Option<u64>> {
    values.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect()
}
