//! Plans of statements that were asked before, so that a statement that is repeated is not planned again.
//!
//! A plan belongs to the catalog that it was made in: another version of the project finds none. What was used longest
//! ago leaves first. Plans are over unbound scans, so nothing of an answer is in them, and functions of the time are
//! called anew each time.

use datafusion::logical_expr::LogicalPlan;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use twofold_common::{Catalog, Result};

/// How many plans are kept.
const PLANS: usize = 256;
/// Longer statements are not kept.
const LONGEST: usize = 16 << 10;

/// A bounded cache of plans.
#[derive(Default)]
pub(crate) struct PlanCache {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<String, Entry>,
    clock: u64,
}

struct Entry {
    catalog: Arc<Catalog>,
    plan: LogicalPlan,
    used: u64,
}

impl fmt::Debug for PlanCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlanCache").finish_non_exhaustive()
    }
}

impl PlanCache {
    /// The plan of a statement in a catalog, made if it is not here.
    ///
    /// # Errors
    /// `Invalid` or `NotFound` if the statement is wrong.
    pub(crate) async fn plan(&self, catalog: &Arc<Catalog>, sql: &str) -> Result<LogicalPlan> {
        if let Some(plan) = self.get(catalog, sql) {
            return Ok(plan);
        }
        let plan = catalog.plan(sql).await?;
        self.put(catalog, sql, &plan);
        Ok(plan)
    }

    fn get(&self, catalog: &Arc<Catalog>, sql: &str) -> Option<LogicalPlan> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let now = inner.clock;
        let entry = inner.entries.get_mut(sql).filter(|entry| Arc::ptr_eq(&entry.catalog, catalog))?;
        entry.used = now;
        Some(entry.plan.clone())
    }

    /// Keeps the plan of a statement, in the place of one of another catalog.
    fn put(&self, catalog: &Arc<Catalog>, sql: &str, plan: &LogicalPlan) {
        if sql.len() > LONGEST {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clock += 1;
        let entry = Entry { catalog: Arc::clone(catalog), plan: plan.clone(), used: inner.clock };
        inner.entries.insert(sql.to_string(), entry);
        if inner.entries.len() > PLANS {
            let oldest = inner.entries.iter().min_by_key(|(_, entry)| entry.used);
            let oldest = oldest.map(|(sql, _)| sql.clone());
            oldest.and_then(|sql| inner.entries.remove(&sql));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_plan_is_of_one_catalog_and_the_oldest_leaves_first() {
        let (world, other) = (World::new().await, World::new().await);
        let plan = world.catalog.plan("SELECT 1").await.unwrap();
        let cache = PlanCache::default();
        cache.put(&world.catalog, "SELECT 1", &plan);
        assert_eq!(cache.get(&world.catalog, "SELECT 1"), Some(plan.clone()));
        assert_eq!(cache.get(&other.catalog, "SELECT 1"), None);
        assert_eq!(cache.get(&world.catalog, "SELECT 2"), None);
        for n in 0..PLANS {
            cache.get(&world.catalog, "SELECT 1");
            cache.put(&world.catalog, &format!("SELECT {n} + 1"), &plan);
        }
        assert!(cache.get(&world.catalog, "SELECT 1").is_some());
        assert_eq!(cache.get(&world.catalog, "SELECT 0 + 1"), None);
        cache.put(&world.catalog, &" ".repeat(LONGEST + 1), &plan);
        assert_eq!(cache.inner.lock().unwrap().entries.len(), PLANS);
    }
}
