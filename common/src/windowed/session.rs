//! Sessions: events of one key, each at most a gap after the one before it.
//!
//! A session is the interval from its first event to a gap after its last. A set of sessions is mergeable: put
//! together, those that overlap or touch become one, and so do their states:
//!
//! ```text
//! sessions(A + B) = merge(sessions(A), sessions(B))        for any two sets of events A and B
//! ```
//!
//! because an event is itself a session `[ts, ts + gap)`, and the union of intervals does not depend on their order.
//! One relational plan does all three, over events and over sessions: sort by start, begin a new session where the
//! start lies after every end before it, number the sessions by counting beginnings, and aggregate by the number.

use super::flatten::{Parts, WINDOW};
use super::hop::under_its_names;
use crate::error::{Error, Result};
use crate::expr::columns;
use crate::windows::event_session;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchemaRef, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::functions::core::named_struct;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprFunctionExt, Extension, LogicalPlan, LogicalPlanBuilder,
    UserDefinedLogicalNodeCore, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
    col, lit, when,
};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

/// An aggregate by the sessions of each combination of keys: columns `g0, …`, the window, the values `y0, …` by which
/// the rows of a session are told apart, if there are any, then the calls' `v0, …`.
///
/// Filters are not pushed below it: which events there are decides which sessions there are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionAggregate {
    pub(crate) input: LogicalPlan,
    /// The interval of a row: of one event alone `event_session(ts, gap)`, or a session of some of them.
    pub(crate) window: Expr,
    pub(crate) keys: Vec<Expr>,
    /// One row for each of these in a session, rather than one.
    pub(crate) within: Vec<Expr>,
    pub(crate) calls: Vec<Expr>,
    pub(crate) schema: DFSchemaRef,
}

impl PartialOrd for SessionAggregate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

/// The session aggregate under the names of the aggregate that it stands for.
pub(super) fn aggregate(window: Expr, parts: Parts) -> Result<LogicalPlan> {
    let Expr::ScalarFunction(call) = window else {
        return Err(Error::Internal("a session is no call".into()));
    };
    let others = parts.others();
    let (time_and_gap, named) = call.args.split_at(call.args.len().min(2));
    let missing =
        named.iter().find(|key| !others.contains(key)).or(others.iter().find(|key| !named.contains(key)));
    if let (false, Some(key)) = (named.is_empty(), missing) {
        return Err(Error::Invalid(format!(
            "the sessions are of each combination of ({}), so they must be grouped by these and by the window, and by \
             nothing else; {key} is not in both",
            named.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )));
    }
    let node = SessionAggregate::try_new(
        parts.input.clone(),
        event_session(time_and_gap.to_vec()),
        others,
        vec![],
        parts.calls.clone(),
    )?;
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    under_its_names(plan, &parts)
}

/// The session aggregate that a node is.
pub(crate) fn as_session(plan: &LogicalPlan) -> Option<&SessionAggregate> {
    let LogicalPlan::Extension(extension) = plan else { return None };
    extension.node.as_any().downcast_ref::<SessionAggregate>()
}

pub(super) fn is_session(plan: &LogicalPlan) -> bool {
    as_session(plan).is_some()
}

/// `plan` with its session aggregates written out.
pub(crate) fn write_out(plan: LogicalPlan) -> Result<LogicalPlan> {
    let written = plan.transform_up_with_subqueries(|plan| {
        let Some(node) = as_session(&plan) else { return Ok(Transformed::no(plan)) };
        let interval = [get_field(node.window.clone(), "start"), get_field(node.window.clone(), "end")];
        let sessions = sessions(node.input.clone(), &node.keys, interval, &node.within, &node.calls)?;
        Ok(Transformed::yes(as_windows(sessions)?))
    })?;
    Ok(written.data)
}

/// The same columns, but for `start` and `end`, which become the window.
pub(crate) fn as_windows(sessions: LogicalPlan) -> Result<LogicalPlan> {
    let window = named_struct().call(vec![lit("start"), col("start"), lit("end"), col("end")]);
    let window = when(col("start").is_not_null(), window).end()?.alias(WINDOW);
    let columns =
        columns(sessions.schema()).into_iter().filter_map(|column| match column.qualified_name().1 {
            name if name == "start" => Some(window.clone()),
            name if name == "end" => None,
            _ => Some(column),
        });
    let columns: Vec<Expr> = columns.collect();
    Ok(LogicalPlanBuilder::from(sessions).project(columns)?.build()?)
}

