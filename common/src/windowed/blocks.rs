//! Windows out of blocks of panes.
//!
//! Of ten minutes that slide by the second each pane is in six hundred windows. Where a query asks for all windows,
//! panes are first merged into blocks of eight, those into blocks of sixty-four, and so on; a window is then made of
//! the largest blocks that are in it whole:
//!
//! ```text
//! state(window) = merge of state(block) over blocks that are in the window, and whose parents are not
//! ```
//!
//! so that each pane has some twenty rows instead of six hundred. It is a rule of the optimizer, which comes after
//! [`super::prune`]: of few windows the panes alone are less work.

use super::prune::{constant_interval, pane_windows_call};
use crate::aggregate::combinator;
use crate::windows::{block_windows, nanos, tumble};
use datafusion::common::Column;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::functions::core::expr_fn::get_field;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// How many blocks make the next larger one.
const FANOUT: i64 = 8;
/// With so few windows of a pane blocks are no gain.
const FEW_WINDOWS: i64 = 24;

const PANE: &str = "__pane";

/// The rule.
#[derive(Debug)]
pub(crate) struct MergeByBlocks;

impl OptimizerRule for MergeByBlocks {
    fn name(&self) -> &str {
        "merge_by_blocks"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        Ok(match by_blocks(&plan)? {
            Some(merged) => Transformed::yes(merged),
            None => Transformed::no(plan),
        })
    }
}

fn by_blocks(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(None) };
    let LogicalPlan::Unnest(unnest) = aggregate.input.as_ref() else { return Ok(None) };
    let LogicalPlan::Projection(projection) = unnest.input.as_ref() else { return Ok(None) };
    let [window] = unnest.exec_columns.as_slice() else { return Ok(None) };
    let Some(at) = projection.schema.maybe_index_of_column(window) else { return Ok(None) };
    let Some((call, pane)) = pane_windows_call(&projection.expr[at]) else { return Ok(None) };
    let (Some(slide), Some(size)) = (call.args.get(1), call.args.get(2)) else { return Ok(None) };
    let (slide_nanos, size_nanos) = (nanos(slide)?, nanos(size)?);
    let Some(states) = states(aggregate) else { return Ok(None) };
    if size_nanos / slide_nanos <= FEW_WINDOWS {
        return Ok(None);
    }
    let offset = call.args.get(3).map_or(Ok(0), nanos)?.rem_euclid(slide_nanos);
    let offset = constant_interval(offset);

    // Blocks of each level, from the panes up, under the names of the projection's columns but for the windows.
    let keys: Vec<Expr> = other_columns(projection.schema.columns(), window, &states);
    let mut level = LogicalPlanBuilder::from(projection.input.as_ref().clone());
    let panes = projection.expr.iter().enumerate().map(|(i, expr)| match i == at {
        true => pane.clone().alias(PANE),
        false => expr.clone(),
    });
    level = level.project(panes.collect::<Vec<_>>())?;
    let mut length = gcd(slide_nanos, size_nanos);
    let mut branches = Vec::new();
    loop {
        let next = length.saturating_mul(FANOUT);
        let parent = if next < size_nanos { next } else { 0 };
        let list = block_windows(vec![
            col(PANE),
            slide.clone(),
            size.clone(),
            offset.clone(),
            constant_interval(parent),
        ]);
        let columns = projection.schema.columns().into_iter().map(|column| match column == *window {
            true => list.clone().alias_qualified(window.relation.clone(), &window.name),
            false => Expr::Column(column),
        });
        let branch = level.clone().project(columns.collect::<Vec<_>>())?;
        branches.push(branch.unnest_column_with_options(window.clone(), unnest.options.clone())?.build()?);
        if parent == 0 {
            break;
        }
        level = merged(level, &keys, &states, constant_interval(parent), &offset)?;
        length = parent;
    }
    let mut all = branches.into_iter();
    let Some(first) = all.next() else { return Ok(None) };
    let mut union = LogicalPlanBuilder::from(first);
    for branch in all {
        union = union.union(branch)?;
    }
    let input = Arc::new(union.build()?);
    let merged = Aggregate::try_new_with_schema(
        input,
        aggregate.group_expr.clone(),
        aggregate.aggr_expr.clone(),
        Arc::clone(&aggregate.schema),
    )?;
    Ok(Some(LogicalPlan::Aggregate(merged)))
}

/// The columns of states that an aggregate merges, with the function that merges them into states; `None` if it does
/// anything else with them.
fn states(aggregate: &Aggregate) -> Option<Vec<(Column, Expr)>> {
    let mut states: Vec<(Column, Expr)> = Vec::new();
    for expr in &aggregate.aggr_expr {
        let Expr::AggregateFunction(call) = crate::expr::unalias(expr) else { return None };
        let function = combinator::merge_state(combinator::of_merge(&call.func)?);
        let [Expr::Column(state)] = call.params.args.as_slice() else { return None };
        let args = vec![Expr::Column(state.clone())];
        let merged = AggregateFunction::new_udf(function, args, false, None, vec![], None);
        states.push((state.clone(), Expr::AggregateFunction(merged)));
    }
    Some(states)
}

fn other_columns(columns: Vec<Column>, window: &Column, states: &[(Column, Expr)]) -> Vec<Expr> {
    let other = |column: &Column| column != window && !states.iter().any(|(state, _)| state == column);
    columns.into_iter().filter(other).map(Expr::Column).collect()
}

/// Blocks as larger blocks of one length.
fn merged(
    level: LogicalPlanBuilder,
    keys: &[Expr],
    states: &[(Column, Expr)],
    length: Expr,
    offset: &Expr,
) -> Result<LogicalPlanBuilder> {
    let names: Vec<Column> = level.schema().columns();
    let block = tumble(vec![get_field(col(PANE), "start"), length, offset.clone()]).alias("__block");
    let mut calls: Vec<(Column, Expr)> = Vec::new();
    for (state, call) in states {
        if !calls.iter().any(|(known, _)| known == state) {
            calls.push((state.clone(), call.clone()));
        }
    }
    let groups = keys.iter().cloned().chain([block]);
    let merging = calls.iter().enumerate().map(|(i, (_, call))| call.clone().alias(format!("__state{i}")));
    let level = level.aggregate(groups, merging.collect::<Vec<_>>())?;
    let columns =
        names.into_iter().map(|column| match calls.iter().position(|(state, _)| *state == column) {
            Some(i) => col(format!("__state{i}")).alias_qualified(column.relation.clone(), &column.name),
            None if column.name == PANE => col("__block").alias(PANE),
            None => Expr::Column(column),
        });
    level.project(columns.collect::<Vec<_>>())
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
