//! Projects as they were: which definition was the last one whose views were all built, and its files.
//!
//! ```text
//! projects/manifest/…        which definition is settled     manifest, "project-manifest"
//! projects/files/<digest>    its files, by the BLAKE3 of their bytes
//! ```
//!
//! A project that differs from the settled one is built beside it, and the settled one answers meanwhile: see
//! [`Versions`](crate::Versions). Files are written before the manifest that names them; equal files are one. Only the
//! owner of the data directory settles a project; whoever else does so at the same time loses the conditional put.

use crate::catalog::Catalog;
use crate::definition::Definition;
use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::functions::Functions;
use crate::manifest::{Manifests, Versioned};
use crate::project::Project;
use crate::store::Store;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where projects are kept.
pub(crate) const PROJECTS: &str = "projects";
/// What their manifest is called in its envelope.
pub(crate) const PROJECT_MANIFEST: &str = "project-manifest";

/// A project whose views were all built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledProject {
    /// The name and digest of each `*.sql` file, in the order in which they are read.
    pub sql: Vec<(String, Digest)>,
    /// The digest of each table's file, by the table's name.
    pub tables: BTreeMap<String, Digest>,
    /// The fingerprints of the maintained views.
    pub views: BTreeMap<String, Digest>,
    /// When it was settled: nanoseconds since the epoch, UTC.
    pub created: i64,
}

impl SettledProject {
    fn new(definition: &Definition, catalog: &Catalog, created: i64) -> Self {
        let sql = definition.sql.iter().map(|(file, text)| (file.clone(), Digest::of(text.as_bytes())));
        let tables = definition.tables.iter().map(|(name, bytes)| (name.clone(), Digest::of(bytes)));
        let views = catalog.views().iter().map(|(name, view)| (name.clone(), view.fingerprint()));
        Self { sql: sql.collect(), tables: tables.collect(), views: views.collect(), created }
    }

    /// The paths of its files.
    pub(crate) fn files(&self) -> impl Iterator<Item = String> + '_ {
        self.sql.iter().map(|(_, digest)| digest).chain(self.tables.values()).map(file)
    }
}

/// The settled projects of a store.
#[derive(Debug, Clone)]
pub struct Projects {
    store: Store,
    manifests: Manifests<SettledProject>,
}

impl Projects {
    /// Those of `store`.
    pub fn new(store: Store) -> Self {
        Self { manifests: manifests(store.clone()), store }
    }

    /// The project that was settled last; `None` before the first.
    ///
    /// # Errors
    /// `Corrupt` if its manifest is damaged.
    pub async fn settled(&self) -> Result<Option<Versioned<SettledProject>>> {
        self.manifests.latest().await
    }

    /// What was settled last, planned anew, if it is not this project.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged or gone; `Invalid` if it cannot be planned any more, or means something else than it
    /// did, as after a change of functions or of Twofold itself.
    pub async fn previous(
        &self,
        project: &Project,
        catalog: &Catalog,
        functions: &Functions,
    ) -> Result<Option<Catalog>> {
        let Some(Versioned { body: settled, .. }) = self.settled().await? else { return Ok(None) };
        if settled == SettledProject::new(&project.definition, catalog, settled.created) {
            return Ok(None);
        }
        let definition = Arc::new(self.definition(&settled).await?);
        let project = Project::of(definition, project.config.clone(), &project.dir, functions)?;
        let previous = Catalog::with_functions(&project, functions).await?;
        match settled
            .views
            .iter()
            .find(|(name, f)| previous.views().get(*name).map(|v| v.fingerprint()) != Some(**f))
        {
            None => Ok(Some(previous)),
            Some((name, _)) => Err(Error::Invalid(format!(
                "view {name} does not mean any more what it meant when its states were made"
            ))),
        }
    }

    async fn definition(&self, settled: &SettledProject) -> Result<Definition> {
        let mut definition = Definition::default();
        for (name, digest) in &settled.sql {
            let text = String::from_utf8(self.read(digest).await?.to_vec());
            let text = text.map_err(|_| Error::corrupt(file(digest), "not UTF-8 text"))?;
            definition.sql.push((name.clone(), text));
        }
        for (name, digest) in &settled.tables {
            definition.tables.insert(name.clone(), self.read(digest).await?);
        }
        Ok(definition)
    }

