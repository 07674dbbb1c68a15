//! A small project whose archive has segments, and a speed layer's states of them.

use crate::run::{Batch, Options, ViewReport};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use twofold_common::{
    Archive, BatchViews, Catalog, Folder, NewSegment, Offset, OffsetRange, Partition, Project, Result,
    Segment, SegmentState, SpeedStates, State, Store, StreamDef, View, state_key,
};

const SQL: &str = "
CREATE STREAM clicks (k TEXT NOT NULL, n BIGINT) WITH (partitions = 2);
CREATE MATERIALIZED VIEW counts AS SELECT k, count(*) AS c, sum(n) AS s FROM clicks GROUP BY k;
";

/// How many events a segment has.
pub(crate) const ROWS: u64 = 5;

/// A project and its store.
pub(crate) struct World {
    _dir: tempfile::TempDir,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Store,
    pub(crate) archive: Archive,
    pub(crate) batch_views: BatchViews,
}

/// What a speed layer still holds.
#[derive(Debug, Default)]
pub(crate) struct Held(pub(crate) BTreeMap<Offset, State>);

#[async_trait]
impl SpeedStates for Held {
    async fn state_of(&self, segment: &SegmentState) -> Result<Option<State>> {
        Ok(self.0.get(&segment.range.start).cloned())
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::over(Store::memory()).await
    }

    /// The project over a store that another may use too.
    pub(crate) async fn over(store: Store) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("twofold.toml"), "").unwrap();
        std::fs::write(dir.path().join("views.sql"), SQL).unwrap();
        let project = Project::load(dir.path()).unwrap();
        let catalog = Arc::new(Catalog::new(&project).await.unwrap());
        let archive = Archive::new(store.clone());
        for stream in project.all_streams() {
            archive.declare(&stream).await.unwrap();
        }
        Self { _dir: dir, catalog, archive, batch_views: BatchViews::new(store.clone()), store }
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        self.catalog.view("counts").unwrap()
    }

    pub(crate) fn fingerprint(&self) -> String {
        self.view().fingerprint().to_string()
    }

    /// The clock goes on by a second whenever it is looked at, so that no two batches publish the same bytes.
    pub(crate) fn batch(&self) -> Batch {
        static CLOCK: AtomicI64 = AtomicI64::new(1);
        Batch {
            catalog: Arc::clone(&self.catalog),
            archive: self.archive.clone(),
            batch_views: self.batch_views.clone(),
            clock: Arc::new(|| CLOCK.fetch_add(1_000_000_000, Ordering::SeqCst)),
        }
    }

    /// Runs batch: what it says of the one view.
    pub(crate) async fn run(&self, full: bool, speed: Option<&dyn SpeedStates>) -> ViewReport {
        let options = Options { full, view: None, workers: 2 };
        self.batch().run_beside(speed, &options, &|_| {}).await.unwrap().remove(0)
    }

    /// Archives `segments` more segments in a partition; the speed layer folded of each what `meddle` made of its state.
    pub(crate) async fn archive(
        &self,
        partition: u32,
        segments: u64,
        meddle: impl Fn(u64, State) -> Option<State>,
    ) -> Vec<Segment> {
        let def = self.catalog.stream("clicks").unwrap();
        let known = self.archive.manifest("clicks").await.unwrap().unwrap();
        let first = known.body.end(Partition(partition)).0;
        let cut = &self.view().cuts()[0];
        let schema = |_: &str| Ok(def.event_schema());
        let mut folder = Folder::try_new(self.catalog.session(), cut, schema).await.unwrap();
        let mut new = Vec::new();
        for i in 0..segments {
            let start = first + i * ROWS;
            let range = OffsetRange::new(Offset(start), Offset(start + ROWS));
            let batch = events(def, partition, range);
            let state = meddle(i, folder.fold("clicks", std::slice::from_ref(&batch)).await.unwrap());
            let key = state_key(self.view().fingerprint(), 0);
            let segment = NewSegment {
                partition: Partition(partition),
                range,
                schema: def.event_schema(),
                batches: vec![batch],
                watermark: None,
                states: state.map(|state| (key, state.digest().unwrap())).into_iter().collect(),
            };
            new.push((Partition(partition), self.archive.write_segment("clicks", segment).await.unwrap()));
        }
        let written = new.iter().map(|(_, segment)| segment.clone()).collect();
        self.archive.append("clicks", known.version, new).await.unwrap();
        written
    }
}

/// A state in which one key counts one more.
pub(crate) fn wrong(state: &State) -> State {
    let rows = state.batch();
    let mut first = rows.slice(0, 1);
    let others = rows.slice(1, rows.num_rows() - 1);
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["never seen"]));
    let columns = std::iter::once(keys).chain(first.columns()[1..].iter().cloned()).collect();
    first = RecordBatch::try_new(rows.schema(), columns).unwrap();
    State::from_rows(&rows.schema(), state.keys(), &[others, first]).unwrap()
}

fn events(def: &StreamDef, partition: u32, range: OffsetRange) -> RecordBatch {
    let offsets: Vec<i64> = (range.start.0 as i64..range.end.0 as i64).collect();
    let zeros = Int64Array::from(vec![7; offsets.len()]);
    let schema = def.event_schema();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(offsets.iter().map(|n| Some(format!("key {}", n % 3))).collect::<StringArray>()),
        Arc::new(Int64Array::from(offsets.clone())),
        Arc::new(Int32Array::from(vec![partition as i32; offsets.len()])),
        Arc::new(Int64Array::from(offsets)),
        arrow::compute::cast(&zeros, schema.field(4).data_type()).unwrap(),
    ];
    RecordBatch::try_new(schema, columns).unwrap()
}
