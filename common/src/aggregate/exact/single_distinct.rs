//! The engine's rule for one `DISTINCT`, kept away from sums.
//!
//! The rule makes `SELECT count(DISTINCT a), sum(b)` group by `a` first and then sum the sums. So a sum of doubles
//! would be rounded twice, and one of integers could fail though the total fits. Without a sum beside the `DISTINCT`
//! the rule is as good as it is fast.

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::optimizer::{ApplyOrder, Optimizer};
use datafusion::optimizer::single_distinct_to_groupby::SingleDistinctToGroupBy;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use std::sync::Arc;

/// The engine's optimizer rules, with this one in the place of its own.
pub(crate) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let replaced = |rule: Arc<dyn OptimizerRule + Send + Sync>| match SingleDistinct::default() {
        ours if ours.name() == rule.name() => Arc::new(ours),
        _ => rule,
    };
    Optimizer::new().rules.into_iter().map(replaced).collect()
}

#[derive(Debug, Default)]
struct SingleDistinct(SingleDistinctToGroupBy);

impl OptimizerRule for SingleDistinct {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.iter().any(is_sum_of_all) => {
                Ok(Transformed::no(plan))
            }
            _ => self.0.rewrite(plan, config),
        }
    }
}

fn is_sum_of_all(expr: &Expr) -> bool {
    match expr {
        Expr::AggregateFunction(call) => call.func.name() == "sum" && !call.params.distinct,
        _ => false,
    }
}
