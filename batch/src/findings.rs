//! What a run finds when it compares states, and keeping the states of differences.

use crate::segments::FoldedSegment;
use std::collections::BTreeSet;
use twofold_common::{
    AuditMismatch, AuditRun, AuditSummary, Audited, Audits, Digest, Finding, Kept, SegmentState, SpeedStates,
    State, StateFile, View, difference,
};

/// The states of so many differences of a view are kept in one run; of the others only the digests.
const KEPT_DIFFERENCES: usize = 16;

/// What is found about one view.
pub(crate) struct Findings<'a> {
    pub(crate) view: &'a View,
    pub(crate) audits: Audits,
    /// Who may still have the speed layer's states.
    pub(crate) speed: Option<&'a dyn SpeedStates>,
    pub(crate) run: AuditRun,
    pub(crate) at: i64,
    pub(crate) all: Vec<Finding>,
}

impl Findings<'_> {
    /// Compares what batch and speed made of the same segment.
    pub(crate) async fn compare(&mut self, segment: &FoldedSegment, summary: &mut AuditSummary) {
        let (stream, partition) = (&segment.job.stream, segment.job.partition);
        let range = segment.job.segment.range;
        for cut in &segment.cuts {
            let audited = Audited::Segment { stream: stream.clone(), partition, range };
            let mut finding = self.finding(audited, cut.cut, cut.speed, cut.digest);
            match cut.speed {
                None => summary.unaudited += 1,
                Some(speed) if speed == cut.digest => summary.equal += 1,
                Some(speed) => {
                    tracing::error!(
                        view = self.view.name(),
                        stream,
                        partition = partition.0,
                        range = %range,
                        cut = cut.cut,
                        speed = %speed.short(),
                        batch = %cut.digest.short(),
                        "batch and speed layer have different states of a segment; batch wins"
                    );
                    summary.unequal.push(AuditMismatch {
                        stream: stream.clone(),
                        partition,
                        range,
                        cut: cut.cut,
                        speed,
                        batch: cut.digest,
                    });
                    let of = SegmentState {
                        fingerprint: self.view.fingerprint(),
                        cut: cut.cut,
                        stream: stream.clone(),
                        partition,
                        range,
                    };
                    if let Some(state) = cut.state.as_ref().filter(|_| self.keeps_more()) {
                        finding.kept = self.keep_both(&of, speed, state).await;
                    }
                }
            }
            self.all.push(finding);
        }
    }

    /// Compares the digests of a batch view's states with those that a full run made at its horizon: the cuts that
    /// differ.
    pub(crate) fn compare_full(&mut self, incremental: &[Digest], full: &[Digest]) -> BTreeSet<usize> {
        let mut differing = BTreeSet::new();
        for (cut, &digest) in full.iter().enumerate() {
            let found = incremental.get(cut).copied();
            if found != Some(digest) {
                differing.insert(cut);
            }
            let finding = self.finding(Audited::BatchView, cut, found, digest);
            self.all.push(finding);
        }
        if !differing.is_empty() {
            tracing::error!(
                view = self.view.name(),
                cuts = differing.len(),
                "a full run gives another state than the batch view has; the full run wins"
            );
        }
        differing
    }

    /// Keeps the rows in which the states of a batch view, and those that a full run made, differ in a cut.
    pub(crate) async fn keep_full(&mut self, cut: usize, incremental: &State, full: &State) {
        let kept = match difference(incremental, full) {
            Ok((found, batch)) => {
                let found = self.put(cut, &found).await;
                Kept { found, batch: self.put(cut, &batch).await }
            }
            Err(e) => {
                tracing::warn!(view = self.view.name(), error = %e, "the states that differ are not kept");
                return;
            }
        };
        let of_cut = |f: &&mut Finding| f.audited == Audited::BatchView && f.cut == cut;
        if let Some(finding) = self.all.iter_mut().find(of_cut) {
            finding.kept = kept;
        }
    }

    /// Makes what was found durable: why not, if that cannot be.
    pub(crate) async fn record(&self) -> Option<String> {
        let (view, fingerprint) = (self.view.name(), self.view.fingerprint().to_string());
        let error = self.audits.add(view, &fingerprint, &self.all).await.err()?;
        tracing::error!(view, error = %error, "what the audit found could not be kept");
        Some(error.to_string())
    }

    /// The differences.
    pub(crate) fn differences(self) -> Vec<Finding> {
        self.all.into_iter().filter(|finding| finding.equal() == Some(false)).collect()
    }

    fn finding(&self, audited: Audited, cut: usize, found: Option<Digest>, batch: Digest) -> Finding {
        Finding { audited, cut, found, batch, run: self.run, at: self.at, kept: Kept::default() }
    }

    fn keeps_more(&self) -> bool {
        self.all.iter().filter(|finding| finding.kept != Kept::default()).count() < KEPT_DIFFERENCES
    }

    /// Keeps the batch layer's state, and the speed layer's if somebody still has it.
    async fn keep_both(&self, of: &SegmentState, expected: Digest, batch: &State) -> Kept {
        let view = self.view.name();
        let speed = match self.speed {
            Some(speed) => speed.state_of(of).await.unwrap_or_else(|e| {
                tracing::warn!(view, error = %e, "the speed layer's state of a segment cannot be had");
                None
            }),
            None => None,
        };
        // One that was made again since is not the one that was told.
        let speed = speed.filter(|state| state.digest().is_ok_and(|digest| digest == expected));
        let found = match &speed {
            Some(state) => self.put(of.cut, state).await,
            None => None,
        };
        Kept { found, batch: self.put(of.cut, batch).await }
    }

    /// Keeps a state; that it cannot be kept fails nothing.
    async fn put(&self, cut: usize, state: &State) -> Option<StateFile> {
        let (view, fingerprint) = (self.view.name(), self.view.fingerprint().to_string());
        let kept = self.audits.keep(view, &fingerprint, cut, state).await;
        kept.inspect_err(|e| tracing::warn!(view, error = %e, "a state that differs cannot be kept")).ok()
    }
}
