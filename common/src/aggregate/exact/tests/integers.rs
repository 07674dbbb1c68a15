//! `sum` and `avg` over integers, and narrowing a total.

use super::oracle::{Fraction, is_nearest};
use super::*;
use crate::aggregate::exact::{narrowing, wide_sum};
use arrow::array::{AsArray, Decimal128Array, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, UInt64Type};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

#[test]
fn only_the_total_must_fit() {
    let sum = value("sum", &[ints(&[i64::MAX, i64::MAX, i64::MIN, i64::MIN, 7])]);
    assert_eq!(sum.as_primitive::<Int64Type>().value(0), 5);
    let least = value("sum", &[ints(&[i64::MIN])]);
    assert_eq!(least.as_primitive::<Int64Type>().value(0), i64::MIN);
    let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    assert_eq!(value("sum", &[unsigned]).as_primitive::<UInt64Type>().value(0), u64::MAX);
}

#[test]
fn a_sum_that_does_not_fit_says_what_to_do() {
    let error = |columns: ArrayRef| try_value(&function("sum"), &[columns]).unwrap_err().strip_backtrace();
    assert_eq!(
        error(ints(&[i64::MAX, 1])),
        "Execution error: sum(n) is 9223372036854775808, more than BIGINT holds: \
         use sum(CAST(n AS DECIMAL(38, 0)))"
    );
    assert!(error(ints(&[i64::MIN, -1])).contains("-9223372036854775809, less than BIGINT holds"));
    let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 1]));
    assert!(error(unsigned).contains("18446744073709551616, more than BIGINT UNSIGNED holds"));
}

fn narrow(f: &ScalarUDF, columns: Vec<ArrayRef>) -> datafusion::error::Result<ArrayRef> {
    let rows = columns[0].len();
    let fields = columns.iter().map(|c| Arc::new(Field::new("c", c.data_type().clone(), true))).collect();
    let args = ScalarFunctionArgs {
        args: columns.into_iter().map(ColumnarValue::Array).collect(),
        arg_fields: fields,
        number_rows: rows,
        return_field: Arc::new(Field::new("v", f.return_type(&[])?, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    f.invoke_with_args(args)?.into_array(rows)
}

#[test]
fn a_wide_sum_is_narrowed_where_the_key_is_known() {
    let wide = wide_sum(&function("sum")).unwrap();
    let totals = try_value(&wide, &[ints(&[i64::MAX, 3])]).unwrap();
    assert_eq!(totals.as_primitive::<Decimal128Type>().value(0), i128::from(i64::MAX) + 3);
    let keys: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["it's"])), ints(&[3])];
    let names = ["k".to_string(), "w".to_string()];
    let f = narrowing("revenue", &names, DataType::Int64, "sum(n)");
    let error = narrow(&f, [vec![totals], keys.clone()].concat()).unwrap_err();
    assert_eq!(
        error.strip_backtrace(),
        "Execution error: view revenue: sum(n) for k = 'it''s', w = 3 is 9223372036854775810, more than BIGINT \
         holds: use sum(CAST(n AS DECIMAL(38, 0)))"
    );
    let fits: ArrayRef = Arc::new(
        Decimal128Array::from(vec![Some(i128::from(i64::MIN))]).with_data_type(DataType::Decimal128(38, 0)),
    );
    let narrowed = narrow(&f, [vec![fits], keys.clone()].concat()).unwrap();
    assert_eq!(narrowed.as_primitive::<Int64Type>().value(0), i64::MIN);
    let null: ArrayRef =
        Arc::new(Decimal128Array::from(vec![None]).with_data_type(DataType::Decimal128(38, 0)));
    assert!(narrow(&f, [vec![null], keys].concat()).unwrap().is_null(0));
}

#[test]
fn only_our_sum_has_a_wide_one() {
    assert!(wide_sum(&function("avg")).is_none());
    assert!(wide_sum(&datafusion::functions_aggregate::sum::sum_udaf()).is_none());
}

#[test]
fn a_damaged_total_is_an_error() {
    let huge: ArrayRef =
        Arc::new(Decimal128Array::from(vec![i128::MAX]).with_data_type(DataType::Decimal128(38, 0)));
    let mut groups = many(&function("sum"), &[DataType::Int64]);
    groups.merge_batch(&[Arc::clone(&huge)], &[0], 1).unwrap();
    assert!(groups.merge_batch(&[huge], &[0], 1).unwrap_err().to_string().contains("damaged"));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_mean_of_integers_is_nearest(values in proptest::collection::vec(any::<i64>(), 1..20)) {
        let exact = Fraction::sum(values.iter().map(|&n| Fraction::new(n.into(), 1.into())));
        let mean = value("avg", &[ints(&values)]);
        let exact = exact.over(&Fraction::whole(values.len() as u64));
        prop_assert!(is_nearest(mean.as_primitive::<Float64Type>().value(0), &exact));
    }

    #[test]
    fn any_bracketing_of_integers_gives_the_same_state(
        (values, deal) in proptest::collection::vec(proptest::option::of(any::<i64>()), 1..30)
            .prop_flat_map(|v| { let n = v.len(); (Just(v), shuffled(n)) }),
        parts in 1usize..5,
    ) {
        let column: ArrayRef = Arc::new(Int64Array::from(values.clone()));
        let groups: Vec<usize> = (0..values.len()).map(|i| i % 3).collect();
        let in_order: Vec<usize> = (0..values.len()).collect();
        for f in [wide_sum(&function("sum")).unwrap(), Arc::new(function("avg"))] {
            let whole = dealt(&f, &[Arc::clone(&column)], &groups, &in_order, 1);
            let pieces = dealt(&f, &[Arc::clone(&column)], &groups, &deal, parts);
            prop_assert_eq!(&whole, &pieces);
        }
    }
}
