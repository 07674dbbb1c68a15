//! One aggregate as several relations, each with a state of its own kind.
//!
//! Not every call has a small state. What a call needs of the events decides what is kept of them:
//!
//! | needs | such as | kept |
//! | --- | --- | --- |
//! | a partial aggregate | `sum`, `max`, `first_value(x ORDER BY y)` | one row for each group |
//! | its values, each once | `count(DISTINCT y)`, `array_agg(DISTINCT y)` | one row for each (group, value) |
//! | how often it saw each value | `median`, `count_by` | one row for each (group, value), with a count |
//! | everything, in order | `array_agg(y ORDER BY z)` | one row for each event |
//!
//! A set of values in each group would make states that grow without bound in one row. Instead
//!
//! ```text
//! SELECT g, f(x), d(DISTINCT y) FROM t GROUP BY g
//! ```
//!
//! becomes an aggregate of the calls with small states, joined to an aggregate over the distinct pairs (g, y):
//!
//! ```text
//! (SELECT g, f(x) FROM t GROUP BY g)  JOIN  (SELECT g, d(y) FROM (SELECT DISTINCT g, y FROM t) GROUP BY g)
//! ```
//!
//! on `g`, nulls equal, and likewise for the other kinds. Cutting the plan then gives one cut for each relation, a
//! sorted relation that folds and merges like any other; the join, `d` and what needs everything run in finish. A
//! `FILTER` becomes a column of the relation, so that a group in which it keeps nothing is still there.
//!
//! Calls that depend on the order of events get one that leaves no ties: the order that they ask for, then
//! (partition, offset), then the values.

use crate::aggregate::{Ordered, counted, in_order, mergeable, ordered};
use crate::cut::{Shape, shape, unalias};
use crate::error::Result;
use crate::place::carry_place;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions::core::named_struct;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use std::sync::Arc;

/// `plan` with the aggregates over streams rewritten whose calls do not all have small states as they are.
pub(crate) fn split_aggregates(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| match &plan {
        LogicalPlan::Aggregate(aggregate) if shape(&aggregate.input)? == Shape::PerEvent => {
            Ok(match Split::try_new(aggregate)? {
                Some(split) => Transformed::yes(split.plan()?),
                None => Transformed::no(plan),
            })
        }
        _ => Ok(Transformed::no(plan)),
    })?;
    Ok(rewritten.data)
}

/// What a call needs of the events.
enum Need {
    /// A partial aggregate: what the call is over the columns of the partial relation.
    Partial(Expr),
    /// Its values, each once.
    Values(AggregateFunction),
    /// How often it saw each value: the function over values and their counts.
    Counts(AggregateFunction, Arc<AggregateUDF>),
    /// Everything, in an order that leaves no ties.
    Rows(AggregateFunction),
}

/// An aggregate that is about to be split.
struct Split<'a> {
    aggregate: &'a Aggregate,
    /// The input, with the place of each event if a call needs it.
    input: LogicalPlan,
    groups: Vec<Expr>,
    /// For each call.
    needs: Vec<Need>,
    /// The calls of the partial relation, under their names.
    partials: Vec<Expr>,
}

