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
//! sorted relation that folds and merges like any other; the join, `d` and what needs everything run in finish. Calls
//! over the same values share one relation. A `FILTER` becomes a column of it, so that a group in which it keeps
//! nothing is still there.
//!
//! Calls that depend on the order of events get one that leaves no ties: the order that they ask for, then
//! (partition, offset), then the values.

use crate::aggregate::{Ordered, counted, in_order, mergeable, ordered};
use crate::cut::{Shape, shape, unalias};
use crate::error::Result;
use crate::place::{carry_place, columns};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions::core::named_struct;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::expr_fn::bool_or;
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
        for (value, of) in self.values() {
            let relation = self.over_pairs(value, &of)?;
            plan = Some(join_on_groups(plan, relation, self.keys(), &of)?);
        }
        for (i, need) in self.needs.iter().enumerate() {
            if let Need::Rows(call) = need {
                plan = Some(join_on_groups(plan, self.over_rows(call, i)?, self.keys(), &[i])?);
            }
        }
        let Some(plan) = plan else { return Ok(LogicalPlan::Aggregate(self.aggregate.clone())) };
        self.under_its_names(plan)
    }

    /// What calls need the values of, each once, and which calls.
    fn values(&self) -> Vec<(Expr, Vec<usize>)> {
        let mut values: Vec<(Expr, Vec<usize>)> = Vec::new();
        for (i, need) in self.needs.iter().enumerate() {
            let (Need::Values(call) | Need::Counts(call, _)) = need else { continue };
            let (value, _) = value_and_constants(call);
            match values.iter_mut().find(|(known, _)| *known == value) {
                Some((_, of)) => of.push(i),
                None => values.push((value, vec![i])),
            }
        }
        values
    }

    /// The groups with the calls that have small states; `None` if a relation of its own has all that is needed.
    fn partial(&self) -> Result<Option<LogicalPlan>> {
        if self.partials.is_empty() && (self.needs.len() == 1 || self.keys() == 0) {
            return Ok(None);
        }
        let plan = LogicalPlanBuilder::from(self.input.clone());
        Ok(Some(plan.aggregate(self.groups.clone(), self.partials.clone())?.build()?))
    }

    /// Calls over values or their counts, above one relation that has each (group, value) once:
    ///
    /// ```text
    /// SELECT g…, d(y) FILTER (WHERE k<i>) AS c<i>, weighted(y, n<j>) AS c<j>
    /// FROM (SELECT g…, y, bool_or(filter) AS k<i>, count(*) AS n<j> FROM input GROUP BY g…, y) GROUP BY g…
    /// ```
    fn over_pairs(&self, value: Expr, of: &[usize]) -> Result<LogicalPlan> {
        let (mut of_pair, mut over) = (Vec::new(), Vec::new());
        for &i in of {
            let call = match &self.needs[i] {
                Need::Values(call) => {
                    let kept = call.params.filter.as_ref().map(|filter| {
                        of_pair.push(bool_or(filter.as_ref().clone()).alias(format!("k{i}")));
                        Box::new(col(format!("k{i}")))
                    });
                    over_values(call, kept)
                }
                Need::Counts(call, weighted) => {
                    let filter = call.params.filter.clone();
                    let count = AggregateFunction::new_udf(
                        count_udaf(),
                        vec![lit(1i64)],
                        false,
                        filter,
                        vec![],
                        None,
                    );
                    of_pair.push(Expr::AggregateFunction(count).alias(format!("n{i}")));
                    over_counts(call, weighted, col(format!("n{i}")))
                }
                Need::Partial(_) | Need::Rows(_) => continue,
            };
            over.push(Expr::AggregateFunction(call).alias(format!("c{i}")));
        }
        let pair: Vec<Expr> = self.groups.iter().cloned().chain([value.alias("y")]).collect();
        let pairs = LogicalPlanBuilder::from(self.input.clone()).aggregate(pair, of_pair)?;
        self.above(pairs, over)
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
        self.above(rows, vec![Expr::AggregateFunction(over).alias(format!("c{i}"))])
    }

    /// `SELECT g…, calls… FROM relation GROUP BY g…`
    fn above(&self, relation: LogicalPlanBuilder, calls: Vec<Expr>) -> Result<LogicalPlan> {
        let keys: Vec<Expr> = (0..self.keys()).map(|g| col(format!("g{g}"))).collect();
        Ok(relation.aggregate(keys, calls)?.build()?)
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
        _ if needs_values(call) => Need::Values(call.clone()),
        Some(weighted) => Need::Counts(call.clone(), weighted),
        None => Need::Rows(completed(call, place)),
    }
}

