//! Groups of rows that are sorted already: an aggregate over states without hashing.
//!
//! ```text
//! aggregate(A, B, …) by a prefix of their keys = the same aggregate by hashing,   with its rows in the order of the keys
//! ```
//!
//! States are sorted by their keys. So the rows of one key, or of a prefix of keys, stand together in each of them, and
//! several are walked side by side: comparing neighbours replaces hashing each row. That makes merge and finish of large
//! states cheap, where most keys are in one of them only.
//!
//! The rule applies where the engine would aggregate by hashing directly over states; all else stays with the engine,
//! and so do inputs that it might have to take to disk.

mod direct;
mod exec;
mod groups;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
pub(crate) use direct::rows_of_key;
use exec::SortedAggregateExec;
pub(crate) use groups::MOST_RUNS;
use std::sync::Arc;

/// Puts a [`SortedAggregateExec`] in the place of aggregates over states.
#[derive(Debug)]
pub(crate) struct GroupSorted;

impl PhysicalOptimizerRule for GroupSorted {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = plan.transform_up(|node| {
            Ok(match SortedAggregateExec::of(&node) {
                Some(exec) => Transformed::yes(Arc::new(exec) as Arc<dyn ExecutionPlan>),
                None => Transformed::no(node),
            })
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &str {
        "group_sorted"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
