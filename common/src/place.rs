//! The place of an event, (partition, offset), carried up through a plan beside its columns.
//!
//! What depends on the order of events is given one: the order that it asks for, ties broken by the place. Rows of
//! one place, of which a join with a table or an `unnest` may make several, are told apart by their values only.

use crate::error::{Error, Result};
use crate::expr::columns;
use crate::scan::{Source, Unbound, source_of};
use crate::shape::{Shape, reads_outside, shape};
use crate::stream::{OFFSET, PARTITION};
use crate::windows::is_window_list;
use datafusion::common::Column;
use datafusion::common::tree_node::TreeNode;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::logical_plan::{Filter, Join, Projection, TableScanBuilder, Union, Unnest};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan, lit};
use std::sync::Arc;

/// Under these names the place goes up. `__branch` tells the branches of a union apart, which may read one stream
/// twice.
const NAMES: [&str; 3] = ["__branch", "__partition", "__offset"];

/// Whether each event of one stream gives at most one row, so that (partition, offset) is a key of the rows.
///
/// A list of all windows of an event is no column to keep: it is made when it is read.
pub(crate) fn row_by_row(plan: &LogicalPlan) -> Result<bool> {
    Ok(match plan {
        LogicalPlan::Projection(projection) if has_window_list(&projection.expr)? => false,
        LogicalPlan::TableScan(scan) => matches!(source_of(scan), Some(Source::Stream(_))),
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            !reads_outside(plan)? && plan.inputs().into_iter().map(row_by_row).all(|r| matches!(r, Ok(true)))
        }
        _ => false,
    })
}

fn has_window_list(exprs: &[Expr]) -> Result<bool> {
    let mut has = false;
    for expr in exprs {
        has |= expr.exists(|part| Ok(is_window_list(part)))?;
    }
    Ok(has)
}

/// `plan`, which is per event, with each event's place carried up beside its columns, and the expressions that name
/// it: `[partition, offset]`, and before them a branch if there is a union below.
///
/// The columns of `plan` keep their names and qualifiers, but may move.
pub(crate) fn carry_place(plan: LogicalPlan) -> Result<(LogicalPlan, Vec<Expr>)> {
    match plan {
        LogicalPlan::TableScan(scan) => scan_with_place(scan),
        LogicalPlan::Projection(projection) => {
            let (input, place) = carry_place(Arc::unwrap_or_clone(projection.input))?;
            project(projection.expr, input, place)
        }
        LogicalPlan::Filter(filter) => {
            let (input, place) = carry_place(Arc::unwrap_or_clone(filter.input))?;
            Ok((LogicalPlan::Filter(Filter::try_new(filter.predicate, Arc::new(input))?), place))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let (input, place) = carry_place(Arc::unwrap_or_clone(alias.input))?;
            let place = place.into_iter().map(|expr| match expr {
                Expr::Column(column) => Expr::Column(Column::new(Some(alias.alias.clone()), column.name)),
                other => other,
            });
            let place = place.collect();
            Ok((LogicalPlanBuilder::from(input).alias(alias.alias)?.build()?, place))
        }
        // Its order is not kept by what stands above.
        LogicalPlan::Sort(sort) if sort.fetch.is_none() => carry_place(Arc::unwrap_or_clone(sort.input)),
        LogicalPlan::Repartition(repartition) => carry_place(Arc::unwrap_or_clone(repartition.input)),
        LogicalPlan::Join(join) => join_with_place(join),
        LogicalPlan::Unnest(unnest) => {
            let (input, place) = carry_place(Arc::unwrap_or_clone(unnest.input))?;
            let unnest = Unnest::try_new(Arc::new(input), unnest.exec_columns, unnest.options)?;
            Ok((LogicalPlan::Unnest(unnest), place))
        }
        LogicalPlan::Union(union) => union_with_place(union),
        other => Err(Error::Internal(format!("the place of an event through {}", other.display()))),
    }
}

fn scan_with_place(scan: TableScan) -> Result<(LogicalPlan, Vec<Expr>)> {
    let Some(Source::Stream(stream)) = source_of(&scan) else {
        return Err(Error::Internal(format!("{} is no stream", scan.table_name)));
    };
    let columns = scan.source.schema();
    let full = crate::stream::with_meta(&columns);
    let mut projection = scan.projection.clone().unwrap_or_else(|| (0..columns.fields().len()).collect());
    for name in [PARTITION, OFFSET] {
        let index = full.index_of(name)?;
        if !projection.contains(&index) {
            projection.push(index);
        }
    }
    let source = provider_as_source(Arc::new(Unbound::new(Source::Stream(stream), full)));
    let place = [PARTITION, OFFSET].map(|n| Expr::Column(Column::new(Some(scan.table_name.clone()), n)));
    let scan = TableScanBuilder::new(scan.table_name, source)
        .with_projection(Some(projection))
        .with_filters(scan.filters)
        .with_fetch(scan.fetch)
        .build()?;
    Ok((LogicalPlan::TableScan(scan), place.to_vec()))
}

/// `SELECT exprs…, place` over `input`, with the place under its own names.
fn project(mut exprs: Vec<Expr>, input: LogicalPlan, place: Vec<Expr>) -> Result<(LogicalPlan, Vec<Expr>)> {
    let names = &NAMES[NAMES.len() - place.len()..];
    for (expr, name) in place.into_iter().zip(names) {
        // Already there where the place was carried up before.
        if !exprs.iter().any(|e| e.schema_name().to_string() == *name) {
            exprs.push(expr.alias(*name));
        }
    }
    let projection = Projection::try_new(exprs, Arc::new(input))?;
    let place = names.iter().map(|name| Expr::Column(Column::new_unqualified(*name))).collect();
    Ok((LogicalPlan::Projection(projection), place))
}

fn join_with_place(join: Join) -> Result<(LogicalPlan, Vec<Expr>)> {
    let events_left = shape(&join.left)? == Shape::PerEvent;
    let (mut left, mut right) = (Arc::unwrap_or_clone(join.left), Arc::unwrap_or_clone(join.right));
    let side = if events_left { &mut left } else { &mut right };
    let (carried, place) = carry_place(side.clone())?;
    *side = carried;
    let join = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        join.on,
        join.filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    Ok((LogicalPlan::Join(join), place))
}

fn union_with_place(union: Union) -> Result<(LogicalPlan, Vec<Expr>)> {
    let mut branches = Vec::new();
    for (i, input) in union.inputs.into_iter().enumerate() {
        let columns = columns(input.schema());
        let (input, place) = carry_place(Arc::unwrap_or_clone(input))?;
        // A branch that is a union itself already has a number for each of its own.
        let number = i64::try_from(i).unwrap_or(i64::MAX);
        let (branch, place) = match place.as_slice() {
            [partition, offset] => (lit(number), [partition.clone(), offset.clone()]),
            [inner, partition, offset] => {
                (inner.clone() * lit(1_000i64) + lit(number), [partition.clone(), offset.clone()])
            }
            _ => return Err(Error::Internal("a place of an unknown form".into())),
        };
        let [partition, offset] = place;
        branches.push(Arc::new(project(columns, input, vec![branch, partition, offset])?.0));
    }
    let plan = LogicalPlan::Union(Union::try_new_with_loose_types(branches)?);
    let last = plan.schema().fields().len() - NAMES.len();
    let place = (last..last + NAMES.len())
        .map(|i| Expr::Column(Column::from(plan.schema().qualified_field(i))))
        .collect();
    Ok((plan, place))
}
