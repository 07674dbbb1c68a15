//! A view's plans as the speed layer runs them.

use super::store::{UnitId, Write};
use arrow::array::RecordBatch;
use std::sync::Arc;
use tokio::sync::Mutex;
use twofold_common::{Catalog, Folder, Merger, Result, View};

/// The plans of one view, made once.
#[derive(Debug)]
pub(crate) struct Runner {
    view: Arc<View>,
    folders: Vec<Folder>,
    mergers: Vec<Arc<Mutex<Merger>>>,
}

impl Runner {
    pub(crate) async fn plan(catalog: &Catalog, view: &Arc<View>) -> Result<Self> {
        let (mut folders, mut mergers) = (Vec::new(), Vec::new());
        for cut in view.cuts() {
            let schema = |name: &str| Ok(catalog.stream(name)?.event_schema());
            folders.push(Folder::try_new(catalog.session(), cut, schema).await?);
            mergers.push(Arc::new(Mutex::new(Merger::try_new(catalog.session(), cut).await?)));
        }
        Ok(Self { view: Arc::clone(view), folders, mergers })
    }

    /// The columns of a stream that the view's folds read.
    pub(crate) fn columns(&self, stream: &str) -> Vec<String> {
        let mut columns: Vec<String> = self.folders.iter().flat_map(|f| f.columns(stream)).collect();
        columns.sort();
        columns.dedup();
        columns
    }

    /// What merges the states of a cut.
    pub(crate) fn merger(&self, cut: usize) -> Arc<Mutex<Merger>> {
        Arc::clone(&self.mergers[cut])
    }

    /// The cuts that read a stream, and what merges the states of each.
    pub(crate) fn mergers_of(&self, stream: &str) -> Vec<(usize, Arc<Mutex<Merger>>)> {
        let cuts = self.view.cuts().iter().enumerate();
        let of_stream = cuts.filter(|(_, cut)| cut.streams().iter().any(|name| name == stream));
        of_stream.map(|(cut, _)| (cut, self.merger(cut))).collect()
    }

    /// Folds events of a stream into a new run of the state of a unit: what is to be written.
    pub(crate) async fn fold(
        &mut self,
        id: &UnitId,
        events: &[RecordBatch],
        number: u64,
    ) -> Result<Vec<Write>> {
        let mut writes = Vec::new();
        let view = Arc::clone(&self.view);
        for (cut, definition) in view.cuts().iter().enumerate() {
            if !definition.streams().contains(&id.stream) {
                continue;
            }
            let state = self.folders[cut].fold(&id.stream, events).await?;
            if state.rows() > 0 {
                writes.push(Write::Run { id: id.clone(), cut, number, state });
            }
        }
        Ok(writes)
    }
}
