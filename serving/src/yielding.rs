//! Joins that let others run.
//!
//! A query is stopped between two batches of its operators, where one of them waits. A join makes many batches from few,
//! and an aggregate above it takes them all without ever waiting: so each join waits for a moment now and then.
//!
//! A join whose condition lets nothing through makes no batches. It is stopped when it has gone through what it holds of
//! one side for a batch of the other.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use std::sync::Arc;
use twofold_common::Result;

/// What may make more rows than it reads.
const MULTIPLIES: [&str; 5] =
    ["CrossJoinExec", "NestedLoopJoinExec", "HashJoinExec", "SortMergeJoinExec", "UnnestExec"];

/// The same plan, that can be stopped.
pub(crate) fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|node| {
        if !MULTIPLIES.contains(&node.name()) {
            return Ok(Transformed::no(node));
        }
        let wrapped: Arc<dyn ExecutionPlan> = Arc::new(CooperativeExec::new(node));
        Ok(Transformed::yes(wrapped))
    })?;
    Ok(wrapped.data)
}
