//! The laws of a [fold](super::groups::Fold), as one check that the tests of every function run.

use crate::engine;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat, concat_batches, take};
use arrow::datatypes::{Field, FieldRef, Schema};
use arrow::util::display::array_value_to_string;
use arrow::util::pretty::pretty_format_columns;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDF, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use std::sync::Arc;

/// How often a property is tried.
pub(super) fn cases() -> u32 {
    std::env::var("TWOFOLD_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

/// An argument of a call.
#[derive(Debug, Clone)]
pub(super) enum Argument {
    Column(ArrayRef),
    Constant(ScalarValue),
}

impl<A: Array + 'static> From<A> for Argument {
    fn from(column: A) -> Self {
        Self::Column(Arc::new(column))
    }
}

/// A call of a function over rows of a few groups.
#[derive(Debug)]
pub(super) struct Call {
    function: Arc<AggregateUDF>,
    arguments: Vec<Argument>,
    groups: Vec<usize>,
}

type Parts = (ArrayRef, ArrayRef);

impl Call {
    pub(super) fn new(function: Arc<AggregateUDF>, arguments: Vec<Argument>, groups: Vec<usize>) -> Self {
        Self { function, arguments, groups }
    }

    fn with_args<T>(&self, with: impl FnOnce(AccumulatorArgs<'_>) -> T) -> T {
        let fields: Vec<FieldRef> = self.columns(&[]).iter().map(field).collect();
        let exprs: Vec<Arc<dyn PhysicalExpr>> = (self.arguments.iter().enumerate())
            .map(|(i, argument)| match argument {
                Argument::Column(_) => Arc::new(Column::new("a", i)) as Arc<dyn PhysicalExpr>,
                Argument::Constant(value) => Arc::new(Literal::new(value.clone())),
            })
            .collect();
        with(AccumulatorArgs {
            return_field: self.function.return_field(&fields).unwrap(),
            schema: &Schema::new(fields.clone()),
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: "call",
            is_distinct: false,
            exprs: &exprs,
            expr_fields: &fields,
        })
    }

    /// An empty accumulator, or why there is none for these arguments.
    pub(super) fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        self.with_args(|args| self.function.create_groups_accumulator(args))
    }

    fn columns(&self, rows: &[usize]) -> Vec<ArrayRef> {
        let rows: UInt32Array = rows.iter().map(|&row| row as u32).collect();
        let column = |argument: &Argument| match argument {
            Argument::Column(column) => take(column, &rows, None).unwrap(),
            Argument::Constant(value) => value.to_array_of_size(rows.len()).unwrap(),
        };
        self.arguments.iter().map(column).collect()
    }

    fn total(&self) -> usize {
        self.groups.iter().max().map_or(1, |most| most + 1)
    }

    fn folded(&self, rows: &[usize]) -> Box<dyn GroupsAccumulator> {
        let groups: Vec<usize> = rows.iter().map(|&row| self.groups[row]).collect();
        let mut folded = self.accumulator().unwrap();
        folded.update_batch(&self.columns(rows), &groups, None, self.total()).unwrap();
        folded
    }

    /// The values of the groups.
    pub(super) fn values(&self) -> ArrayRef {
        self.parts(|| self.folded(&self.all())).1
    }

    fn all(&self) -> Vec<usize> {
        (0..self.groups.len()).collect()
    }

    fn parts(&self, make: impl Fn() -> Box<dyn GroupsAccumulator>) -> Parts {
        (make().state(EmitTo::All).unwrap().remove(0), make().evaluate(EmitTo::All).unwrap())
    }

    fn merged(&self, states: &[ArrayRef]) -> Box<dyn GroupsAccumulator> {
        let mut merged = self.accumulator().unwrap();
        let groups: Vec<usize> = (0..self.total()).collect();
        for state in states {
            merged.merge_batch(std::slice::from_ref(state), &groups, groups.len()).unwrap();
        }
        merged
    }

    /// Fails if a law does not hold; `seed` chooses another order of the rows and where to cut them.
    pub(super) fn check(&self, seed: u64) {
        let whole = self.parts(|| self.folded(&self.all()));
        let shuffled = shuffled(self.groups.len(), seed);
        let (a, b) = shuffled.split_at(seed as usize % (shuffled.len() + 1));
        let [a, b] = [a, b].map(|rows| self.folded(rows).state(EmitTo::All).unwrap().remove(0));
        let nothing = self.merged(&[]).state(EmitTo::All).unwrap();
        if self.total() == 1 {
            assert!(nothing[0].is_empty(), "an accumulator without groups has states");
        }
        assert_same("any order", &whole, &self.parts(|| self.folded(&shuffled)));
        assert_same("any bracketing", &whole, &self.parts(|| self.merged(&[b.clone(), a.clone()])));
        assert_same("any bracketing", &whole, &self.parts(|| self.merged(&[a.clone(), b.clone()])));
        assert_same("a state of itself", &whole, &self.parts(|| self.merged(std::slice::from_ref(&whole.0))));
        self.check_row_states(&whole);
        self.check_first(&whole);
        for group in 0..self.total() {
            self.check_one(group, &whole);
        }
    }

    /// Every row as a state of its own; and half of them left out by a filter are as if they were not there.
    fn check_row_states(&self, whole: &Parts) {
        let states = self.accumulator().unwrap().convert_to_state(&self.columns(&self.all()), None).unwrap();
        let merge = || {
            let mut merged = self.accumulator().unwrap();
            merged.merge_batch(&states, &self.groups, self.total()).unwrap();
            merged
        };
        assert_same("states of rows", whole, &self.parts(merge));
        let filter: BooleanArray =
            self.all().iter().map(|row| [Some(true), Some(false), None][row % 3]).collect();
        let filtered = || {
            let mut filtered = self.accumulator().unwrap();
            let all = self.columns(&self.all());
            filtered.update_batch(&all, &self.groups, Some(&filter), self.total()).unwrap();
            filtered
        };
        let kept: Vec<usize> = self.all().into_iter().filter(|row| row % 3 == 0).collect();
        assert_same("filter", &self.parts(|| self.folded(&kept)), &self.parts(filtered));
    }

    /// Groups that leave before the others.
    fn check_first(&self, whole: &Parts) {
        let mut values = self.folded(&self.all());
        let first = values.evaluate(EmitTo::First(1)).unwrap();
        let rest = values.evaluate(EmitTo::All).unwrap();
        let both = concat(&[first.as_ref(), rest.as_ref()]).unwrap();
        assert_eq!(both.to_data(), whole.1.to_data(), "the first group and then the rest");
    }

    /// One group by itself, which is asked for its value more than once.
    fn check_one(&self, group: usize, whole: &Parts) {
        let rows: Vec<usize> = self.all().into_iter().filter(|&row| self.groups[row] == group).collect();
        let mut one = self.with_args(|args| self.function.accumulator(args)).unwrap();
        for half in [&rows[..rows.len() / 2], &rows[rows.len() / 2..]] {
            one.update_batch(&self.columns(half)).unwrap();
            one.evaluate().unwrap();
        }
        let mut merged = self.with_args(|args| self.function.accumulator(args)).unwrap();
        let state = one.state().unwrap().remove(0).to_array().unwrap();
        merged.merge_batch(std::slice::from_ref(&state)).unwrap();
        for mut one in [one, merged] {
            let state = one.state().unwrap().remove(0).to_array().unwrap();
            let value = one.evaluate().unwrap().to_array().unwrap();
            let expected = (whole.0.slice(group, 1), whole.1.slice(group, 1));
            assert_same("one group", &expected, &(state, value));
        }
    }
}

fn field(column: &ArrayRef) -> FieldRef {
    Arc::new(Field::new("a", column.data_type().clone(), true))
}

fn assert_same(law: &str, expected: &Parts, found: &Parts) {
    for (what, expected, found) in [("states", &expected.0, &found.0), ("values", &expected.1, &found.1)] {
        // As data, and so bit for bit; shown as text.
        let shown = |rows| pretty_format_columns(what, std::slice::from_ref(rows)).unwrap();
        let same = expected.to_data() == found.to_data();
        assert!(same, "{law}: expected\n{}\nfound\n{}", shown(expected), shown(found));
    }
}

/// The numbers below `n` in an order that follows from the seed.
fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| (i as u64 + 1).wrapping_mul(seed | 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
    order
}

/// The rows that a query over the table `t` of these columns gives.
pub(super) fn query(
    sql: &str,
    columns: Vec<(&str, ArrayRef)>,
    functions: &[Arc<AggregateUDF>],
) -> Result<RecordBatch> {
    let session = engine::session();
    functions.iter().for_each(|function| session.register_udaf(function.as_ref().clone()));
    session.register_batch(
        "t",
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )?,
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let frame = session.sql(sql).await?;
        let schema = Arc::clone(frame.schema().inner());
        Ok(concat_batches(&schema, &frame.collect().await?)?)
    })
}

/// The same as text, one line for each row.
pub(super) fn answer(sql: &str, columns: Vec<(&str, ArrayRef)>) -> Result<Vec<String>> {
    let rows = query(sql, columns, &[])?;
    let cell = |column: &ArrayRef, row| array_value_to_string(column, row).unwrap();
    let line = |row| rows.columns().iter().map(|c| cell(c, row)).collect::<Vec<_>>().join(" ");
    Ok((0..rows.num_rows()).map(line).collect())
}
