//! Folding segments of the archive, several units at once.

use crate::accumulator::Accumulator;
use crate::teller::Teller;
use crate::units::{Job, Work};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use twofold_common::{
    Archive, BatchViews, Catalog, Digest, Error, Folder, Result, State, Unit, View, state_key,
};

/// Larger units are not kept: to fold them again costs about what it costs to read them.
const KEPT_BYTES: usize = 256 << 20;
/// Smaller ones always are.
const SMALL_BYTES: usize = 1 << 20;
/// So many bytes are kept for each second of folding: a tenth of it, where 320 MB are kept in a second.
const KEPT_PER_SECOND: f64 = 32e6;

/// A unit that is folded.
#[derive(Debug)]
pub(crate) struct Folded {
    pub(crate) segments: Vec<FoldedSegment>,
    /// The merged state of each cut that reads the unit's stream.
    pub(crate) states: Vec<(usize, State)>,
    /// Whether an earlier run had folded it.
    pub(crate) resumed: bool,
    /// Under which name it is kept now.
    pub(crate) kept: Option<Digest>,
}

/// A segment of it.
#[derive(Debug)]
pub(crate) struct FoldedSegment {
    pub(crate) job: Job,
    /// For each cut that reads the segment's stream.
    pub(crate) cuts: Vec<FoldedCut>,
}

#[derive(Debug)]
pub(crate) struct FoldedCut {
    pub(crate) cut: usize,
    pub(crate) digest: Digest,
    /// What the speed layer had for the same segment and cut.
    pub(crate) speed: Option<Digest>,
    /// The state itself, if the speed layer had another one.
    pub(crate) state: Option<State>,
}

/// Where segments are read and units kept.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) archive: Archive,
    pub(crate) batch_views: BatchViews,
}

/// Folds units with `workers` workers, in no promised order, and tells `teller` of each. Dropping the receiver stops them.
pub(crate) fn fold_all(
    places: Places,
    view: &Arc<View>,
    work: Vec<Work>,
    workers: usize,
    teller: Option<&Arc<Teller>>,
) -> mpsc::Receiver<Result<Folded>> {
    let (sender, receiver) = mpsc::channel(workers.max(1));
    let work = Arc::new(work);
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..workers.clamp(1, work.len().max(1)) {
        let worker = Worker {
            places: places.clone(),
            view: Arc::clone(view),
            work: Arc::clone(&work),
            next: Arc::clone(&next),
            sender: sender.clone(),
            teller: teller.cloned(),
        };
        tasks.spawn(worker.run());
    }
    tasks.detach_all();
    receiver
}

struct Worker {
    places: Places,
    view: Arc<View>,
    work: Arc<Vec<Work>>,
    next: Arc<AtomicUsize>,
    sender: mpsc::Sender<Result<Folded>>,
    teller: Option<Arc<Teller>>,
}

/// A view's plans, made once for each worker.
struct Plans {
    folders: Vec<Folder>,
    merge: Accumulator,
    /// How long the worker has folded since it kept a unit.
    unkept: Duration,
}

/// Whether to keep states of so many bytes, rather than fold them again if the run is killed, after so long without
/// keeping any.
fn is_worth_keeping(bytes: usize, unkept: Duration) -> bool {
    bytes <= SMALL_BYTES || bytes <= KEPT_BYTES && bytes as f64 <= unkept.as_secs_f64() * KEPT_PER_SECOND
}

impl Worker {
    async fn run(self) {
        let mut plans = match self.plans().await {
            Ok(plans) => plans,
            Err(e) => return drop(self.sender.send(Err(e)).await),
        };
        while let Some(work) = self.work.get(self.next.fetch_add(1, Ordering::SeqCst)) {
            let folded = match self.finished(work).await {
                Some(finished) => Ok(finished),
                None => self.fold(&mut plans, work).await,
            };
            if let (Some(teller), Ok(folded)) = (&self.teller, &folded) {
                let events = folded.segments.iter().map(|s| s.job.segment.rows).sum();
                teller.tell(folded.segments.len(), events).await;
            }
            let failed = folded.is_err();
            if self.sender.send(folded).await.is_err() || failed {
                return;
            }
        }
    }

    async fn plans(&self) -> Result<Plans> {
        let mut folders = Vec::new();
        let catalog = &self.places.catalog;
        let alone = self.view.cuts().len() == 1;
        for cut in self.view.cuts() {
            let schema = |name: &str| Ok(catalog.stream(name)?.event_schema());
            folders.push(match alone {
                true => Folder::over_parquet(catalog.session(), cut, schema).await?,
                // Cuts that read the same events do not want them alike.
                false => Folder::try_new(catalog.session(), cut, schema).await?,
            });
        }
        let merge = Accumulator::plan(catalog, &self.view).await?;
        Ok(Plans { folders, merge, unkept: Duration::ZERO })
    }

