//! Reads only the panes of the windows that a query asks for.
//!
//! A filter on the start or the end of windows stands above the list of all windows that each pane is in: of the panes
//! of an hour, sliding by the second, one window needs a sixth, and of their windows one in six hundred. This rule of
//! the optimizer turns
//!
//! ```text
//! Filter: window['end'] = x
//!   Unnest: window
//!     pane_windows(pane, …) AS window
//! ```
//!
//! into the same with bounds for the list, and a filter of the panes below it, which goes down to the scan by itself.
//! An aggregate by windows of which one is left needs no list at all.

use super::flatten::WINDOW;
use crate::windows::{is_pane_windows, nanos, pane_windows_within};
use arrow::array::StructArray;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions::core::getfield::GetFieldFunc;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::logical_plan::{Aggregate, Filter, Projection, Unnest};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, lit};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// The rule.
#[derive(Debug)]
pub(crate) struct PrunePanes;

impl OptimizerRule for PrunePanes {
    fn name(&self) -> &str {
        "prune_panes"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        Ok(match of_one_window(&plan)?.map_or_else(|| pruned(&plan), |plan| Ok(Some(plan)))? {
            Some(pruned) => Transformed::yes(pruned),
            None => Transformed::no(plan),
        })
    }
}

/// When a window may start, in ticks: from, inclusive, until, exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Starts {
    from: Option<i64>,
    until: Option<i64>,
}

/// A filter over the list of all windows that each pane is in.
struct Panes<'a> {
    filter: &'a Filter,
    unnest: &'a Unnest,
    projection: &'a Projection,
    window: &'a Column,
    /// Which column of the projection it is.
    at: usize,
    call: &'a ScalarFunction,
    pane: &'a Expr,
    /// The type of starts and ends.
    time: DataType,
    /// How long a window is, in ticks.
    size: i64,
    starts: Starts,
}

impl<'a> Panes<'a> {
    /// `None` if the plan is something else, or the filter sets no bound.
    fn under(plan: &'a LogicalPlan) -> Result<Option<Self>> {
        let LogicalPlan::Filter(filter) = plan else { return Ok(None) };
        let LogicalPlan::Unnest(unnest) = filter.input.as_ref() else { return Ok(None) };
        let LogicalPlan::Projection(projection) = unnest.input.as_ref() else { return Ok(None) };
        let [window] = unnest.exec_columns.as_slice() else { return Ok(None) };
        let Some(at) = projection.schema.maybe_index_of_column(window) else { return Ok(None) };
        let Some((call, pane)) = pane_windows_call(&projection.expr[at]) else { return Ok(None) };
        let DataType::Struct(fields) = pane.get_type(projection.input.schema())? else { return Ok(None) };
        let Some(time) = fields.first().map(|f| f.data_type().clone()) else { return Ok(None) };
        let Some(size) = call.args.get(2).and_then(|size| ticks(size, &time)) else { return Ok(None) };
        let Some(starts) = starts(&filter.predicate, window, size) else { return Ok(None) };
        Ok(Some(Self { filter, unnest, projection, window, at, call, pane, time, size, starts }))
    }

    fn moment(&self, ticks: Option<i64>) -> Result<Expr> {
        Ok(lit(ScalarValue::Int64(ticks).cast_to(&self.time)?))
    }

    /// The input with the panes only of windows that may be asked for.
    fn input(&self) -> Result<LogicalPlan> {
        let mut input = LogicalPlanBuilder::from(self.projection.input.as_ref().clone());
        let start = || get_field(self.pane.clone(), "start");
        if self.starts.from.is_some() {
            input = input.filter(start().gt_eq(self.moment(self.starts.from)?))?;
        }
        if let Some(until) = self.starts.until {
            // The last window that may be asked for starts one tick before, and its last pane before its end.
            let end = until.saturating_sub(1).saturating_add(self.size);
            input = input.filter(start().lt(self.moment(Some(end))?))?;
        }
        input.build()
    }

    /// The start and the end of the window that is asked for, if it is one.
    fn one_window(&self) -> Option<(i64, i64)> {
        let Starts { from: Some(from), until: Some(until) } = self.starts else { return None };
        let step = self.call.args.get(1).and_then(|slide| ticks(slide, &self.time))?;
        let offset = self.call.args.get(3).map_or(Some(0), |offset| ticks(offset, &self.time))?;
        let (from, step) = (i128::from(from), i128::from(step).max(1));
        let before = (i128::from(offset) - from).rem_euclid(step);
        let start = i64::try_from(from + before).ok()?;
        let end = start.checked_add(self.size)?;
        // At the ends of time windows are cut off, so that several may have one start or end.
        let whole = start > i64::MIN && end < i64::MAX;
        (whole && start < until && i128::from(start) + step >= i128::from(until)).then_some((start, end))
    }

    /// The window with these bounds as a constant.
    fn constant(&self, (start, end): (i64, i64)) -> Result<Option<Expr>> {
        let DataType::Struct(fields) = self.unnest.schema.field(self.at).data_type() else { return Ok(None) };
        let bound = |ticks| ScalarValue::Int64(Some(ticks)).cast_to(&self.time)?.to_array();
        let window = StructArray::try_new(fields.clone(), vec![bound(start)?, bound(end)?], None)?;
        Ok(Some(lit(ScalarValue::Struct(Arc::new(window)))))
    }
}

