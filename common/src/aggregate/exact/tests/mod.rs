//! Tests of the exact aggregates, against arithmetic in whole numbers.

mod decimals;
mod integers;
mod number;
mod oracle;
mod speed;
mod sql;
mod statistics;
mod sums;

use super::functions;
use arrow::array::{ArrayRef, BooleanArray, Float64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use proptest::prelude::*;
use std::sync::Arc;

fn config() -> ProptestConfig {
    let cases = std::env::var("TWOFOLD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    ProptestConfig { cases: cases * 8, failure_persistence: None, ..ProptestConfig::default() }
}

/// Doubles of every kind: any bits at all, numbers as people have them, and the ends of the range.
fn double() -> impl Strategy<Value = f64> {
    let ends = [0.0, -0.0, f64::MAX, f64::MIN, 5e-324, -5e-324, f64::MIN_POSITIVE, 1.0, -1.0, 1e308];
    prop_oneof![
        3 => any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()),
        3 => (-1_000_000i32..1_000_000).prop_map(|n| f64::from(n) / 100.0),
        1 => (0u64..1 << 52).prop_map(f64::from_bits),
        1 => proptest::sample::select(ends.to_vec()),
    ]
}

/// The same, and what is no number.
fn wild_double() -> impl Strategy<Value = f64> {
    let wild = vec![f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN];
    prop_oneof![30 => double(), 1 => proptest::sample::select(wild)]
}

fn doubles(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn function(name: &str) -> AggregateUDF {
    functions().into_iter().find(|f| f.name() == name).expect("one of ours")
}

/// Calls `with` with what a plan would give the function over columns of these types.
fn with_args<T>(f: &AggregateUDF, types: &[DataType], with: impl FnOnce(AccumulatorArgs<'_>) -> T) -> T {
    let fields: Vec<FieldRef> = types
        .iter()
        .enumerate()
        .map(|(i, t)| Arc::new(Field::new(format!("c{i}"), t.clone(), true)))
        .collect();
    let schema = Schema::new(fields.clone());
    let column = |i| Arc::new(Column::new(&format!("c{i}"), i)) as Arc<dyn PhysicalExpr>;
    let exprs: Vec<_> = (0..types.len()).map(column).collect();
    with(AccumulatorArgs {
        return_field: f.return_field(&fields).unwrap(),
        schema: &schema,
        ignore_nulls: false,
        order_bys: &[],
        is_reversed: false,
        name: &format!("{}(n)", f.name()),
        is_distinct: false,
        exprs: &exprs,
        expr_fields: &fields,
    })
}

fn types(columns: &[ArrayRef]) -> Vec<DataType> {
    columns.iter().map(|c| c.data_type().clone()).collect()
}

fn many(f: &AggregateUDF, types: &[DataType]) -> Box<dyn GroupsAccumulator> {
    with_args(f, types, |args| {
        assert!(f.groups_accumulator_supported(args));
    });
    with_args(f, types, |args| f.create_groups_accumulator(args)).unwrap()
}

fn one(f: &AggregateUDF, types: &[DataType]) -> Box<dyn Accumulator> {
    with_args(f, types, |args| f.accumulator(args)).unwrap()
}

/// The value of all rows as one group.
fn value(name: &str, columns: &[ArrayRef]) -> ArrayRef {
    try_value(&function(name), columns).unwrap()
}

fn try_value(f: &AggregateUDF, columns: &[ArrayRef]) -> datafusion::error::Result<ArrayRef> {
    let mut groups = many(f, &types(columns));
    groups.update_batch(columns, &vec![0; columns[0].len()], None, 1)?;
    groups.evaluate(EmitTo::All)
}

/// Law 3, any bracketing, and no order: the rows are dealt to `parts` folds as `deal` says, each fold sees them in
/// that order, and the states are merged two by two. Returns the state and the value, per group.
fn dealt(
    f: &AggregateUDF,
    columns: &[ArrayRef],
    groups: &[usize],
    deal: &[usize],
    parts: usize,
) -> (Vec<ArrayRef>, ArrayRef) {
    let total = groups.iter().max().map_or(0, |&g| g + 1);
    let types = types(columns);
    let mut states: Vec<Vec<ArrayRef>> = Vec::new();
    for part in 0..parts {
        let rows: Vec<u64> = deal.iter().filter(|&&r| r % parts == part).map(|&r| r as u64).collect();
        let picked = |c: &ArrayRef| take(c, &arrow::array::UInt64Array::from(rows.clone()), None).unwrap();
        let part: Vec<ArrayRef> = columns.iter().map(picked).collect();
        let own: Vec<usize> = rows.iter().map(|&r| groups[r as usize]).collect();
        let mut fold = many(f, &types);
        fold.update_batch(&part, &own, None, total).unwrap();
        states.push(fold.state(EmitTo::All).unwrap());
    }
    let all: Vec<usize> = (0..total).collect();
    while states.len() > 1 {
        let (b, a) = (states.swap_remove(0), states.pop().unwrap());
        let mut merge = many(f, &types);
        merge.merge_batch(&a, &all, total).unwrap();
        merge.merge_batch(&b, &all, total).unwrap();
        states.push(merge.state(EmitTo::All).unwrap());
    }
    let state = states.pop().unwrap();
    let mut finish = many(f, &types);
    finish.merge_batch(&state, &all, total).unwrap();
    (state, finish.evaluate(EmitTo::All).unwrap())
}

/// Orders of the rows: as they are, backwards, and shuffled.
fn shuffled(rows: usize) -> impl Strategy<Value = Vec<usize>> {
    Just((0..rows).collect::<Vec<_>>()).prop_shuffle()
}

fn filter(kept: &[bool]) -> BooleanArray {
    BooleanArray::from(kept.to_vec())
}