    async fn read(&self, digest: &Digest) -> Result<Bytes> {
        let path = file(digest);
        let bytes = self.store.get(&path).await.map_err(|e| match e.kind() {
            Kind::NotFound => Error::corrupt(&path, "a project's manifest names this file, but it is gone"),
            _ => e,
        })?;
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(Error::corrupt(path, format!("damaged: expected digest {digest}, found {found}")));
        }
        Ok(bytes)
    }

    /// Records that all views of a project are built: at the next start it is the one to be compared with. Whether it
    /// was not recorded already.
    ///
    /// # Errors
    /// `Conflict` if another process settled a project meanwhile.
    pub async fn settle(&self, definition: &Definition, catalog: &Catalog, now: i64) -> Result<bool> {
        let last = self.settled().await?;
        let created = last.as_ref().map_or(now, |last| last.body.created);
        if last.as_ref().is_some_and(|last| last.body == SettledProject::new(definition, catalog, created)) {
            return Ok(false);
        }
        let texts = definition.sql.iter().map(|(_, text)| Bytes::from(text.clone()));
        for bytes in texts.chain(definition.tables.values().cloned()) {
            // Over what may be there: so it is young again, and not garbage before it is named.
            self.store.put(&file(&Digest::of(&bytes)), bytes).await?;
        }
        let settled = SettledProject::new(definition, catalog, now);
        self.manifests.publish(last.map(|last| last.version), settled).await?;
        Ok(true)
    }
}

pub(crate) fn manifests(store: Store) -> Manifests<SettledProject> {
    Manifests::new(store, format!("{PROJECTS}/manifest"), PROJECT_MANIFEST)
}

fn file(digest: &Digest) -> String {
    format!("{PROJECTS}/files/{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::stores;
    use std::path::Path;

    const SQL: &str = "CREATE STREAM s (k TEXT); CREATE TABLE t (k TEXT, n BIGINT) WITH (path = 't.csv');
        CREATE MATERIALIZED VIEW v AS SELECT n, count(*) AS c FROM s JOIN t USING (k) GROUP BY n;";

    async fn load(dir: &Path, sql: &str, table: &str) -> (Project, Catalog) {
        for (file, contents) in [("twofold.toml", ""), ("a.sql", sql), ("t.csv", table)] {
            std::fs::write(dir.join(file), contents).unwrap();
        }
        let project = Project::load(dir).unwrap();
        let catalog = Catalog::new(&project).await.unwrap();
        (project, catalog)
    }

    #[tokio::test]
    async fn a_settled_project_is_planned_again_from_the_store_alone() {
        let dir = tempfile::tempdir().unwrap();
        for (store, _dir) in stores() {
            let projects = Projects::new(store);
            let (project, catalog) = load(dir.path(), SQL, "k,n\na,1\n").await;
            let none = Functions::default();
            assert!(
                projects.previous(&project, &catalog, &none).await.unwrap().is_none(),
                "nothing is settled"
            );
            assert!(projects.settle(&project.definition, &catalog, 5).await.unwrap());
            assert!(!projects.settle(&project.definition, &catalog, 6).await.unwrap(), "once is enough");
            assert!(projects.previous(&project, &catalog, &none).await.unwrap().is_none(), "it is this one");

            let (changed, now) = load(dir.path(), SQL, "k,n\na,2\n").await;
            let previous = projects.previous(&changed, &now, &none).await.unwrap().unwrap();
            assert_eq!(previous.view("v").unwrap().fingerprint(), catalog.view("v").unwrap().fingerprint());
            assert_ne!(previous.view("v").unwrap().fingerprint(), now.view("v").unwrap().fingerprint());
            assert_eq!(previous.tables()["t"].batches, project.tables["t"].batches);
            assert!(projects.settle(&changed.definition, &now, 7).await.unwrap());
            assert_eq!(projects.settled().await.unwrap().unwrap().version, 2);
        }
    }

    #[tokio::test]
    async fn what_is_damaged_or_gone_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for (store, _dir) in stores() {
            let projects = Projects::new(store.clone());
            let (project, catalog) = load(dir.path(), SQL, "k,n\na,1\n").await;
            projects.settle(&project.definition, &catalog, 5).await.unwrap();
            let (changed, now) = load(dir.path(), SQL, "k,n\na,2\n").await;
            let path = file(&Digest::of(b"k,n\na,1\n"));
            for damage in [Some("k,n\na,3\n"), None] {
                match damage {
                    Some(bytes) => store.put(&path, Bytes::from(bytes)).await.unwrap(),
                    None => store.delete(&path).await.unwrap(),
                }
                let error = projects.previous(&changed, &now, &Functions::default()).await.unwrap_err();
                assert!(error.kind() == Kind::Corrupt && error.to_string().contains(&path), "{error}");
            }
        }
    }
}
