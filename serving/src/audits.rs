//! What audits have found, as it is stored: for queries, and for metrics. The speed layer is not asked.

use crate::metrics::ViewAudit;
use crate::query::Serving;
use arrow::array::RecordBatch;
use twofold_common::{Catalog, Finding, Result};

impl Serving {
    /// How many findings there are about each view.
    pub(crate) async fn audits(&self) -> Vec<ViewAudit> {
        let (audits, mut found) = (self.batch_views.audits(), Vec::new());
        for view in self.catalog().views().values() {
            match audits.totals(view.name(), &view.fingerprint().to_string()).await {
                Ok(totals) => found.push(ViewAudit {
                    view: view.name().to_string(),
                    fingerprint: view.fingerprint(),
                    totals: totals.unwrap_or_default(),
                }),
                Err(e) => tracing::warn!(view = view.name(), error = %e, "what audits found cannot be told"),
            }
        }
        found
    }

    /// What audits have found about the views of a project.
    pub(crate) async fn findings(&self, catalog: &Catalog) -> Result<Vec<RecordBatch>> {
        let (audits, mut rows) = (self.batch_views.audits(), Vec::new());
        for view in catalog.views().values() {
            let fingerprint = view.fingerprint().to_string();
            let findings = audits.findings(view.name(), &fingerprint).await?;
            rows.push(Finding::rows(view.name(), &fingerprint, &findings)?);
        }
        Ok(rows)
    }
}
