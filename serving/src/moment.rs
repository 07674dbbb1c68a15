//! What an answer is made of, at one moment: manifests, what they name, and one snapshot of the speed layer.
//!
//! Whatever horizons the manifests have, the answer is the same; if the speed layer has dropped what lies above one,
//! there is a newer one: that is taken, and it is asked again.

use crate::basis::{Basis, Relations, ViewBasis};
use crate::batch_states::Pick;
use crate::events::Events;
use crate::query::Serving;
use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use twofold_common::scan::Source;
use twofold_common::{
    AUDIT, Answer, Archive, COVERAGE, Catalog, Coverage, Error, Finding, Kind, LATE_EVENTS, LateEvents,
    Result, Snapshot, SpeedView, StateTable, conform,
};

/// How often a query starts again because the speed layer has moved on.
pub(crate) const TRIES: u32 = 6;
/// How long it waits before the second try; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(20);

/// What is stored and what the speed layer holds of relations, at one moment.
#[derive(Debug)]
pub(crate) struct Moment {
    pub(crate) basis: Basis,
    /// The rows of batch states.
    pub(crate) stored: BTreeMap<Key, Vec<RecordBatch>>,
    pub(crate) snapshot: Snapshot,
    pub(crate) coverage: Vec<Coverage>,
}

/// What a plan runs over: one relation for each of its sources.
pub(crate) type Bindings = BTreeMap<Key, Arc<dyn TableProvider>>;

/// A source as a key: a stream, or a view's cut.
pub(crate) type Key = (String, Option<usize>);

impl Serving {
    /// What the sources are made of at one moment, whole.
    pub(crate) async fn moment(
        &self,
        catalog: &Catalog,
        sources: &[Source],
        max_staleness: Option<Duration>,
    ) -> Result<Moment> {
        let relations = Relations::of(sources, catalog)?;
        let mut wait = FIRST_WAIT;
        let mut again = None;
        let mut pick = Pick::AtHand;
        for _ in 0..TRIES {
            if again.take().is_some() {
                sleep(wait).await;
                wait *= 2;
            }
            let basis = Basis::take(&relations, catalog, &self.archive, &self.batch_states, pick).await?;
            pick = Pick::Newest;
            let stored = match self.stored(catalog, sources, &basis).await {
                // Removed with its manifest, which was replaced meanwhile.
                Err(e) if e.kind() == Kind::NotFound => {
                    again = Some(Error::corrupt(
                        "the batch views",
                        format!("{e}, but a manifest names it: restore it"),
                    ));
                    continue;
                }
                stored => stored?,
            };
            let snapshot = match self.snapshot(&basis, max_staleness).await? {
                Ok(snapshot) => snapshot,
                Err(retired) => {
                    again = Some(retired);
                    continue;
                }
            };
            let coverage = basis.coverage(&snapshot)?;
            return Ok(Moment { basis, stored, snapshot, coverage });
        }
        Err(again.unwrap_or_else(|| Error::Internal("no try was made".into())))
    }

    /// The snapshot above a basis, or why another basis is needed.
    async fn snapshot(
        &self,
        basis: &Basis,
        max_staleness: Option<Duration>,
    ) -> Result<Result<Snapshot, Error>> {
        if basis.is_empty() {
            return Ok(Ok(Snapshot::default()));
        }
        match self.speed.snapshot(&basis.request(max_staleness)).await? {
            Answer::Snapshot(snapshot) => Ok(Ok(snapshot)),
            Answer::Retired { relation } => Ok(Err(Error::Unavailable(format!(
                "the speed layer has dropped a part of {relation} that the newest manifest found does not cover: try \
                 again; if it stays so, the speed layer and this process use different stores"
            )))),
            Answer::Building { view, done, total } => {
                let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(0);
                Err(Error::Unavailable(format!(
                    "view {view} is being built: {percent} % ({} of {} events folded); try again later",
                    grouped(done),
                    grouped(total)
                )))
            }
            Answer::Unknown { view } => Err(Error::Unavailable(format!(
                "the speed layer runs with another definition of view {view}, or without it: restart whichever of \
                 `twofold speed` and `twofold serve` was started before the project changed"
            ))),
            Answer::Stale { staleness } => Err(Error::Unavailable(format!(
                "the answer would be {} ms stale, and {} ms are allowed (max_staleness): try again later, or allow more",
                staleness.as_millis(),
                max_staleness.unwrap_or_default().as_millis()
            ))),
            Answer::Failed { view, reason } => Err(Error::Invalid(format!(
                "view {view} stands still because its query failed on an event ({reason}): change its query"
            ))),
        }
    }

