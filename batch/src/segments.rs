//! Folding segments of the archive, several at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use twofold_common::{
    Archive, Catalog, Digest, Error, Folder, OffsetRange, Partition, Result, Segment, State, View, state_key,
};

/// A segment to fold.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) stream: String,
    pub(crate) partition: Partition,
    pub(crate) segment: Segment,
}

/// A folded segment.
#[derive(Debug)]
pub(crate) struct Folded {
    pub(crate) job: Job,
    /// For each cut that reads the segment's stream.
    pub(crate) states: Vec<FoldedCut>,
}

#[derive(Debug)]
pub(crate) struct FoldedCut {
    pub(crate) cut: usize,
    pub(crate) state: State,
    pub(crate) digest: Digest,
    /// What the speed layer had for the same segment and cut.
    pub(crate) speed: Option<Digest>,
}

impl Folded {
    pub(crate) fn range(&self) -> OffsetRange {
        self.job.segment.range
    }
}

/// Folds `jobs` with `workers` workers, in no promised order. Dropping the receiver stops them.
pub(crate) fn fold_all(
    catalog: &Arc<Catalog>,
    archive: &Archive,
    view: &Arc<View>,
    jobs: Vec<Job>,
    workers: usize,
) -> mpsc::Receiver<Result<Folded>> {
    let (sender, receiver) = mpsc::channel(workers.max(1));
    let jobs = Arc::new(jobs);
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..workers.clamp(1, jobs.len().max(1)) {
        let worker = Worker {
            catalog: Arc::clone(catalog),
            archive: archive.clone(),
            view: Arc::clone(view),
            jobs: Arc::clone(&jobs),
            next: Arc::clone(&next),
            sender: sender.clone(),
        };
        tasks.spawn(worker.run());
    }
    tasks.detach_all();
    receiver
}

struct Worker {
    catalog: Arc<Catalog>,
    archive: Archive,
    view: Arc<View>,
    jobs: Arc<Vec<Job>>,
    next: Arc<AtomicUsize>,
    sender: mpsc::Sender<Result<Folded>>,
}

impl Worker {
    async fn run(self) {
        let mut folders = match self.folders().await {
            Ok(folders) => folders,
            Err(e) => return drop(self.sender.send(Err(e)).await),
        };
        while let Some(job) = self.jobs.get(self.next.fetch_add(1, Ordering::SeqCst)) {
            let folded = self.fold(&mut folders, job).await;
            let failed = folded.is_err();
            if self.sender.send(folded).await.is_err() || failed {
                return;
            }
        }
    }

    async fn folders(&self) -> Result<Vec<Folder>> {
        let mut folders = Vec::new();
        for cut in self.view.cuts() {
            let schema = |name: &str| Ok(self.catalog.stream(name)?.event_schema());
            folders.push(Folder::try_new(self.catalog.session(), cut, schema).await?);
        }
        Ok(folders)
    }

    async fn fold(&self, folders: &mut [Folder], job: &Job) -> Result<Folded> {
        let reads = |cut: usize| self.view.cuts()[cut].streams().contains(&job.stream);
        let mut columns: Vec<String> = folders
            .iter()
            .enumerate()
            .filter(|(cut, _)| reads(*cut))
            .flat_map(|(_, f)| f.columns(&job.stream))
            .collect();
        columns.sort();
        columns.dedup();
        let schema = self.catalog.stream(&job.stream)?.event_schema();
        let events = self.archive.read_segment(&job.segment, &schema, Some(&columns)).await?;
        let mut states = Vec::new();
        for (cut, folder) in folders.iter_mut().enumerate().filter(|(cut, _)| reads(*cut)) {
            let state = folder.fold(&job.stream, &events).await.map_err(|e| self.name_segment(e, job))?;
            let digest = state.digest()?;
            let speed = job.segment.states.get(&state_key(self.view.fingerprint(), cut)).copied();
            states.push(FoldedCut { cut, state, digest, speed });
        }
        Ok(Folded { job: job.clone(), states })
    }

    /// What the engine says of an event, with where to look for it.
    fn name_segment(&self, e: Error, job: &Job) -> Error {
        match e {
            Error::Engine(_) => Error::Invalid(format!(
                "view {}: stream {}, partition {}, offsets {}: {e}",
                self.view.name(),
                job.stream,
                job.partition,
                job.segment.range
            )),
            other => other,
        }
    }
}
