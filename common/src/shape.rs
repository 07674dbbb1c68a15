//! How a plan depends on streams: the predicate on which every cut rests.
//!
//! An operator is *per event* when
//!
//! ```text
//! op(A + B) = op(A) + op(B)        for any two sets of events A and B
//! ```

use crate::error::Result;
use crate::scan::{Source, source_of, sources};
use datafusion::common::JoinType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;

/// How a plan depends on streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Not at all: it is the same whatever the events.
    Static,
    /// Event by event.
    PerEvent,
    /// In any other way.
    Other,
}

/// How a plan depends on streams.
pub(crate) fn shape(plan: &LogicalPlan) -> Result<Shape> {
    if reads_outside(plan)? {
        return Ok(Shape::Other);
    }
    let inputs = plan.inputs().into_iter().map(shape).collect::<Result<Vec<_>>>()?;
    let all = |wanted| inputs.iter().all(|&s| s == wanted);
    Ok(match plan {
        LogicalPlan::TableScan(scan) => match source_of(scan) {
            Some(Source::Stream(_)) => Shape::PerEvent,
            _ => Shape::Static,
        },
        _ if all(Shape::Static) => Shape::Static,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::Repartition(_)
        | LogicalPlan::Union(_)
            if all(Shape::PerEvent) =>
        {
            Shape::PerEvent
        }
        LogicalPlan::Sort(sort) if sort.fetch.is_none() && all(Shape::PerEvent) => Shape::PerEvent,
        LogicalPlan::Join(join) => match (inputs.as_slice(), join.join_type) {
            (
                [Shape::PerEvent, Shape::Static],
                JoinType::Inner
                | JoinType::Left
                | JoinType::LeftSemi
                | JoinType::LeftAnti
                | JoinType::LeftMark,
            )
            | (
                [Shape::Static, Shape::PerEvent],
                JoinType::Inner
                | JoinType::Right
                | JoinType::RightSemi
                | JoinType::RightAnti
                | JoinType::RightMark,
            ) => Shape::PerEvent,
            _ => Shape::Other,
        },
        _ => Shape::Other,
    })
}

/// Whether the expressions of this node look at rows of other relations: of streams in a subquery, or of the query
/// around it.
pub(crate) fn reads_outside(plan: &LogicalPlan) -> Result<bool> {
    let mut outside = false;
    plan.apply_expressions(|expr| {
        outside |= expr.contains_outer();
        Ok(TreeNodeRecursion::Continue)
    })?;
    plan.apply_subqueries(|subquery| {
        outside |= !sources(subquery)?.is_empty();
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(outside)
}
