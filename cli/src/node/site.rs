//! A site: a project's files, loaded and planned, and the stores that they name.

use crate::clock;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;
use twofold_batch::Batch;
use twofold_common::{
    Archive, BatchViews, Catalog, Error, Functions, Project, Projects, Store, StreamDef, Versions, evolve,
};

/// A project, ready to be run.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its files.
    pub project: Arc<Project>,
    /// Its relations.
    pub catalog: Arc<Catalog>,
    functions: Functions,
}

/// What is stored of a project outside its data directory's log and states.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Where archive and batch views are.
    pub store: Store,
    /// The archive.
    pub archive: Archive,
    /// The batch views.
    pub batch_views: BatchViews,
    /// The settled projects.
    pub projects: Projects,
}

impl Site {
    /// Loads the project in `dir`, which may use `functions`; reads its files only.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub async fn load(dir: &Path, functions: &Functions) -> Result<Self> {
        let project = Project::load_with(dir, functions)?;
        let catalog = Arc::new(Catalog::with_functions(&project, functions).await?);
        Ok(Self { project: Arc::new(project), catalog, functions: functions.clone() })
    }

    /// The project, and the one that was settled before it, if that is another one and can still be planned.
    pub(crate) async fn versions(&self, stores: &Stores) -> Versions {
        let previous = stores.projects.previous(&self.project, &self.catalog, &self.functions).await;
        let previous = previous.unwrap_or_else(|e| {
            tracing::warn!(error = %e, "the project before this one cannot answer while this one is being built");
            None
        });
        Versions::new(Arc::clone(&self.catalog), previous.map(Arc::new))
    }

    /// The same project with its tables as their files are now; `None` if they are as they were.
    ///
    /// # Errors
    /// What is wrong with a table, or with a view over its columns.
    pub(crate) async fn reloaded(&self) -> Result<Option<Self>> {
        let Project { dir, config, definition, .. } = self.project.as_ref();
        let now = definition.with_tables_of(dir, &self.functions)?;
        if now == **definition {
            return Ok(None);
        }
        let project = Project::of(Arc::new(now), config.clone(), dir, &self.functions)?;
        let catalog = Arc::new(Catalog::with_functions(&project, &self.functions).await?);
        Ok(Some(Self { project: Arc::new(project), catalog, functions: self.functions.clone() }))
    }

    /// The directory of the log, the states and the run files.
    pub fn data_dir(&self) -> &Path {
        self.project.data_dir()
    }

    /// All streams, those of rejected events included.
    pub(crate) fn streams(&self) -> Vec<StreamDef> {
        self.catalog.streams().values().cloned().collect()
    }

    /// Opens the project's store.
    ///
    /// # Errors
    /// If it cannot be opened, or was made with streams that the project has no longer declared so.
    pub async fn stores(&self) -> Result<Stores> {
        let location = self.project.config.store.to_string();
        if location.starts_with("memory:") {
            return Err(Error::Invalid(format!(
                "store = \"{location}\" would be gone when the process ends, and with it the archive: name a directory"
            ))
            .into());
        }
        let store = Store::open(&location, &self.project.dir)?;
        let stores = Stores {
            archive: Archive::new(store.clone()),
            batch_views: BatchViews::new(store.clone()),
            projects: Projects::new(store.clone()),
            store,
        };
        for stream in self.catalog.streams().values() {
            let known = stores.archive.manifest(&stream.name).await?;
            if let Some(known) = known.filter(|known| known.body.holds_events()) {
                evolve(&known.body, stream)?;
            }
        }
        Ok(stores)
    }

    /// What batch runs need.
    pub(crate) fn batch(&self, stores: &Stores) -> Batch {
        Batch {
            catalog: Arc::clone(&self.catalog),
            archive: stores.archive.clone(),
            batch_views: stores.batch_views.clone(),
            clock: Arc::new(clock::nanos),
        }
    }
}
