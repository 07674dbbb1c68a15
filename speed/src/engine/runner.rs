//! A view's plans as the speed layer runs them.

use super::store::{UnitId, Write};
use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;
use twofold_common::{Catalog, Folder, Merger, Result, View};

/// The plans of one view, made once.
#[derive(Debug)]
pub(crate) struct Runner {
    view: Arc<View>,
    folders: Arc<Mutex<Vec<Folder>>>,
    /// By stream, the columns that the folds read.
    columns: BTreeMap<String, Vec<String>>,
    mergers: Vec<Arc<Mutex<Merger>>>,
}

/// Events to be folded into a new run of the state of a unit.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) id: UnitId,
    view: Arc<View>,
    folders: Arc<Mutex<Vec<Folder>>>,
    number: u64,
}

impl Runner {
    pub(crate) async fn plan(catalog: &Catalog, view: &Arc<View>) -> Result<Self> {
        let (mut folders, mut mergers) = (Vec::new(), Vec::new());
        for cut in view.cuts() {
            let schema = |name: &str| Ok(catalog.stream(name)?.event_schema());
            folders.push(Folder::try_new(catalog.session(), cut, schema).await?);
            mergers.push(Arc::new(Mutex::new(Merger::try_new(catalog.session(), cut).await?)));
        }
        let mut columns = BTreeMap::new();
        for stream in view.streams() {
            let mut read: Vec<String> = folders.iter().flat_map(|f| f.columns(&stream)).collect();
            read.sort();
            read.dedup();
            columns.insert(stream, read);
        }
        Ok(Self { view: Arc::clone(view), folders: Arc::new(Mutex::new(folders)), columns, mergers })
    }

    /// The columns of a stream that the view's folds read.
    pub(crate) fn columns(&self, stream: &str) -> Vec<String> {
        self.columns.get(stream).cloned().unwrap_or_default()
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

    /// What folds events of a stream into a new run of the state of a unit.
    pub(super) fn fold(&self, id: UnitId, number: u64) -> Fold {
        Fold { id, view: Arc::clone(&self.view), folders: Arc::clone(&self.folders), number }
    }
}

impl Fold {
    /// What is to be written.
    pub(super) async fn run(&self, events: &[RecordBatch]) -> Result<Vec<Write>> {
        let (mut folders, mut writes) = (self.folders.lock().await, Vec::new());
        for (cut, definition) in self.view.cuts().iter().enumerate() {
            if !definition.streams().contains(&self.id.stream) {
                continue;
            }
            let state = folders[cut].fold(&self.id.stream, events).await?;
            if state.rows() > 0 {
                writes.push(Write::Run { id: self.id.clone(), cut, number: self.number, state });
            }
        }
        Ok(writes)
    }
}