impl<'a> Split<'a> {
    /// `None` if all calls have small states as they are, or it cannot be split.
    fn try_new(aggregate: &'a Aggregate) -> Result<Option<Self>> {
        let schema = aggregate.input.schema();
        let mut calls = Vec::new();
        for expr in &aggregate.aggr_expr {
            let Expr::AggregateFunction(call) = unalias(expr) else { return Ok(None) };
            let small = mergeable(call, schema)?.is_ok() && ordered(call, 0).is_none();
            calls.push((call, small));
        }
        if calls.iter().all(|(_, small)| *small) {
            return Ok(None);
        }
        let input = aggregate.input.as_ref().clone();
        let needs_place = calls.iter().any(|(call, small)| !small && depends_on_place(call));
        let (input, place) = if needs_place { carry_place(input)? } else { (input, Vec::new()) };

        let grouping_sets = aggregate.group_expr.iter().any(|e| matches!(e, Expr::GroupingSet(_)));
        let groups = aggregate.group_expr.iter().enumerate();
        let groups =
            groups.map(|(i, e)| if grouping_sets { e.clone() } else { e.clone().alias(format!("g{i}")) });
        let groups = groups.collect();
        let mut split = Self { aggregate, input, groups, needs: Vec::new(), partials: Vec::new() };
        let mut picks = Picks::default();
        for (call, small) in calls {
            let need = if small {
                split.partial_call(call.clone())
            } else {
                match ordered(call, place.len()) {
                    Some(Ordered::Pick(function)) => {
                        picks.add(split.needs.len(), call, function);
                        Need::Partial(lit(false))
                    }
                    Some(Ordered::Sequence(function)) => {
                        let mut call = call.clone();
                        call.func = function;
                        call.params.args.extend(place.iter().cloned());
                        split.partial_call(call)
                    }
                    None => need(call, &place),
                }
            };
            split.needs.push(need);
        }
        for (of, call) in picks.calls(&place) {
            let Need::Partial(row) = split.partial_call(call) else { continue };
            match of.as_slice() {
                [one] => split.needs[*one] = Need::Partial(row),
                _ => of.iter().for_each(|&i| {
                    split.needs[i] = Need::Partial(get_field(row.clone(), format!("v{i}")));
                }),
            }
        }
        let splits = split.needs.iter().any(|need| !matches!(need, Need::Partial(_)));
        Ok(if grouping_sets && splits { None } else { Some(split) })
    }

    /// Adds a call to the partial relation.
    fn partial_call(&mut self, call: AggregateFunction) -> Need {
        let name = format!("p{}", self.partials.len());
        self.partials.push(Expr::AggregateFunction(call).alias(&name));
        Need::Partial(col(name))
    }

    fn keys(&self) -> usize {
        self.aggregate.schema.fields().len() - self.needs.len()
    }

    fn plan(&self) -> Result<LogicalPlan> {
        let mut plan = self.partial()?;
        for (i, need) in self.needs.iter().enumerate() {
            let relation = match need {
                Need::Partial(_) => continue,
                Need::Values(call) => self.over_values(call, i)?,
                Need::Counts(call, weighted) => self.over_counts(call, weighted, i)?,
                Need::Rows(call) => self.over_rows(call, i)?,
            };
            plan = Some(match plan {
                None => relation,
                Some(left) => join_on_groups(left, relation, self.keys(), i)?,
            });
        }
        let Some(plan) = plan else { return Ok(LogicalPlan::Aggregate(self.aggregate.clone())) };
        self.under_its_names(plan)
    }

    /// The groups with the calls that have small states; `None` if a relation of its own has all that is needed.
    fn partial(&self) -> Result<Option<LogicalPlan>> {
        if self.partials.is_empty() && (self.needs.len() == 1 || self.keys() == 0) {
            return Ok(None);
        }
        let plan = LogicalPlanBuilder::from(self.input.clone());
        Ok(Some(plan.aggregate(self.groups.clone(), self.partials.clone())?.build()?))
    }

    /// `SELECT g…, call(y) AS c<i> FROM (SELECT DISTINCT g…, y FROM input) GROUP BY g…`
    fn over_values(&self, call: &AggregateFunction, i: usize) -> Result<LogicalPlan> {
        let params = &call.params;
        let (value, literals) =
            params.args.split_first().map_or((lit(1i64), &[][..]), |(v, l)| (v.clone(), l));
        // Only functions that keep the order of their values take one here: it is that of the values.
        let order = match params.order_by.first() {
            Some(sort) => vec![Sort::new(col("y"), sort.asc, sort.nulls_first)],
            None if in_order(call.func.name()) => vec![Sort::new(col("y"), true, false)],
            None => Vec::new(),
        };
        let over = AggregateFunction::new_udf(
            Arc::clone(&call.func),
            std::iter::once(col("y")).chain(literals.iter().cloned()).collect(),
            false,
            params.filter.as_ref().map(|_| Box::new(col("kept"))),
            order,
            params.null_treatment,
        );
        let pairs = self.pairs(value, params.filter.as_deref(), Vec::new())?;
        self.above(pairs, over, i)
    }

