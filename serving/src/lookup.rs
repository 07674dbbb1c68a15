//! Looking up one key of a view: no SQL, no planning, no scan.
//!
//! ```text
//! rows of a key = finish( the key's row of each state ),   found in each by binary search, since states are sorted
//! ```
//!
//! That is so where nothing but projections and filters stands above the one aggregate of the view, and the question is
//! `column=value` for each of its keys and no other. The plan that finishes such states is made once for each version
//! of a view and number of questions at one time, and run again and again.
//!
//! It gives what the long way gives, or leaves the question to that.

use crate::filter;
use crate::page::ViewQuery;
use crate::query::Serving;
use crate::rows::Rows;
use arrow::array::{ArrayRef, RecordBatch, make_comparator};
use arrow::compute::SortOptions;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use twofold_common::scan::Source;
use twofold_common::{Catalog, Digest, Finisher, Result, View, conform, is_ordered};

/// How many plans of one view are kept for the next questions.
const KEPT: usize = 16;
/// Of how many versions of views.
const VIEWS: usize = 256;

/// Plans that finish the states of views, by fingerprint.
#[derive(Debug, Default)]
pub(crate) struct Finishers {
    idle: Mutex<BTreeMap<Digest, Vec<Finisher>>>,
}

impl Finishers {
    fn take(&self, fingerprint: &Digest) -> Option<Finisher> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(fingerprint)?.pop()
    }

    fn put(&self, fingerprint: Digest, finisher: Finisher) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= VIEWS && !idle.contains_key(&fingerprint) {
            idle.clear();
        }
        let of_view = idle.entry(fingerprint).or_default();
        if of_view.len() < KEPT {
            of_view.push(finisher);
        }
    }
}

/// The key that is looked up: one row for each key column of the state.
type Probe = Vec<ArrayRef>;

impl Serving {
    /// The rows of the key that `query` asks for, if that is all it asks for.
    ///
    /// # Errors
    /// Those of [`query_view`](Self::query_view).
    pub(crate) async fn look_up(&self, view: &str, query: &ViewQuery) -> Result<Option<Rows>> {
        let project = self.project();
        if project.previous_in(None).is_some() {
            return Ok(None);
        }
        let catalog = project.current();
        let Some(view) = catalog.views().get(view) else { return Ok(None) };
        let Some(probe) = probe(view, query)? else { return Ok(None) };
        self.rows_of(catalog, view, &probe, query).await.map(Some)
    }

    async fn rows_of(
        &self,
        catalog: &Catalog,
        view: &Arc<View>,
        probe: &Probe,
        query: &ViewQuery,
    ) -> Result<Rows> {
        let (name, fingerprint) = (view.name().to_string(), view.fingerprint());
        let source = Source::State { view: name, fingerprint, cut: 0 };
        let moment = self.moment(catalog, std::slice::from_ref(&source), query.max_staleness).await?;
        let schema = view.cuts()[0].schema();
        let origin = || format!("the states of {}", view.name());
        let stored = moment.stored.values().flatten();
        let speed = moment.snapshot.views.iter().flat_map(|view| &view.states);
        let mut states = Vec::new();
        for batch in stored.chain(speed.map(|(_, state)| state.batch())) {
            let batch = conform(batch, schema, origin)?;
            if let Some(row) = find(&batch, probe)? {
                states.push(batch.slice(row, 1));
            }
        }
        let mut finisher = match self.finishers.take(&fingerprint) {
            Some(finisher) => finisher,
            None => Finisher::try_new(catalog.session(), view).await?,
        };
        let batches = finisher.finish_key(states).await?;
        let schema = finisher.schema();
        self.finishers.put(fingerprint, finisher);
        Ok(Rows { schema, batches, coverage: moment.coverage, previous: false })
    }
}

/// The key that is asked for, if there is one for all of the state's key columns, and nothing else is asked.
fn probe(view: &View, query: &ViewQuery) -> Result<Option<Probe>> {
    let Some(columns) = view.state_key() else { return Ok(None) };
    let paged = query.order.is_some() || query.cursor.is_some() || query.limit == Some(0);
    if paged || columns.len() != query.filters.len() {
        return Ok(None);
    }
    let (schema, state) = (view.schema(), view.cuts()[0].schema());
    let mut probe = Probe::new();
    for (key, column) in columns.into_iter().enumerate() {
        let field = schema.field(column);
        let (name, data_type) = (field.name(), field.data_type());
        let given = query.filters.iter().find(|(filter, _)| filter == name);
        let Some((_, value)) = given.filter(|_| is_ordered(data_type) && !data_type.is_nested()) else {
            return Ok(None);
        };
        if state.field(key).data_type() != data_type {
            return Ok(None);
        }
        probe.push(filter::parse(view.name(), name, value, data_type)?.to_array()?);
    }
    Ok(Some(probe))
}

/// The row of a sorted batch that has this key.
fn find(batch: &RecordBatch, probe: &Probe) -> Result<Option<usize>> {
    let ascending = SortOptions { descending: false, nulls_first: true };
    let columns = batch.columns().iter().zip(probe);
    let compare = columns.map(|(column, key)| make_comparator(column, key, ascending));
    let compare = compare.collect::<Result<Vec<_>, _>>()?;
    let against = |row: usize| {
        compare.iter().map(|compare| compare(row, 0)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    };
    let (mut low, mut high) = (0, batch.num_rows());
    while low < high {
        let middle = low + (high - low) / 2;
        match against(middle) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Ok(Some(middle)),
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
