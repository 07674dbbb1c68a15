//! Batch views as a run finds and leaves them: the last one read, the next one written and published.

use crate::accumulator::Merged;
use crate::run::{Batch, Outcome, ViewReport};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use futures::future::try_join;
use futures::stream::{FuturesOrdered, TryStreamExt};
use twofold_common::{BatchManifest, Error, Kind, Result, State, StateFile, Versioned, View};

/// About how many rows of a state go into one file.
const FILE_ROWS: usize = 1 << 18;
/// How many files are encoded at once.
const FILES_AT_ONCE: usize = 2;

impl Batch {
    /// Whether a file of a batch view is not what it was, or gone: then all is folded again. What is damaged is moved
    /// out of the way.
    pub(crate) async fn is_damaged(
        &self,
        view: &View,
        last: Option<&Versioned<BatchManifest>>,
    ) -> Result<bool> {
        let mut damaged = false;
        let files: Vec<StateFile> = last.map(|last| last.body.cuts.concat()).unwrap_or_default();
        for file in &files {
            match self.batch_views.verify(file).await {
                Err(e) if matches!(e.kind(), Kind::Corrupt | Kind::NotFound) => {
                    tracing::error!(view = view.name(), error = %e, "the batch view is damaged: it is folded again");
                    self.batch_views.set_aside(file).await?;
                    damaged = true;
                }
                checked => checked?,
            }
        }
        Ok(damaged)
    }

    /// What these files hold of the state of a cut.
    pub(crate) async fn state(&self, view: &View, cut: usize, files: &[StateFile]) -> Result<State> {
        let cut =
            view.cuts().get(cut).ok_or_else(|| Error::Internal(format!("the view has no cut {cut}")))?;
        let mut rows = Vec::new();
        for file in files {
            rows.extend(self.batch_views.read_state(file).await?);
        }
        State::from_rows(cut.schema(), cut.keys(), &rows)
    }

    /// Writes the files of a cut's state, of at most about so many rows, each with the keys above those of the one before.
    pub(crate) async fn write(
        &self,
        view: &View,
        cut: usize,
        state: &Merged,
        most: usize,
    ) -> Result<Vec<StateFile>> {
        let fingerprint = view.fingerprint().to_string();
        let rows = state.rows();
        let of_file = rows.div_ceil(rows.div_ceil(most).max(1));
        let mut pieces = state.pieces(of_file);
        let (mut files, mut gathered, mut last) = (Vec::new(), Vec::new(), false);
        let (mut writing, mut begun) = (FuturesOrdered::new(), 0);
        while !last {
            match pieces.next().await? {
                Some(piece) => gathered.push(piece.batch().clone()),
                None => last = true,
            }
            let rows: usize = gathered.iter().map(RecordBatch::num_rows).sum();
            // Of a state without rows there is one file, too.
            if rows >= of_file.max(1) || last && (rows > 0 || begun == 0) {
                let batch = concat_batches(view.cuts()[cut].schema(), &std::mem::take(&mut gathered))?;
                let (number, fingerprint) = (begun, &fingerprint);
                writing.push_back(async move {
                    self.batch_views.write_state(view.name(), fingerprint, cut, number, &batch).await
                });
                begun += 1;
            }
            while writing.len() >= if last { 1 } else { FILES_AT_ONCE }
                && let Some(file) = writing.try_next().await?
            {
                files.push(file);
            }
        }
        Ok(files)
    }

    /// Publishes these states as the batch view after `last`, unless another run was first.
    pub(crate) async fn publish(
        &self,
        view: &View,
        last: Option<&Versioned<BatchManifest>>,
        states: &[Merged],
        report: &ViewReport,
        full: bool,
    ) -> Result<Outcome> {
        let fingerprint = report.fingerprint.to_string();
        let (mut cuts, mut state_digests) = (Vec::new(), Vec::new());
        for (cut, state) in states.iter().enumerate() {
            let (files, digest) = try_join(self.write(view, cut, state, FILE_ROWS), state.digest()).await?;
            cuts.push(files);
            state_digests.push(digest);
        }
        // What was found of earlier segments stays true, until a full run looks at them again.
        let earlier = last.filter(|_| !full).map(|m| m.body.audit.clone()).unwrap_or_default();
        let manifest = BatchManifest {
            view: view.name().to_string(),
            fingerprint,
            horizon: report.horizon.clone(),
            cuts,
            state_digests,
            created: (self.clock)(),
            started: Some(report.started),
            mode: if full { "full" } else { "incremental" }.to_string(),
            audit: earlier.and(report.audit.clone()),
        };
        match self.batch_views.publish(last.map(|m| m.version), &manifest).await {
            Ok(published) => Ok(Outcome::Published(published.version)),
            Err(e) if e.kind() == Kind::Conflict => Ok(Outcome::Lost),
            Err(e) => Err(e),
        }
    }
}