    /// The unit as an earlier run has finished it.
    async fn finished(&self, work: &Work) -> Option<Folded> {
        let id = work.keep?;
        let (view, fingerprint) = (self.view.name(), self.view.fingerprint().to_string());
        let unit = match self.places.batch_views.unit(view, &fingerprint, id).await {
            Ok(unit) => unit?,
            Err(e) => {
                tracing::warn!(view, error = %e, "what an earlier run had finished cannot be used: it is folded again");
                return None;
            }
        };
        let fits = unit.digests.len() == work.jobs.len()
            && unit.states.iter().all(|(cut, state)| {
                self.view.cuts().get(*cut).is_some_and(|c| c.schema() == state.batch().schema_ref())
            });
        let segment = |(job, digests): (&Job, Vec<(usize, Digest)>)| FoldedSegment {
            job: job.clone(),
            cuts: digests.into_iter().map(|(cut, digest)| self.compared(job, cut, digest, None)).collect(),
        };
        fits.then(|| Folded {
            segments: work.jobs.iter().zip(unit.digests).map(segment).collect(),
            states: unit.states,
            resumed: true,
            kept: Some(id),
        })
    }

    async fn fold(&self, plans: &mut Plans, work: &Work) -> Result<Folded> {
        let started = Instant::now();
        let mut segments = Vec::new();
        for job in &work.jobs {
            let mut cuts = Vec::new();
            for (cut, state) in self.fold_segment(&mut plans.folders, job).await? {
                cuts.push(self.compared(job, cut, state.digest()?, Some(&state)));
                plans.merge.add(cut, state).await?;
            }
            segments.push(FoldedSegment { job: job.clone(), cuts });
        }
        let states = plans.merge.take().await?;
        plans.unkept += started.elapsed();
        let bytes = states.iter().map(|(_, state)| state.memory()).sum();
        let kept = match is_worth_keeping(bytes, plans.unkept) {
            true => self.keep(work, &segments, &states).await,
            false => None,
        };
        if kept.is_some() {
            plans.unkept = Duration::ZERO;
        }
        Ok(Folded { segments, states, resumed: false, kept })
    }

    fn compared(&self, job: &Job, cut: usize, digest: Digest, state: Option<&State>) -> FoldedCut {
        let speed = job.segment.states.get(&state_key(self.view.fingerprint(), cut)).copied();
        let differs = speed.is_some_and(|speed| speed != digest);
        FoldedCut { cut, digest, speed, state: state.filter(|_| differs).cloned() }
    }

    /// Keeps a finished unit, if it is one to keep: under which name. That it cannot be kept fails nothing.
    async fn keep(
        &self,
        work: &Work,
        segments: &[FoldedSegment],
        states: &[(usize, State)],
    ) -> Option<Digest> {
        // A state that differs is wanted whole, so its segment is folded again.
        let differs = segments.iter().flat_map(|segment| &segment.cuts).any(|cut| cut.state.is_some());
        let id = work.keep.filter(|_| !differs)?;
        let digests = |segment: &FoldedSegment| segment.cuts.iter().map(|c| (c.cut, c.digest)).collect();
        let unit = Unit { states: states.to_vec(), digests: segments.iter().map(digests).collect() };
        let (view, fingerprint) = (self.view.name(), self.view.fingerprint().to_string());
        match self.places.batch_views.keep_unit(view, &fingerprint, id, &unit).await {
            Ok(()) => Some(id),
            Err(e) => {
                tracing::warn!(view, error = %e, "what is finished is not kept: if this run is killed, it is folded again");
                None
            }
        }
    }

    async fn fold_segment(&self, folders: &mut [Folder], job: &Job) -> Result<Vec<(usize, State)>> {
        let reads = |cut: usize| self.view.cuts()[cut].streams().contains(&job.stream);
        let mut reading: Vec<(usize, &mut Folder)> =
            folders.iter_mut().enumerate().filter(|(cut, _)| reads(*cut)).collect();
        let mut columns: Vec<String> = reading.iter().flat_map(|(_, f)| f.columns(&job.stream)).collect();
        columns.sort();
        columns.dedup();
        let schema = self.places.catalog.stream(&job.stream)?.event_schema();
        let archive = &self.places.archive;
        if let [(cut, folder)] = &mut reading[..] {
            let schema = folder.event_schema(&job.stream).unwrap_or(&schema);
            let events = archive.open_segment(&job.segment, schema, Some(&columns)).await?;
            let state = folder.fold_each(&job.stream, events).await;
            return Ok(vec![(*cut, state.map_err(|e| self.name_segment(e, job))?)]);
        }
        let events = archive.read_segment(&job.segment, &schema, Some(&columns)).await?;
        let mut states = Vec::new();
        for (cut, folder) in reading {
            let state = folder.fold(&job.stream, &events).await.map_err(|e| self.name_segment(e, job))?;
            states.push((cut, state));
        }
        Ok(states)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_states_are_kept_for_a_part_of_the_time_only() {
        let kept = |bytes, millis| is_worth_keeping(bytes, Duration::from_millis(millis));
        assert!(kept(0, 0) && kept(SMALL_BYTES, 0));
        assert!(!kept(SMALL_BYTES + 1, 0) && !kept(64_000_000, 1999) && kept(64_000_000, 2000));
        assert!(kept(KEPT_BYTES, 9000) && !kept(KEPT_BYTES + 1, 1_000_000));
    }
}