    /// The rows of the batch states that the sources need, and of what audits found.
    async fn stored(
        &self,
        catalog: &Catalog,
        sources: &[Source],
        basis: &Basis,
    ) -> Result<BTreeMap<Key, Vec<RecordBatch>>> {
        let mut stored = BTreeMap::new();
        for source in sources {
            if *source == Source::Audit {
                stored.insert(key(source), self.findings(catalog).await?);
            }
            let Source::State { view, cut, .. } = source else { continue };
            let Some(files) = basis.view(view).and_then(|basis| basis.files.get(*cut)) else { continue };
            let mut batches = Vec::new();
            for file in files {
                batches.extend(self.batch_states.rows(file).await?);
            }
            stored.insert(key(source), batches);
        }
        Ok(stored)
    }
}

impl Moment {
    /// A relation for each of the sources. With `ordered`, states come in the order of their keys.
    pub(crate) fn bind_all(self, sources: &[Source], archive: &Archive, ordered: bool) -> Result<Bindings> {
        let Moment { basis, mut stored, snapshot, .. } = self;
        let mut bindings = Bindings::new();
        for source in sources {
            let relation: Arc<dyn TableProvider> = match source {
                Source::State { view, cut, .. } => {
                    let found = basis.views.iter().zip(&snapshot.views).find(|(b, _)| b.view.name() == view);
                    let (basis, speed) =
                        found.ok_or_else(|| Error::Internal(format!("no basis for view {view}")))?;
                    let stored = stored.remove(&key(source)).unwrap_or_default();
                    Arc::new(states(basis, *cut, stored, speed, ordered)?)
                }
                Source::Stream(stream) => {
                    let found =
                        basis.streams.iter().zip(&snapshot.streams).find(|(b, _)| &b.def.name == stream);
                    let (basis, tail) =
                        found.ok_or_else(|| Error::Internal(format!("no basis for stream {stream}")))?;
                    let (archive, schema) = (archive.clone(), basis.def.event_schema());
                    Arc::new(Events::new(archive, schema, &basis.segments, &tail.batches)?)
                }
                Source::LateEvents => {
                    let rows = snapshot.late_events.as_ref();
                    let rows = rows.ok_or_else(|| {
                        Error::Internal("the speed layer's answer lacks the late events".into())
                    })?;
                    let rows = conform(rows, &LateEvents::schema(), || LATE_EVENTS.to_string())?;
                    Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?)
                }
                // When the coverage is known.
                Source::Coverage => continue,
                Source::Audit => {
                    let rows = stored.remove(&key(source)).unwrap_or_default();
                    Arc::new(MemTable::try_new(Finding::schema(), vec![rows])?)
                }
            };
            bindings.insert(key(source), relation);
        }
        Ok(bindings)
    }
}

impl Basis {
    fn view(&self, name: &str) -> Option<&ViewBasis> {
        self.views.iter().find(|basis| basis.view.name() == name)
    }
}

/// The key of a source.
pub(crate) fn key(source: &Source) -> Key {
    match source {
        Source::State { view, cut, .. } => (view.clone(), Some(*cut)),
        Source::Stream(stream) => (stream.clone(), None),
        Source::LateEvents => (LATE_EVENTS.to_string(), None),
        Source::Audit => (AUDIT.to_string(), None),
        Source::Coverage => (COVERAGE.to_string(), None),
    }
}

/// The states of one cut, from both layers, as one relation: the plan above merges them.
fn states(
    basis: &ViewBasis,
    cut: usize,
    stored: Vec<RecordBatch>,
    speed: &SpeedView,
    ordered: bool,
) -> Result<StateTable> {
    let view = basis.view.name();
    let cuts = basis.view.cuts();
    let definition = cuts.get(cut).ok_or_else(|| Error::Internal(format!("view {view} has no cut {cut}")))?;
    let schema = definition.schema();
    let mut batches = Vec::new();
    for batch in &stored {
        batches.push(conform(batch, schema, || format!("the batch view of {view}, cut {cut}"))?);
    }
    for (of, state) in &speed.states {
        if *of >= cuts.len() {
            return Err(Error::corrupt(
                format!("the speed layer's states of {view}"),
                format!("there is no cut {of}"),
            ));
        }
        if *of == cut {
            batches.push(conform(state.batch(), schema, || {
                format!("the speed layer's states of {view}, cut {cut}")
            })?);
        }
    }
    let keys = definition.keys();
    let table = StateTable::new(Arc::clone(schema), keys, batches);
    Ok(if ordered { table.in_order() } else { table })
}

/// `1203000` as `1,203,000`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!([0, 999, 1000, 1_203_000].map(grouped), ["0", "999", "1,000", "1,203,000"]);
    }
}
