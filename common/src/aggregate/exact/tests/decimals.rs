//! `sum` and `avg` over decimals.

use super::*;
use crate::aggregate::exact::narrow::decimals;
use crate::aggregate::exact::{narrowing, wide_sum};
use arrow::array::{Array, AsArray, Decimal128Array, Decimal256Array};
use arrow::datatypes::{Decimal128Type, Decimal256Type, i256};
use num_bigint::BigInt;

fn decimal(values: &[i128], precision: u8, scale: i8) -> ArrayRef {
    let values = Decimal128Array::from(values.to_vec());
    Arc::new(values.with_data_type(DataType::Decimal128(precision, scale)))
}

const NINES: i128 = 10i128.pow(38) - 1;

#[test]
fn only_the_total_must_fit() {
    let sum = value("sum", &[decimal(&[NINES, NINES, -NINES, -NINES, 5], 38, 2)]);
    assert_eq!(sum.data_type(), &DataType::Decimal128(38, 2));
    assert_eq!(sum.as_primitive::<Decimal128Type>().value(0), 5);
    let error = try_value(&function("sum"), &[decimal(&[NINES, 1], 38, 2)]).unwrap_err();
    assert_eq!(
        error.strip_backtrace(),
        "Execution error: sum(n) is 1000000000000000000000000000000000000.00, more than DECIMAL(38, 2) holds: use \
         sum(CAST(n AS DECIMAL(76, 2)))"
    );
}

#[test]
fn the_widest_decimals_sum_exactly() {
    let widest = i256::from_string(&"9".repeat(76)).unwrap();
    let values = [widest, widest, -widest, i256::from_i128(-3)];
    let column = Decimal256Array::from(values.to_vec()).with_data_type(DataType::Decimal256(76, 0));
    let sum = value("sum", &[Arc::new(column)]);
    assert_eq!(sum.as_primitive::<Decimal256Type>().value(0), widest - i256::from_i128(3));
    let column = Decimal256Array::from(vec![widest; 2]).with_data_type(DataType::Decimal256(76, 0));
    let error = try_value(&function("sum"), &[Arc::new(column)]).unwrap_err();
    assert!(error.to_string().contains("use sum(CAST(n AS DOUBLE))"), "{error}");
}

#[test]
fn a_mean_is_cut_toward_zero_as_the_engine_does() {
    for values in [vec![200, 100, 0], vec![-100, 0, -100], vec![1, 1, 0], vec![7; 4]] {
        let column = decimal(&values, 10, 2);
        let ours = value("avg", &[Arc::clone(&column)]);
        let engine = datafusion::functions_aggregate::average::avg_udaf();
        assert_eq!(ours.as_ref(), try_value(&engine, &[column]).unwrap().as_ref());
    }
    // The engine's sum has room for fewer digits than this one.
    let mean = value("avg", &[decimal(&[NINES / 10_000; 3], 38, 0)]);
    assert_eq!(mean.as_primitive::<Decimal128Type>().value(0), NINES / 10_000 * 10_000);
    assert!(try_value(&function("avg"), &[decimal(&[NINES], 38, 0)]).is_err());
}

#[test]
fn a_wide_sum_is_the_stored_one() {
    let wide = wide_sum(&function("sum")).unwrap();
    let totals = try_value(&wide, &[decimal(&[NINES, 1], 38, 2)]).unwrap();
    assert_eq!(totals.data_type(), &DataType::Binary);
    let f = narrowing("v", &[], DataType::Decimal128(38, 2), "sum(n)");
    let args = |columns: Vec<ArrayRef>| datafusion::logical_expr::ScalarFunctionArgs {
        arg_fields: vec![Arc::new(Field::new("t", DataType::Binary, true))],
        number_rows: columns[0].len(),
        return_field: Arc::new(Field::new("v", DataType::Decimal128(38, 2), true)),
        config_options: Default::default(),
        args: columns.into_iter().map(datafusion::logical_expr::ColumnarValue::Array).collect(),
    };
    let error = f.invoke_with_args(args(vec![totals])).unwrap_err();
    assert!(
        error.to_string().contains("view v: sum(n) is 1000000000000000000000000000000000000.00, more"),
        "{error}"
    );
    let totals = try_value(&wide, &[decimal(&[NINES, -1], 38, 2)]).unwrap();
    let fits = f.invoke_with_args(args(vec![totals])).unwrap().into_array(1).unwrap();
    assert_eq!(fits.as_primitive::<Decimal128Type>().value(0), NINES - 1);
    let damaged: ArrayRef = Arc::new(arrow::array::BinaryArray::from_vec(vec![b"\0\xff\xff\x01"]));
    assert!(f.invoke_with_args(args(vec![damaged])).unwrap_err().to_string().contains("no integer"));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_sum_of_decimals_is_that_of_whole_numbers(
        (values, deal) in proptest::collection::vec(any::<[u8; 32]>(), 1..20)
            .prop_flat_map(|v| { let n = v.len(); (Just(v), shuffled(n)) }),
        parts in 1usize..4,
        up in 8u32..250,
    ) {
        let values: Vec<i256> = values.into_iter().map(|b| i256::from_le_bytes(b) >> up as u8).collect();
        let column = Decimal256Array::from(values.clone()).with_data_type(DataType::Decimal256(76, 1));
        let column: ArrayRef = Arc::new(column);
        let total: BigInt = values.iter().map(|v| BigInt::from_signed_bytes_le(&v.to_le_bytes())).sum();
        let (f, groups) = (function("sum"), vec![0; values.len()]);
        let (_, sum) = dealt(&f, &[Arc::clone(&column)], &groups, &deal, parts);
        let whole = decimals([Some(total)].into_iter(), &DataType::Decimal256(76, 1), |_| unreachable!()).unwrap();
        prop_assert_eq!(sum.as_ref(), whole.as_ref());
    }
}
