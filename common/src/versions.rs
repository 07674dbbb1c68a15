//! Versions: the project as it is, and, while its views are being built, the one before it.
//!
//! ```text
//! answer = of the previous project   until every view of the current one is built
//!          of the current project    from then on
//! ```
//!
//! Each query is answered wholly in one of the two. An unchanged view has the same fingerprint in both, and so one
//! state; of the others the previous version is *carried*: folded on, so that it answers with the newest events.
//!
//! A changed view whose query fails on an event is never built, and so the previous project goes on answering; unless
//! its own version of that view failed too, or it had none. A stream that was declared anew in a way that the previous
//! project cannot read takes the previous views over it away.

use crate::catalog::Catalog;
use crate::digest::Digest;
use crate::error::Result;
use crate::scan::{Source, sources};
use crate::stream::StreamDef;
use crate::view::View;
use datafusion::logical_expr::LogicalPlan;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How far a version of a view is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It answers.
    Built,
    /// It is being built, or is not known yet.
    Building,
    /// Its query failed on an event.
    Failed,
}

/// A project's relations, and those of the project before it.
#[derive(Debug, Clone)]
pub struct Versions {
    current: Arc<Catalog>,
    previous: Option<Arc<Catalog>>,
}

impl Versions {
    /// `current`, to be built beside `previous`.
    pub fn new(current: Arc<Catalog>, previous: Option<Arc<Catalog>>) -> Self {
        Self { current, previous }
    }

    /// The project as it is.
    pub fn current(&self) -> &Arc<Catalog> {
        &self.current
    }

    /// The project before it, which answers until this one is built.
    pub fn previous(&self) -> Option<&Arc<Catalog>> {
        self.previous.as_ref()
    }

    /// The views that only the previous project has in this form, and that can still be folded.
    pub fn carried(&self) -> Vec<Arc<View>> {
        let Some(previous) = &self.previous else { return Vec::new() };
        let views = previous.views().values();
        views.filter(|view| !self.is_current(view) && self.can_be_read(&view.streams())).cloned().collect()
    }

    /// All views to be folded, each with the catalog that it is planned in: the current ones, then those carried.
    pub fn folded(&self) -> Vec<(Arc<View>, Arc<Catalog>)> {
        let current = self.current.views().values().map(|view| (Arc::clone(view), Arc::clone(&self.current)));
        let previous = self
            .previous
            .iter()
            .flat_map(|catalog| self.carried().into_iter().map(move |view| (view, Arc::clone(catalog))));
        current.chain(previous).collect()
    }

    /// The fingerprints of the views of the previous project that answer.
    pub fn answering(&self) -> Option<BTreeSet<Digest>> {
        let previous = self.previous.as_ref()?;
        let unchanged =
            previous.views().values().filter(|view| self.is_current(view)).map(|v| v.fingerprint());
        Some(unchanged.chain(self.carried().iter().map(|view| view.fingerprint())).collect())
    }

    /// Whether a plan of the previous project reads only what can still be had.
    ///
    /// # Errors
    /// `Internal` if the plan is none of a catalog.
    pub fn can_answer(&self, plan: &LogicalPlan) -> Result<bool> {
        let answering = self.answering().unwrap_or_default();
        Ok(sources(plan)?.iter().all(|source| match source {
            Source::State { fingerprint, .. } => answering.contains(fingerprint),
            Source::Stream(stream) => self.can_be_read(&BTreeSet::from([stream.clone()])),
            Source::LateEvents | Source::Audit | Source::Coverage => true,
        }))
    }

    /// Whether the current project is built, so that it answers, where `of` tells how far a version of a view is.
    pub fn is_built(&self, of: impl Fn(&View) -> Progress) -> bool {
        self.current.views().values().all(|view| match of(view) {
            Progress::Built => true,
            Progress::Building => false,
            Progress::Failed => {
                let before = self.previous.as_ref().and_then(|catalog| catalog.views().get(view.name()));
                before.is_none_or(|before| of(before) == Progress::Failed)
            }
        })
    }

    fn is_current(&self, view: &View) -> bool {
        self.current.views().get(view.name()).is_some_and(|now| now.fingerprint() == view.fingerprint())
    }

