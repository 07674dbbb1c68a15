//! A state of another version of a function is refused or made anew, and never misread: the version is in the type of
//! the state, as in `sum.1.0`.

use super::hand_off::{Round, hand_off, ingest};
use super::laws::{everything, project};
use super::queries::Query;
use super::wild::{COLUMNS, Event};
use crate::laws::plans;
use crate::oracle::assert_same;
use crate::parity::{Platform, Sizes, runtime};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;
use twofold_batch::{Batch, Options};
use twofold_common::{
    Answer, Archive, BatchViews, CutKind, Digest, IngestReceipt, IngestRequest, Kind, SnapshotRequest,
    SpeedLayer, SpeedStatus, State,
};
use twofold_serving::Serving;
use twofold_speed::Engine;

/// The same bytes as the next version of each function would have written them.
fn of_next_version(batch: &RecordBatch) -> RecordBatch {
    let (mut fields, mut columns): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        match column.data_type() {
            DataType::Struct(parts) if field.name().starts_with('s') => {
                let parts: Vec<Field> =
                    parts.iter().map(|f| f.as_ref().clone().with_name(next(f.name()))).collect();
                let states = column.as_struct();
                let states = StructArray::new(
                    parts.clone().into(),
                    states.columns().to_vec(),
                    states.nulls().cloned(),
                );
                fields.push(Field::new_struct(field.name(), parts, field.is_nullable()));
                columns.push(Arc::new(states));
            }
            _ => {
                fields.push(field.as_ref().clone());
                columns.push(column.clone());
            }
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// `sum.1.0` as `sum.2.0`.
fn next(name: &str) -> String {
    let (head, field) = name.rsplit_once('.').unwrap();
    let (function, version) = head.rsplit_once('.').unwrap();
    format!("{function}.{}.{field}", version.parse::<u32>().unwrap() + 1)
}

fn next_state(state: &State) -> State {
    let batch = of_next_version(state.batch());
    State::from_rows(&batch.schema(), state.keys(), &[batch]).unwrap()
}

/// A speed layer that has the states of the next version.
#[derive(Debug)]
struct Ahead(Arc<Engine>);

#[async_trait::async_trait]
impl SpeedLayer for Ahead {
    async fn snapshot(&self, request: &SnapshotRequest) -> twofold_common::Result<Answer> {
        let mut answer = self.0.snapshot(request).await?;
        if let Answer::Snapshot(snapshot) = &mut answer {
            for (_, state) in snapshot.views.iter_mut().flat_map(|view| &mut view.states) {
                *state = next_state(state);
            }
        }
        Ok(answer)
    }

    async fn ingest(&self, request: IngestRequest) -> twofold_common::Result<IngestReceipt> {
        self.0.ingest(request).await
    }

    async fn seal(&self) -> twofold_common::Result<()> {
        self.0.seal().await
    }

    async fn gc(&self, dry_run: bool) -> twofold_common::Result<Vec<Digest>> {
        self.0.gc(dry_run).await
    }

    async fn status(&self) -> twofold_common::Result<SpeedStatus> {
        self.0.status().await
    }
}

/// A platform with one view, and events of two keys.
async fn platform() -> Platform {
    let view = "SELECT k, sum(n) AS s, avg(x) AS a FROM wild GROUP BY k".to_string();
    let query = Query { name: "totals".into(), plain: view.clone(), view, fallible: false };
    let mut platform = Platform::of(project(&[query]).await, Sizes { epoch_rows: 5, segment_rows: 2 }).await;
    let event = |k: u8| Event {
        second: i64::from(k),
        cells: (0..COLUMNS.len()).map(|column| if column == 0 { k } else { 1 }).collect(),
        partition: 0,
        gap: 0,
        twice: false,
    };
    let round = Round { wild: vec![event(1), event(2)], more: Vec::new(), batch: None, restart: None };
    ingest(&mut platform, &round).await;
    platform
}

fn refused<T>(answer: twofold_common::Result<T>) {
    let error = answer.err().expect("a state of another version was taken");
    let text = error.to_string();
    assert_eq!(error.kind(), Kind::Corrupt, "{text}");
    assert!(text.contains("sum.1.0") && text.contains("sum.2.0"), "{text}");
}

#[test]
fn serving_refuses_a_speed_state_of_another_version() {
    runtime().block_on(async {
        let platform = platform().await;
        let (archive, views) =
            (Archive::new(platform.store.clone()), BatchViews::new(platform.store.clone()));
        let ahead = Arc::new(Ahead(platform.engine().clone()));
        let serving = Serving::new(platform.catalog.clone(), archive, views, ahead);
        refused(serving.query("SELECT * FROM totals").await);
    });
}

#[test]
fn a_batch_state_of_another_version_is_refused_until_it_is_made_anew() {
    runtime().block_on(async {
        let mut platform = platform().await;
        hand_off(&mut platform, false).await;
        let before = platform.serving().query("SELECT * FROM totals").await.unwrap();
        let views = BatchViews::new(platform.store.clone());
        let fingerprint = platform.catalog.view("totals").unwrap().fingerprint().to_string();
        let latest = views.latest("totals", &fingerprint).await.unwrap().unwrap();
        let mut manifest = latest.body.clone();
        for (cut, files) in manifest.cuts.iter_mut().enumerate() {
            for (bucket, file) in files.iter_mut().enumerate() {
                let rows = views.read_state(file).await.unwrap();
                let rows =
                    of_next_version(&arrow::compute::concat_batches(&rows[0].schema(), &rows).unwrap());
                *file = views.write_state("totals", &fingerprint, cut, bucket, &rows).await.unwrap();
            }
        }
        views.publish(Some(latest.version), &manifest).await.unwrap();
        refused(platform.serving().query("SELECT * FROM totals").await);

        // What comes next must not be merged into it either.
        ingest(&mut platform, &Round { wild: vec![], more: vec![], batch: None, restart: None }).await;
        let batch = Batch {
            catalog: platform.catalog.clone(),
            archive: Archive::new(platform.store.clone()),
            batch_views: views.clone(),
            clock: Arc::new(|| 9),
        };
        let options = |full| Options { full, view: None, workers: 1 };
        batch.run(&options(true), &|_| {}).await.unwrap();
        let after = platform.serving().query("SELECT * FROM totals").await.unwrap();
        assert_same("made anew", &after.batches, &before.batches);
    });
}

/// Nor is it merged.
#[test]
fn merging_states_of_two_versions_fails() {
    runtime().block_on(async {
        let platform = platform().await;
        let view = platform.catalog.view("totals").unwrap();
        let mut plans = plans(&platform.catalog, view).await;
        let events = platform.all.values().next().unwrap()[0].clone();
        let states = plans.fold(view, &[("wild", events.clone()), ("wild", events)]).await;
        let cut = &view.cuts()[0];
        let mut merger = twofold_common::Merger::try_new(platform.catalog.session(), cut).await.unwrap();
        let two = [states[0][0].clone(), next_state(&states[0][1])];
        refused(merger.merge(&two).await);
        refused(merger.merge(&two[1..]).await);
    });
}

/// All that a view keeps of a function is under the function's name and version.
#[test]
fn every_state_has_its_version_in_its_type() {
    runtime().block_on(async {
        let queries = &everything().await.1;
        let (_dir, _, catalog) = project(queries).await;
        let mut functions = std::collections::BTreeSet::new();
        for view in catalog.views().values() {
            for cut in view.cuts().iter().filter(|cut| matches!(cut.kind(), CutKind::Aggregate { .. })) {
                for field in cut.schema().fields().iter().skip(cut.keys()) {
                    let DataType::Struct(parts) = field.data_type() else {
                        panic!("{}: {} is {}", view.name(), field.name(), field.data_type());
                    };
                    for (i, part) in parts.iter().enumerate() {
                        let name: Vec<&str> = part.name().split('.').collect();
                        let [function, version, index] = name[..] else { panic!("{}", part.name()) };
                        assert!(version.parse::<u32>().unwrap() > 0, "{}", part.name());
                        assert_eq!(index, i.to_string(), "{}", part.name());
                        functions.insert(function.to_string());
                    }
                }
            }
        }
        assert!(functions.len() >= 35, "{functions:?}");
    });
}