fn pruned(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let Some(panes) = Panes::under(plan)? else { return Ok(None) };
    let Panes { filter, unnest, projection, window, at, call, starts, .. } = &panes;
    let offset = call.args.get(3).cloned().unwrap_or_else(|| constant_interval(0));
    let bounds = [offset, panes.moment(starts.from)?, panes.moment(starts.until)?];
    let mut exprs = projection.expr.clone();
    exprs[*at] =
        pane_windows_within(call.args[..3].iter().cloned().chain(bounds).collect()).alias(&window.name);
    let input = Projection::try_new(exprs, Arc::new(panes.input()?))?;
    let input = Arc::new(LogicalPlan::Projection(input));
    let unnest = Unnest::try_new(input, unnest.exec_columns.clone(), unnest.options.clone())?;
    let unnest = Arc::new(LogicalPlan::Unnest(unnest));
    Ok(Some(LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), unnest)?)))
}

/// An aggregate of one window: it is the same in all rows, so that nothing is listed, and it is no key.
fn of_one_window(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(None) };
    let Some(panes) = Panes::under(&aggregate.input)? else { return Ok(None) };
    let is_window = |expr: &Expr| matches!(expr, Expr::Column(column) if column == panes.window);
    let (windows, others): (Vec<&Expr>, Vec<&Expr>) = aggregate.group_expr.iter().partition(|e| is_window(e));
    let simple = others.iter().all(|key| matches!(key, Expr::Column(_)));
    // Without another key there would be a group even if there is no pane.
    if windows.len() != 1 || others.is_empty() || !simple {
        return Ok(None);
    }
    let Some((start, end)) = panes.one_window() else { return Ok(None) };
    let panes = Panes { starts: Starts { from: Some(start), until: Some(start + 1) }, ..panes };
    let Some(constant) = panes.constant((start, end))? else { return Ok(None) };

    let mut exprs = panes.projection.expr.clone();
    let of_row = constant.clone().alias_qualified(panes.window.relation.clone(), &panes.window.name);
    exprs[panes.at] = of_row;
    let rows = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(panes.input()?))?);
    let rows = LogicalPlan::Filter(Filter::try_new(panes.filter.predicate.clone(), Arc::new(rows))?);
    let keys = others.into_iter().cloned().collect();
    let groups = Aggregate::try_new(Arc::new(rows), keys, aggregate.aggr_expr.clone())?;
    let columns = aggregate.schema.iter().enumerate().map(|(i, (qualifier, field))| {
        match aggregate.group_expr.get(i).is_some_and(is_window) {
            true => constant.clone().alias_qualified(qualifier.cloned(), field.name()),
            false => Expr::Column(Column::from((qualifier, field))),
        }
    });
    let columns = columns.collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(LogicalPlan::Aggregate(groups)))?)))
}

/// `pane_windows(pane, …)`, and the pane.
pub(super) fn pane_windows_call(expr: &Expr) -> Option<(&ScalarFunction, &Expr)> {
    match expr {
        Expr::Alias(alias) => pane_windows_call(&alias.expr),
        Expr::ScalarFunction(call) if is_pane_windows(expr) => Some((call, call.args.first()?)),
        _ => None,
    }
}

/// `INTERVAL` of so many nanoseconds.
pub(super) fn constant_interval(nanos: i64) -> Expr {
    lit(ScalarValue::new_interval_mdn(0, 0, nanos))
}

/// A constant interval in ticks of a type of timestamps, if it is whole ticks.
fn ticks(interval: &Expr, time: &DataType) -> Option<i64> {
    let DataType::Timestamp(unit, _) = time else { return None };
    let tick = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    let nanos = nanos(interval).ok()?;
    (nanos % tick == 0).then_some(nanos / tick)
}

/// The bounds that a predicate sets; `None` if it sets none.
fn starts(predicate: &Expr, window: &Column, size: i64) -> Option<Starts> {
    let mut starts = Starts { from: None, until: None };
    for part in split_conjunction(predicate) {
        let Expr::BinaryExpr(binary) = part else { continue };
        let (bound, op, value) = match (bound(&binary.left, window), bound(&binary.right, window)) {
            (Some(bound), None) => (bound, binary.op, &binary.right),
            (None, Some(bound)) => match binary.op.swap() {
                Some(op) => (bound, op, &binary.left),
                None => continue,
            },
            _ => continue,
        };
        let Some(value) = timestamp(value) else { continue };
        let start = match bound {
            Bound::Start => value,
            Bound::End => value.saturating_sub(size),
        };
        let from = match op {
            Operator::Eq | Operator::GtEq => Some(start),
            Operator::Gt => Some(start.saturating_add(1)),
            _ => None,
        };
        let until = match op {
            Operator::Eq | Operator::LtEq => Some(start.saturating_add(1)),
            Operator::Lt => Some(start),
            _ => None,
        };
        starts.from = starts.from.max(from);
        starts.until = match (starts.until, until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    (starts.from.is_some() || starts.until.is_some()).then_some(starts)
}

enum Bound {
    Start,
    End,
}

/// Which end of the window the expression is.
fn bound(expr: &Expr, window: &Column) -> Option<Bound> {
    let Expr::ScalarFunction(call) = expr else { return None };
    let [Expr::Column(column), Expr::Literal(name, _)] = call.args.as_slice() else { return None };
    if !call.func.inner().is::<GetFieldFunc>()
        || column.name != window.name
        || !column.name.starts_with(WINDOW)
    {
        return None;
    }
    match name.try_as_str()?? {
        "start" => Some(Bound::Start),
        "end" => Some(Bound::End),
        _ => None,
    }
}

fn timestamp(value: &Expr) -> Option<i64> {
    match value {
        Expr::Literal(
            ScalarValue::TimestampSecond(ticks, _)
            | ScalarValue::TimestampMillisecond(ticks, _)
            | ScalarValue::TimestampMicrosecond(ticks, _)
            | ScalarValue::TimestampNanosecond(ticks, _),
            _,
        ) => *ticks,
        _ => None,
    }
}
