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

mod grouping;
mod need;
mod picks;

use crate::aggregate::{Ordered, mergeable, ordered};
use crate::error::Result;
use crate::expr::{columns, unalias};
use crate::place::carry_place;
use crate::shape::{Shape, shape};
use crate::windowed::session::as_session;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchemaRef, JoinType, NullEquality};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions_aggregate::bool_and_or::bool_or_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::expr_fn::bool_or;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::logical_plan::{Aggregate, Projection};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, col, lit};
use grouping::{Grouping, Pair, group};
use need::{Need, depends_on_place, over_counts, over_values, value_and_constants};
use picks::Picks;
use std::sync::Arc;

/// `plan` with the aggregates over streams rewritten whose calls do not all have small states as they are.
pub(crate) fn split_aggregates(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|plan| {
        let split = match &plan {
            LogicalPlan::Aggregate(aggregate) => split_aggregate(aggregate)?,
            other => match as_session(other) {
                Some(node) => {
                    let grouping =
                        Grouping::Sessions { window: node.window.clone(), keys: node.keys.clone() };
                    split(&node.input, grouping, &node.calls, &node.schema)?
                }
                None => None,
            },
        };
        Ok(split.map_or_else(|| Transformed::no(plan), Transformed::yes))
    })?;
    Ok(rewritten.data)
}

/// The aggregate over streams as several relations; `None` if all of its calls have small states, or it cannot be
/// split.
pub(crate) fn split_aggregate(aggregate: &Aggregate) -> Result<Option<LogicalPlan>> {
    match Grouping::of(&aggregate.group_expr) {
        Some(grouping) => split(&aggregate.input, grouping, &aggregate.aggr_expr, &aggregate.schema),
        None => Ok(None),
    }
}

fn split(
    input: &LogicalPlan,
    grouping: Grouping,
    calls: &[Expr],
    schema: &DFSchemaRef,
) -> Result<Option<LogicalPlan>> {
    if shape(input)? != Shape::PerEvent {
        return Ok(None);
    }
    // The sets of no key have a row without events too, which only an aggregate without keys gives: states have none.
    let (keyed, totals) = grouping.apart(schema)?;
    let mut parts = Vec::new();
    if let Some(keyed) = keyed {
        let Some(split) = Split::try_new(input, keyed, calls)? else { return Ok(None) };
        if totals.is_empty() && split.whole {
            return Ok(None);
        }
        parts.push(split.plan_under(schema, split.grouping.columns())?);
    }
    for keys in totals {
        parts.push(match Split::try_new(input, Grouping::Keys(Vec::new()), calls)? {
            Some(total) => total.plan_under(schema, keys)?,
            None => return Ok(None),
        });
    }
    let plan =
        parts.into_iter().map(Ok).reduce(|all, part| LogicalPlanBuilder::from(all?).union(part?)?.build());
    match plan.transpose()? {
        Some(plan) => Ok(Some(named_as(schema, columns(plan.schema()), plan)?)),
        None => Ok(None),
    }
}

/// An aggregate that is about to be split.
struct Split {
    /// The input, with the place of each event if a call needs it.
    input: LogicalPlan,
    grouping: Grouping,
    /// Whether all calls have small states as they are.
    whole: bool,
    /// For each call.
    needs: Vec<Need>,
    /// The calls of the partial relation, with their names.
    partials: Vec<(Expr, String)>,
}