/// The rows of `input`, each of which is an interval of a combination of keys, as sessions, with aggregates of each:
/// columns `g0, …`, `start`, `end`, `y0, …`, `v0, …`. Rows without a start are a session of their own, for each
/// combination.
pub(crate) fn sessions(
    input: LogicalPlan,
    keys: &[Expr],
    [start, end]: [Expr; 2],
    within: &[Expr],
    calls: &[Expr],
) -> Result<LogicalPlan> {
    const START: &str = "__start";
    const END: &str = "__end";
    // Not g0, which a column of the input may be called.
    let groups = numbered("__g", keys.len());
    let own = columns(input.schema());
    let rows = own
        .into_iter()
        .chain(named("__g", keys))
        .chain(named("__y", within))
        .chain([start.alias(START), end.alias(END)]);

    let ends_before = WindowFrame::new_bounds(
        WindowFrameUnits::Rows,
        WindowFrameBound::Preceding(datafusion::common::ScalarValue::UInt64(None)),
        WindowFrameBound::Preceding(datafusion::common::ScalarValue::UInt64(Some(1))),
    );
    let by_start = vec![Sort::new(col(START), true, true)];
    let ended = over(max_udaf(), END, &groups, &by_start, ends_before)?.alias("__ended");
    let begins = col("__ended").is_null().or(col(START).gt(col("__ended")));
    let begins =
        when(col(START).is_not_null().and(begins), lit(1i64)).otherwise(lit(0i64))?.alias("__begins");
    // By range, so that rows of one start have one number.
    let so_far = WindowFrame::new(Some(false));
    let number = over(sum_udaf(), "__begins", &groups, &by_start, so_far)?.alias("__session");

    let plan = LogicalPlanBuilder::from(input).project(rows)?.window([ended])?;
    let all = columns(plan.schema());
    let mut plan = plan.project(all.into_iter().chain([begins]))?.window([number])?;
    let mut by: Vec<Expr> = groups.iter().cloned().chain([col("__session")]).collect();
    let (mut first, mut last) = (START, END);
    if !within.is_empty() {
        let whole = || WindowFrame::new(None);
        plan = plan.window([
            over(min_udaf(), START, &by, &[], whole())?.alias("__first"),
            over(max_udaf(), END, &by, &[], whole())?.alias("__last"),
        ])?;
        (first, last) = ("__first", "__last");
        by.extend(numbered("__y", within.len()));
    }
    let bounds =
        [aggregate_of(min_udaf(), first).alias("start"), aggregate_of(max_udaf(), last).alias("end")];
    let columns = named("g", &groups)
        .into_iter()
        .chain([col("start"), col("end")])
        .chain(named("y", &numbered("__y", within.len())))
        .chain(numbered("v", calls.len()));
    let columns: Vec<Expr> = columns.collect();
    Ok(plan.aggregate(by, bounds.into_iter().chain(named("v", calls)))?.project(columns)?.build()?)
}

/// The expressions under the names `<letter>0, …`
fn named(letter: &str, exprs: &[Expr]) -> Vec<Expr> {
    exprs.iter().enumerate().map(|(i, expr)| expr.clone().alias(format!("{letter}{i}"))).collect()
}

/// The columns `<letter>0, …`
fn numbered(letter: &str, n: usize) -> Vec<Expr> {
    (0..n).map(|i| col(format!("{letter}{i}"))).collect()
}

/// `function(column) OVER (PARTITION BY keys ORDER BY order)`
fn over(
    function: Arc<AggregateUDF>,
    column: &str,
    keys: &[Expr],
    order: &[Sort],
    frame: WindowFrame,
) -> Result<Expr> {
    let call = WindowFunction::new(WindowFunctionDefinition::AggregateUDF(function), vec![col(column)]);
    let call = Expr::from(call).partition_by(keys.to_vec()).order_by(order.to_vec());
    Ok(call.window_frame(frame).build()?)
}

fn aggregate_of(function: Arc<AggregateUDF>, column: &str) -> Expr {
    function.call(vec![Expr::Column(Column::new_unqualified(column))])
}

impl SessionAggregate {
    pub(crate) fn try_new(
        input: LogicalPlan,
        window: Expr,
        keys: Vec<Expr>,
        within: Vec<Expr>,
        calls: Vec<Expr>,
    ) -> EngineResult<Self> {
        // The columns are those of an ordinary aggregate by the same keys.
        let window_key = window.clone().alias(WINDOW);
        let groups = named("g", &keys).into_iter().chain([window_key]).chain(named("y", &within)).collect();
        let calls_named = named("v", &calls);
        let schema = Aggregate::try_new(Arc::new(input.clone()), groups, calls_named)?.schema;
        Ok(Self { input, window, keys, within, calls, schema })
    }
}

impl UserDefinedLogicalNodeCore for SessionAggregate {
    fn name(&self) -> &str {
        "SessionAggregate"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.window)
            .chain(&self.keys)
            .chain(&self.within)
            .chain(&self.calls)
            .cloned()
            .collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |exprs: &[Expr]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(
            f,
            "SessionAggregate: {}, keys=[{}], within=[{}], calls=[{}]",
            self.window,
            list(&self.keys),
            list(&self.within),
            list(&self.calls)
        )
    }

    fn with_exprs_and_inputs(
        &self,
        mut exprs: Vec<Expr>,
        mut inputs: Vec<LogicalPlan>,
    ) -> EngineResult<Self> {
        let Some(input) = inputs.pop() else { return internal_err!("sessions of nothing") };
        let calls = exprs.split_off(1 + self.keys.len() + self.within.len());
        let within = exprs.split_off(1 + self.keys.len());
        let keys = exprs.split_off(1);
        let Some(window) = exprs.pop() else { return internal_err!("sessions without a window") };
        Self::try_new(input, window, keys, within, calls)
    }

    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        let used = self.expressions();
        let used = used.iter().flat_map(Expr::column_refs);
        let mut indices = used
            .map(|column| self.input.schema().index_of_column(column))
            .collect::<EngineResult<Vec<_>>>()
            .ok()?;
        indices.sort_unstable();
        indices.dedup();
        Some(vec![indices])
    }
}
