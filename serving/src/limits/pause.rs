//! Places where a plan can be stopped.
//!
//! The engine's operators let others have their turn, and so can be stopped, where they read. An operator that makes much
//! of what it has read, such as a join of each row with each, would go on for hours between two reads. So all that join
//! or unnest pause between the batches that they make: for as good as nothing, unless somebody wants them stopped.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use std::sync::Arc;
use twofold_common::Result;

/// The same plan, with pauses.
pub(super) fn with_pauses(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| {
        let multiplies = node.children().len() > 1 || node.name() == "UnnestExec";
        Ok(if multiplies {
            Transformed::yes(Arc::new(CooperativeExec::new(node)) as _)
        } else {
            Transformed::no(node)
        })
    })?;
    Ok(plan.data)
}