    /// `SELECT g…, weighted(y, n) AS c<i> FROM (SELECT g…, y, count(*) AS n FROM input GROUP BY g…, y) GROUP BY g…`
    fn over_counts(
        &self,
        call: &AggregateFunction,
        weighted: &Arc<AggregateUDF>,
        i: usize,
    ) -> Result<LogicalPlan> {
        let params = &call.params;
        let (value, literals) =
            params.args.split_first().map_or((lit(1i64), &[][..]), |(v, l)| (v.clone(), l));
        let over = AggregateFunction::new_udf(
            Arc::clone(weighted),
            [col("y"), col("n")].into_iter().chain(literals.iter().cloned()).collect(),
            false,
            params.filter.as_ref().map(|_| Box::new(col("kept"))),
            Vec::new(),
            None,
        );
        let count = datafusion::functions_aggregate::expr_fn::count(lit(1i64)).alias("n");
        let pairs = self.pairs(value, params.filter.as_deref(), vec![count])?;
        self.above(pairs, over, i)
    }

    /// The distinct (group, value), with what is counted of each.
    fn pairs(&self, value: Expr, filter: Option<&Expr>, calls: Vec<Expr>) -> Result<LogicalPlanBuilder> {
        let mut pair = self.groups.clone();
        pair.push(value.alias("y"));
        pair.extend(filter.map(|filter| filter.clone().is_true().alias("kept")));
        Ok(LogicalPlanBuilder::from(self.input.clone()).aggregate(pair, calls)?)
    }

    /// `SELECT g…, call(a… ORDER BY o…) AS c<i> FROM (SELECT g…, a…, o… FROM input) GROUP BY g…`
    fn over_rows(&self, call: &AggregateFunction, i: usize) -> Result<LogicalPlan> {
        let params = &call.params;
        let mut columns = self.groups.clone();
        let mut named = |expr: &Expr, name: String| {
            if matches!(expr, Expr::Literal(..)) {
                return expr.clone();
            }
            columns.push(expr.clone().alias(&name));
            col(name)
        };
        let args = params.args.iter().enumerate().map(|(a, e)| named(e, format!("a{a}"))).collect();
        let order = params.order_by.iter().enumerate().map(|(o, sort)| Sort {
            expr: named(&sort.expr, format!("o{o}")),
            asc: sort.asc,
            nulls_first: sort.nulls_first,
        });
        let order = order.collect();
        let filter = params.filter.as_ref().map(|filter| Box::new(named(filter, "kept".into())));
        let func = Arc::clone(&call.func);
        let over =
            AggregateFunction::new_udf(func, args, params.distinct, filter, order, params.null_treatment);
        let rows = LogicalPlanBuilder::from(self.input.clone()).project(columns)?;
        self.above(rows, over, i)
    }

    /// `SELECT g…, call AS c<i> FROM relation GROUP BY g…`
    fn above(&self, relation: LogicalPlanBuilder, call: AggregateFunction, i: usize) -> Result<LogicalPlan> {
        let keys: Vec<Expr> = (0..self.keys()).map(|g| col(format!("g{g}"))).collect();
        let call = Expr::AggregateFunction(call).alias(format!("c{i}"));
        Ok(relation.aggregate(keys, vec![call])?.build()?)
    }

    /// `plan` under the names that the aggregate had.
    fn under_its_names(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let groups = (0..self.keys()).map(|i| {
            let index = plan.schema().fields().iter().position(|f| *f.name() == format!("g{i}"));
            Expr::Column(Column::from(plan.schema().qualified_field(index.unwrap_or(i))))
        });
        let calls = self.needs.iter().enumerate().map(|(i, need)| match need {
            Need::Partial(value) => value.clone(),
            _ => col(format!("c{i}")),
        });
        let named = groups.chain(calls).enumerate().map(|(i, column)| {
            let (qualifier, field) = self.aggregate.schema.qualified_field(i);
            column.alias_qualified(qualifier.cloned(), field.name())
        });
        let named = named.collect();
        Ok(LogicalPlan::Projection(Projection::try_new(named, Arc::new(plan))?))
    }
}

fn need(call: &AggregateFunction, place: &[Expr]) -> Need {
    match counted(call) {
        _ if over_values(call) => Need::Values(call.clone()),
        Some(weighted) => Need::Counts(call.clone(), weighted),
        None => Need::Rows(completed(call, place)),
    }
}

fn depends_on_place(call: &AggregateFunction) -> bool {
    !over_values(call) && counted(call).is_none()
}