fn depends_on_place(call: &AggregateFunction) -> bool {
    !needs_values(call) && counted(call).is_none()
}

/// Whether the call is over one expression, each of its values once, in no order but that of the values.
fn needs_values(call: &AggregateFunction) -> bool {
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

/// What the call is over, and its further arguments.
fn value_and_constants(call: &AggregateFunction) -> (Expr, &[Expr]) {
    call.params.args.split_first().map_or((lit(1i64), &[]), |(value, constants)| (value.clone(), constants))
}

/// The call over values that come once, those that are `kept`.
fn over_values(call: &AggregateFunction, kept: Option<Box<Expr>>) -> AggregateFunction {
    // Only functions that keep the order of their values take one here: it is that of the values.
    let order = match call.params.order_by.first() {
        Some(sort) => vec![Sort::new(col("y"), sort.asc, sort.nulls_first)],
        None if in_order(call.func.name()) => vec![Sort::new(col("y"), true, false)],
        None => Vec::new(),
    };
    let (_, constants) = value_and_constants(call);
    let args = std::iter::once(col("y")).chain(constants.iter().cloned()).collect();
    AggregateFunction::new_udf(Arc::clone(&call.func), args, false, kept, order, call.params.null_treatment)
}

/// The call over values and how often each came.
fn over_counts(call: &AggregateFunction, weighted: &Arc<AggregateUDF>, count: Expr) -> AggregateFunction {
    let (_, constants) = value_and_constants(call);
    let args = [col("y"), count].into_iter().chain(constants.iter().cloned()).collect();
    AggregateFunction::new_udf(Arc::clone(weighted), args, false, None, Vec::new(), None)
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
struct Picks<'a>(Vec<(PickedFor<'a>, Arc<AggregateUDF>)>);

/// Calls by their number in the aggregate.
type PickedFor<'a> = Vec<(usize, &'a AggregateFunction)>;

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
        let one = |(of, function): (PickedFor<'_>, Arc<AggregateUDF>)| {
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
/// and the values of the calls `of` of `right`.
fn join_on_groups(
    left: Option<LogicalPlan>,
    right: LogicalPlan,
    keys: usize,
    of: &[usize],
) -> Result<LogicalPlan> {
    let Some(left) = left else { return Ok(right) };
    if keys == 0 {
        return Ok(LogicalPlanBuilder::from(left).cross_join(right)?.build()?);
    }
    let name = |g| format!("c{}g{g}", of.first().copied().unwrap_or_default());
    let values: Vec<Expr> = of.iter().map(|i| col(format!("c{i}"))).collect();
    let keep: Vec<Expr> = columns(left.schema()).into_iter().chain(values.iter().cloned()).collect();
    let renamed = (0..keys).map(|g| col(format!("g{g}")).alias(name(g))).chain(values);
    let right = LogicalPlanBuilder::from(right).project(renamed.collect::<Vec<_>>())?.build()?;
    let on: (Vec<Column>, Vec<Column>) = (
        (0..keys).map(|g| Column::new_unqualified(format!("g{g}"))).collect(),
        (0..keys).map(|g| Column::new_unqualified(name(g))).collect(),
    );
    Ok(LogicalPlanBuilder::from(left)
        .join_detailed(right, JoinType::Inner, on, None, NullEquality::NullEqualsNull)?
        .project(keep)?
        .build()?)
}
