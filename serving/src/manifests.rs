//! The newest batch manifests, as they were read: one that is still the newest is not read again.
//!
//! Whether it is, the store is asked each time, which takes two looks at names and reads nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use twofold_common::{BatchManifest, BatchViews, Digest, Result, Versioned, View};

/// Of how many versions of views.
const VIEWS: usize = 256;

type Manifest = Arc<Versioned<BatchManifest>>;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct BatchManifests(Mutex<BTreeMap<(String, Digest), Manifest>>);

impl BatchManifests {
    /// The newest batch view of a view; `None` before the first.
    ///
    /// # Errors
    /// Those of [`BatchViews::latest`].
    pub(crate) async fn latest(&self, batch_views: &BatchViews, view: &View) -> Result<Option<Manifest>> {
        let fingerprint = view.fingerprint();
        let (name, key) = (fingerprint.to_string(), (view.name().to_string(), fingerprint));
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known
            && batch_views.is_latest(view.name(), &name, known.version).await?
        {
            return Ok(Some(known));
        }
        let Some(found) = batch_views.latest(view.name(), &name).await?.map(Arc::new) else {
            return Ok(None);
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= VIEWS && !all.contains_key(&key) {
            all.clear();
        }
        all.insert(key, Arc::clone(&found));
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn a_newer_batch_view_is_seen_at_once_and_one_that_is_known_is_not_read_again() {
        let world = World::new().await;
        let (manifests, views) = (BatchManifests::default(), &world.batch_views);
        let view = Arc::clone(world.catalog.view("totals").unwrap());
        let latest = async || manifests.latest(views, &view).await.unwrap();
        assert_eq!(latest().await, None);
        world.batch_to("totals", [8, 0]).await;
        let first = latest().await.unwrap();
        assert!(Arc::ptr_eq(&first, &latest().await.unwrap()));
        world.batch_to("totals", [10, 10]).await;
        let second = latest().await.unwrap();
        assert_eq!((first.version, second.version), (1, 2));
        assert_eq!(
            second.as_ref(),
            &views.latest("totals", &view.fingerprint().to_string()).await.unwrap().unwrap()
        );
    }
}