/// Whether the call is over one expression, each of its values once, in no order but that of the values.
fn over_values(call: &AggregateFunction) -> bool {
    let params = &call.params;
    let Some((value, rest)) = params.args.split_first() else { return false };
    params.distinct
        && rest.iter().all(|e| matches!(e, Expr::Literal(..)))
        && match params.order_by.as_slice() {
            [] => true,
            [one] => &one.expr == value,
            _ => false,
        }
}

/// The call with an order that leaves no ties: its own, then the place of the event, then the values. A function that
/// takes no order gets its rows in the order of their places as it is.
fn completed(call: &AggregateFunction, place: &[Expr]) -> AggregateFunction {
    let mut call = call.clone();
    if !call.params.distinct && in_order(call.func.name()) {
        let values = call.params.args.iter().filter(|e| !matches!(e, Expr::Literal(..)));
        let more = place.iter().chain(values).map(|e| Sort::new(e.clone(), true, false));
        call.params.order_by.extend(more.collect::<Vec<_>>());
    }
    call
}

/// Calls that pick one row of each group. Those that pick the same row share one state.
#[derive(Default)]
struct Picks<'a>(Vec<(Vec<(usize, &'a AggregateFunction)>, Arc<AggregateUDF>)>);

impl<'a> Picks<'a> {
    fn add(&mut self, i: usize, call: &'a AggregateFunction, function: Arc<AggregateUDF>) {
        let same = |other: &AggregateFunction| {
            let (a, b) = (&call.params, &other.params);
            (&a.order_by, &a.filter, a.args.get(1..)) == (&b.order_by, &b.filter, b.args.get(1..))
                && a.null_treatment != Some(NullTreatment::IgnoreNulls)
        };
        let shared = self.0.iter_mut().find(|(of, f)| *f == function && of.iter().all(|(_, c)| same(c)));
        match shared {
            Some((of, _)) => of.push((i, call)),
            None => self.0.push((vec![(i, call)], function)),
        }
    }

    /// For each row that is picked: the calls that it is for, and the partial aggregate.
    fn calls(self, place: &[Expr]) -> Vec<(Vec<usize>, AggregateFunction)> {
        let one = |(of, function): (Vec<(usize, &AggregateFunction)>, Arc<AggregateUDF>)| {
            let params = &of[0].1.params;
            let value =
                |call: &AggregateFunction| call.params.args.first().cloned().unwrap_or_else(|| lit(true));
            let row = match of.as_slice() {
                [(_, call)] => value(call),
                _ => {
                    let fields = of.iter().flat_map(|(i, call)| [lit(format!("v{i}")), value(call)]);
                    named_struct().call(fields.collect())
                }
            };
            let order = params.order_by.iter().map(|sort| sort.expr.clone());
            let args = std::iter::once(row).chain(order).chain(place.iter().cloned()).collect();
            let filter = params.filter.clone();
            let call = AggregateFunction::new_udf(function, args, false, filter, Vec::new(), None);
            (of.into_iter().map(|(i, _)| i).collect(), call)
        };
        self.0.into_iter().map(one).collect()
    }
}

/// `left JOIN right` on their groups, which are the same on both sides, nulls equal, keeping the columns of `left`
/// and the value of `right`.
fn join_on_groups(left: LogicalPlan, right: LogicalPlan, keys: usize, i: usize) -> Result<LogicalPlan> {
    let keep: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
    if keys == 0 {
        return Ok(LogicalPlanBuilder::from(left).cross_join(right)?.build()?);
    }
    let renamed: Vec<Expr> = (0..keys)
        .map(|g| col(format!("g{g}")).alias(format!("c{i}g{g}")))
        .chain([col(format!("c{i}"))])
        .collect();
    let right = LogicalPlanBuilder::from(right).project(renamed)?.build()?;
    let on: (Vec<Column>, Vec<Column>) = (
        (0..keys).map(|g| Column::new_unqualified(format!("g{g}"))).collect(),
        (0..keys).map(|g| Column::new_unqualified(format!("c{i}g{g}"))).collect(),
    );
    Ok(LogicalPlanBuilder::from(left)
        .join_detailed(right, JoinType::Inner, on, None, NullEquality::NullEqualsNull)?
        .project(keep.into_iter().chain([col(format!("c{i}"))]))?
        .build()?)
}