impl Split {
    /// `None` if one is no call of an aggregate.
    fn try_new(input: &LogicalPlan, grouping: Grouping, exprs: &[Expr]) -> Result<Option<Self>> {
        let mut calls = Vec::new();
        for expr in exprs {
            let Expr::AggregateFunction(call) = unalias(expr) else { return Ok(None) };
            let small = mergeable(call, input.schema())?.is_ok() && ordered(call, 0).is_none();
            calls.push((call, small));
        }
        let whole = calls.iter().all(|(_, small)| *small);
        let needs_place = calls.iter().any(|(call, small)| !small && depends_on_place(call));
        let (input, place) =
            if needs_place { carry_place(input.clone())? } else { (input.clone(), Vec::new()) };
        let mut split = Self { input, grouping, whole, needs: Vec::new(), partials: Vec::new() };
        let mut picks = Picks::default();
        for (call, small) in calls {
            let need = match ordered(call, place.len()) {
                _ if small => split.partial_call(call.clone()),
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
                None => Need::of(call, &place),
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
        Ok(Some(split))
    }

    /// Adds a call to the partial relation.
    fn partial_call(&mut self, call: AggregateFunction) -> Need {
        let name = format!("p{}", self.partials.len());
        self.partials.push((Expr::AggregateFunction(call), name.clone()));
        Need::Partial(col(name))
    }

    /// Columns `g0, …`, and for each call what it needs is of: `p<j>` or `c<i>`.
    fn plan(&self) -> Result<LogicalPlan> {
        let keys = self.grouping.keys();
        let mut plan = self.partial()?;
        for (value, of) in self.values() {
            let relation = self.over_pairs(&value, &of)?;
            plan = Some(join_on_groups(plan, relation, keys, &of)?);
        }
        for (i, need) in self.needs.iter().enumerate() {
            if let Need::Rows(call) = need {
                plan = Some(join_on_groups(plan, self.over_rows(call, i)?, keys, &[i])?);
            }
        }
        match plan {
            Some(plan) => Ok(plan),
            None if self.needs.is_empty() && keys == 0 => Ok(LogicalPlanBuilder::empty(true).build()?),
            None => self.grouping.aggregate(self.input.clone(), None, self.partials.clone()),
        }
    }

    /// The aggregate under its names; `keys` are those of its columns over [`plan`](Self::plan).
    fn plan_under(&self, schema: &DFSchemaRef, keys: Vec<Expr>) -> Result<LogicalPlan> {
        let calls = self.needs.iter().enumerate().map(|(i, need)| match need {
            Need::Partial(value) => value.clone(),
            _ => col(format!("c{i}")),
        });
        named_as(schema, keys.into_iter().chain(calls).collect(), self.plan()?)
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
        if self.partials.is_empty() && (self.needs.len() == 1 || self.grouping.keys() == 0) {
            return Ok(None);
        }
        Ok(Some(self.grouping.aggregate(self.input.clone(), None, self.partials.clone())?))
    }

    /// Calls over values or their counts, above one relation that has each (group, value) once:
    ///
    /// ```text
    /// SELECT g…, d(y) FILTER (WHERE k<i>) AS c<i>, weighted(y, n<j>) AS c<j>
    /// FROM (SELECT g…, y, bool_or(filter) AS k<i>, count(*) AS n<j> FROM input GROUP BY g…, y) GROUP BY g…
    /// ```
    fn over_pairs(&self, value: &Expr, of: &[usize]) -> Result<LogicalPlan> {
        let (mut of_pair, mut over) = (Vec::new(), Vec::new());
        for &i in of {
            let call = match &self.needs[i] {
                Need::Values(call) => {
                    let kept = call.params.filter.as_ref().map(|filter| {
                        let name = format!("k{i}");
                        let kept = Box::new(col(&name));
                        let of_rows = bool_or(filter.as_ref().clone());
                        of_pair.push(Pair { name, of_rows, together: bool_or_udaf() });
                        kept
                    });
                    over_values(call, kept)
                }
                Need::Counts(call, weighted) => {
                    let filter = call.params.filter.clone();
                    let one = vec![lit(1i64)];
                    let count = AggregateFunction::new_udf(count_udaf(), one, false, filter, vec![], None);
                    let (name, of_rows) = (format!("n{i}"), Expr::AggregateFunction(count));
                    let counted = col(&name);
                    of_pair.push(Pair { name, of_rows, together: sum_udaf() });
                    over_counts(call, weighted, counted)
                }
                Need::Partial(_) | Need::Rows(_) => continue,
            };
            over.push((Expr::AggregateFunction(call), format!("c{i}")));
        }
        let pairs = self.grouping.values(self.input.clone(), value, of_pair)?;
        self.grouping.of_values().aggregate(pairs, None, over)
    }

    /// `SELECT g…, call(a… ORDER BY o…) AS c<i> FROM (SELECT g…, a…, o… FROM input) GROUP BY g…`
    fn over_rows(&self, call: &AggregateFunction, i: usize) -> Result<LogicalPlan> {
        let params = &call.params;
        let groups = self.grouping.expressions().into_iter().enumerate();
        let mut columns: Vec<Expr> = groups.map(|(g, e)| e.alias(format!("g{g}"))).collect();
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
        let rows = LogicalPlanBuilder::from(self.input.clone()).project(columns)?.build()?;
        let calls = vec![(Expr::AggregateFunction(over), format!("c{i}"))];
        self.grouping.over_expressions().aggregate(rows, None, calls)
    }
}

/// `exprs` over `plan` under the names and with the types of `schema`.
fn named_as(schema: &DFSchemaRef, exprs: Vec<Expr>, plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut named = Vec::new();
    for (i, expr) in exprs.into_iter().enumerate() {
        let (qualifier, field) = schema.qualified_field(i);
        let expr = expr.cast_to(field.data_type(), plan.schema())?;
        named.push(expr.alias_qualified(qualifier.cloned(), field.name()));
    }
    Ok(LogicalPlan::Projection(Projection::try_new(named, Arc::new(plan))?))
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
    let renamed = (0..keys).map(|g| group(g).alias(name(g))).chain(values);
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