    /// Whether these streams of the previous project still hold what it reads.
    fn can_be_read(&self, streams: &BTreeSet<String>) -> bool {
        let def = |catalog: &Catalog, name: &str| catalog.streams().get(name).cloned();
        streams.iter().all(|name| {
            let before = self.previous.as_ref().and_then(|previous| def(previous, name));
            before.zip(def(&self.current, name)).is_some_and(|(before, now)| holds(&now, &before))
        })
    }
}

/// Whether the events of a stream can be read as they were declared before.
fn holds(now: &StreamDef, before: &StreamDef) -> bool {
    let column = |field: &arrow::datatypes::FieldRef| {
        let found = now.schema.field_with_name(field.name());
        found.is_ok_and(|f| f.data_type() == field.data_type() && (field.is_nullable() || !f.is_nullable()))
    };
    now.partitions == before.partitions && before.schema.fields().iter().all(column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;

    const STREAM: &str = "CREATE STREAM s (k TEXT, n BIGINT);";

    async fn catalog(sql: &str) -> Arc<Catalog> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
        std::fs::write(dir.path().join("a.sql"), sql).unwrap();
        Arc::new(Catalog::new(&Project::load(dir.path()).unwrap()).await.unwrap())
    }

    fn view(name: &str, what: &str) -> String {
        format!("CREATE MATERIALIZED VIEW {name} AS SELECT k, {what} AS x FROM s GROUP BY k;")
    }

    async fn versions(current: &str, previous: &str) -> Versions {
        Versions::new(catalog(current).await, Some(catalog(previous).await))
    }

    fn names(views: &[Arc<View>]) -> Vec<&str> {
        views.iter().map(|view| view.name()).collect()
    }

    #[tokio::test]
    async fn changed_and_removed_views_are_carried_and_unchanged_ones_are_shared() {
        let before = STREAM.to_string()
            + &view("same", "count(*)")
            + &view("other", "sum(n)")
            + &view("gone", "max(n)");
        let now = STREAM.to_string()
            + &view("same", "count(*)")
            + &view("other", "min(n)")
            + &view("new", "max(n)");
        let versions = versions(&now, &before).await;
        assert_eq!(names(&versions.carried()), ["gone", "other"]);
        assert_eq!(versions.folded().len(), 5);
        let previous = versions.previous().unwrap();
        for (sql, can) in [("SELECT * FROM same, other, gone, s", true), ("SELECT * FROM s_rejected", true)] {
            assert_eq!(versions.can_answer(&previous.plan(sql).await.unwrap()).unwrap(), can, "{sql}");
        }
        let is_built = |of: &dyn Fn(&View) -> Progress| versions.is_built(of);
        assert!(is_built(&|_| Progress::Built));
        assert!(!is_built(&|v| if v.name() == "new" { Progress::Building } else { Progress::Built }));
    }

    #[tokio::test]
    async fn a_changed_view_that_fails_is_not_swapped_in_unless_the_one_before_failed_too() {
        let before = STREAM.to_string() + &view("v", "sum(n)");
        let now = STREAM.to_string() + &view("v", "min(n)") + &view("added", "max(n)");
        let versions = versions(&now, &before).await;
        let new = versions.current().view("v").unwrap().fingerprint();
        let failed = |all: bool| {
            versions.is_built(|v| match v.fingerprint() == new || all {
                true => Progress::Failed,
                false => Progress::Built,
            })
        };
        assert!(!failed(false));
        assert!(failed(true));
        assert!(versions.is_built(|v| if v.name() == "added" { Progress::Failed } else { Progress::Built }));
    }

    #[tokio::test]
    async fn a_stream_may_gain_columns_and_else_its_views_are_not_carried() {
        let before = STREAM.to_string() + &view("v", "count(*)");
        for (stream, carried) in [
            ("CREATE STREAM s (k TEXT, n BIGINT, m TEXT);", true),
            ("CREATE STREAM s (k TEXT, n DOUBLE);", false),
            ("CREATE STREAM s (k TEXT, n BIGINT) WITH (partitions = 2);", false),
            ("CREATE STREAM t (k TEXT, n BIGINT);", false),
        ] {
            let versions = versions(stream, &before).await;
            assert_eq!(!versions.carried().is_empty(), carried, "{stream}");
            let plan = versions.previous().unwrap().plan("SELECT * FROM v").await.unwrap();
            assert_eq!(versions.can_answer(&plan).unwrap(), carried, "{stream}");
        }
    }
}
