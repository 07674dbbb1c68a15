//! A small project with events, a speed layer that folds them in memory, and the plain query as oracle.

use crate::query::Serving;
use arrow::array::{Int32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::compute::concat_batches;
use arrow::row::{RowConverter, SortField};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use twofold_common::stream::{at_or_above, below};
use twofold_common::{
    Answer, Archive, AuditSummary, BatchManifest, BatchViews, Catalog, Error, Folder, IdempotencyKey,
    IngestReceipt, IngestRequest, LateEvents, Merger, NewSegment, Offset, OffsetRange, Partition,
    PartitionStatus, PartitionWatermark, Project, Result, Snapshot, SnapshotRequest, SpeedLayer, SpeedStatus,
    SpeedView, SpeedViewStatus, State, Store, StreamDef, Tail, View,
};

const SQL: &str = "
CREATE STREAM flights (carrier TEXT NOT NULL, delay BIGINT) WITH (partitions = 2, partition_by = 'carrier');
CREATE TABLE airlines (carrier TEXT, name TEXT) WITH (path = 'airlines.csv');
CREATE MATERIALIZED VIEW delays AS
  SELECT a.name, count(*) AS flights, avg(f.delay) AS mean, max(f.delay) AS worst
  FROM flights f JOIN airlines a USING (carrier) GROUP BY a.name;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n, sum(delay) AS total FROM flights;
CREATE MATERIALIZED VIEW late AS SELECT carrier, delay FROM flights WHERE delay > 30;
CREATE VIEW worst AS SELECT name, worst FROM delays ORDER BY worst DESC, name LIMIT 2;
";
/// How many events each of the two partitions has.
pub(crate) const EVENTS: u64 = 40;
/// How many offsets a segment of the speed layer has.
const SEGMENT: u64 = 7;

/// A project, its stores, and its speed layer.
pub(crate) struct World {
    _dir: tempfile::TempDir,
    project: Project,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Store,
    pub(crate) archive: Archive,
    pub(crate) batch_views: BatchViews,
    pub(crate) speed: Arc<FoldingSpeed>,
}

impl World {
    /// Nothing stored, and all events in the log.
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// The same, of a project with more statements.
    pub(crate) async fn with(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("twofold.toml", "");
        write("views.sql", &[SQL, more].concat());
        write("airlines.csv", "carrier,name\nAA,American\nUA,United\nB6,JetBlue\n");
        let project = Project::load(dir.path()).unwrap();
        let catalog = Arc::new(Catalog::new(&project).await.unwrap());
        let store = Store::memory();
        let archive = Archive::new(store.clone());
        for stream in project.all_streams() {
            archive.declare(&stream).await.unwrap();
        }
        let speed = Arc::new(FoldingSpeed { catalog: Arc::clone(&catalog), script: Mutex::default() });
        Self {
            _dir: dir,
            project,
            catalog,
            archive,
            batch_views: BatchViews::new(store.clone()),
            store,
            speed,
        }
    }

    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.serving_with(Arc::clone(&self.speed) as _)
    }

    pub(crate) fn serving_with(&self, speed: Arc<dyn SpeedLayer>) -> Arc<Serving> {
        let catalog = Arc::clone(&self.catalog);
        Arc::new(Serving::new(catalog, self.archive.clone(), self.batch_views.clone(), speed))
    }

    /// Archives the stream up to these offsets.
    pub(crate) async fn archive_to(&self, ends: [u64; 2]) {
        let def = self.catalog.stream("flights").unwrap();
        let known = self.archive.manifest("flights").await.unwrap().unwrap();
        let mut segments = Vec::new();
        for (partition, end) in def.partitions().zip(ends) {
            let range = OffsetRange::new(known.body.end(partition), Offset(end));
            if range.is_empty() {
                continue;
            }
            let new = NewSegment {
                partition,
                range,
                schema: def.event_schema(),
                batches: vec![events(def, partition, range)],
                watermark: None,
                states: BTreeMap::new(),
            };
            segments.push((partition, self.archive.write_segment("flights", new).await.unwrap()));
        }
        self.archive.append("flights", known.version, segments).await.unwrap();
    }

    /// Publishes a batch view over everything below these offsets.
    pub(crate) async fn batch_to(&self, view: &str, ends: [u64; 2]) {
        let view = self.catalog.view(view).unwrap();
        let fingerprint = view.fingerprint().to_string();
        let (mut cuts, mut state_digests) = (Vec::new(), Vec::new());
        for cut in 0..view.cuts().len() {
            let mut states = Vec::new();
            for (partition, end) in [Partition(0), Partition(1)].into_iter().zip(ends) {
                states.push(
                    fold(&self.catalog, view, cut, partition, OffsetRange::new(Offset(0), Offset(end))).await,
                );
            }
            let merger = Merger::try_new(self.catalog.session(), &view.cuts()[cut]).await;
            let merged = merger.unwrap().merge(&states).await.unwrap();
            state_digests.push(merged.digest().unwrap());
            let mut files = Vec::new();
            let half = merged.rows().div_ceil(2);
            let halves = [merged.slice(0, half), merged.slice(half, merged.rows() - half)];
            for (bucket, state) in halves.iter().enumerate() {
                let written =
                    self.batch_views.write_state(view.name(), &fingerprint, cut, bucket, state.batch());
                files.push(written.await.unwrap());
            }
            cuts.push(files);
        }
        let ends = ends.into_iter().enumerate().map(|(p, end)| (Partition(p as u32), Offset(end)));
        let manifest = BatchManifest {
            view: view.name().to_string(),
            fingerprint: fingerprint.clone(),
            horizon: BTreeMap::from([("flights".to_string(), ends.collect())]),
            cuts,
            state_digests,
            created: 1_357_034_400_000_000_000,
            started: Some(1_357_034_399_000_000_000),
            mode: "full".to_string(),
            audit: AuditSummary::default(),
        };
        let last = self.batch_views.latest(view.name(), &fingerprint).await.unwrap();
        self.batch_views.publish(last.map(|m| m.version), &manifest).await.unwrap();
    }

    /// What one plain query over all events gives.
    pub(crate) async fn plain(&self, sql: &str) -> Vec<RecordBatch> {
        let mut config = SessionConfig::new().with_target_partitions(1);
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let session = SessionContext::new_with_config(config);
        let def = self.catalog.stream("flights").unwrap();
        let all = OffsetRange::new(Offset(0), self.speed.end());
        let batches = def.partitions().map(|p| events(def, p, all)).collect();
        let flights = MemTable::try_new(def.event_schema(), vec![batches]).unwrap();
        session.register_table("flights", Arc::new(flights)).unwrap();
        let airlines = &self.project.tables["airlines"];
        let airlines =
            MemTable::try_new(airlines.def.schema.clone(), vec![airlines.batches.clone()]).unwrap();
        session.register_table("airlines", Arc::new(airlines)).unwrap();
        for view in &self.project.views {
            session.sql(&format!("CREATE VIEW {} AS {}", view.name, view.sql)).await.unwrap();
        }
        session.sql(sql).await.unwrap().collect().await.unwrap()
    }
}

/// Rows in an order of their own, as bytes: equal if and only if they are equal to the bit, as multisets.
pub(crate) fn canonical(batches: &[RecordBatch]) -> Vec<Vec<u8>> {
    let Some(first) = batches.first() else { return Vec::new() };
    let all = concat_batches(first.schema_ref(), batches).unwrap();
    let fields = all.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let rows = RowConverter::new(fields).unwrap().convert_columns(all.columns()).unwrap();
    let mut rows: Vec<Vec<u8>> = rows.iter().map(|row| row.data().to_vec()).collect();
    rows.sort();
    rows
}

/// The events of a partition in a range.
fn events(def: &StreamDef, partition: Partition, range: OffsetRange) -> RecordBatch {
    let offsets = range.start.0 as i64..range.end.0.max(range.start.0) as i64;
    let place = |o: i64| o * 2 + i64::from(partition.0);
    let carriers = ["AA", "UA", "B6", "XX"];
    let batch = RecordBatch::try_new(
        def.event_schema(),
        vec![
            Arc::new(StringArray::from_iter_values(
                offsets.clone().map(|o| carriers[(place(o) * 7 % 4) as usize]),
            )),
            Arc::new(
                offsets
                    .clone()
                    .map(|o| (o % 5 != 0).then(|| place(o) * 37 % 101 - 20))
                    .collect::<Int64Array>(),
            ),
            Arc::new(Int32Array::from_iter_values(offsets.clone().map(|_| partition.0 as i32))),
            Arc::new(Int64Array::from_iter_values(offsets.clone())),
            Arc::new(TimestampNanosecondArray::from_iter_values(offsets.map(|o| o * 1000))),
        ],
    );
    let batch = batch.unwrap();
    below(&at_or_above(&batch, range.start).unwrap(), range.end).unwrap()
}

async fn fold(catalog: &Catalog, view: &View, cut: usize, partition: Partition, range: OffsetRange) -> State {
    let def = catalog.stream("flights").unwrap();
    let folder =
        Folder::try_new(catalog.session(), &view.cuts()[cut], |s| Ok(catalog.stream(s)?.event_schema()));
    folder.await.unwrap().fold("flights", &[events(def, partition, range)]).await.unwrap()
}

/// A speed layer that folds events of `flights` when it is asked, and misbehaves as it is told.
#[derive(Debug)]
pub(crate) struct FoldingSpeed {
    catalog: Arc<Catalog>,
    script: Mutex<Script>,
}

/// How it behaves.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// How far its log goes, in both partitions.
    pub(crate) end: u64,
    /// Below this it has dropped everything.
    pub(crate) floor: u64,
    /// Leaves out the second of its segments.
    pub(crate) gap: bool,
    /// What it answers instead.
    pub(crate) instead: Option<Answer>,
    /// What it was asked.
    pub(crate) asked: Vec<SnapshotRequest>,
    /// What was appended: stream, type, body.
    pub(crate) appended: Vec<(String, String, Bytes)>,
    /// And the keys of these requests.
    pub(crate) keys: Vec<Option<IdempotencyKey>>,
    pub(crate) sealed: u32,
}

impl Default for Script {
    fn default() -> Self {
        let (asked, appended, keys) = (Vec::new(), Vec::new(), Vec::new());
        Self { end: EVENTS, floor: 0, gap: false, instead: None, asked, appended, keys, sealed: 0 }
    }
}

impl FoldingSpeed {
    pub(crate) fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.script.lock().unwrap())
    }

    fn end(&self) -> Offset {
        Offset(self.script(|s| s.end))
    }

    fn pieces(&self, from: Offset) -> Vec<OffsetRange> {
        let (end, gap) = self.script(|s| (s.end, s.gap));
        let starts = (from.0..end).step_by(SEGMENT as usize);
        let mut pieces: Vec<_> =
            starts.map(|s| OffsetRange::new(Offset(s), Offset((s + SEGMENT).min(end)))).collect();
        if gap && pieces.len() > 1 {
            pieces.remove(1);
        }
        pieces
    }
}

#[async_trait]
impl SpeedLayer for FoldingSpeed {
    async fn snapshot(&self, request: &SnapshotRequest) -> Result<Answer> {
        let script = self.script(|s| {
            s.asked.push(request.clone());
            s.clone()
        });
        if let Some(instead) = script.instead {
            return Ok(instead);
        }
        let mut snapshot = Snapshot::default();
        for asked in &request.views {
            let view = self.catalog.view(&asked.view)?;
            let mut speed = SpeedView::default();
            for (&partition, &from) in &asked.from["flights"] {
                if from < Offset(script.floor) {
                    return Ok(Answer::Retired { relation: asked.view.clone() });
                }
                let pieces = self.pieces(from);
                for &piece in &pieces {
                    for cut in 0..view.cuts().len() {
                        speed.states.push((cut, fold(&self.catalog, view, cut, partition, piece).await));
                    }
                }
                speed.pieces.entry("flights".into()).or_default().insert(partition, pieces);
            }
            snapshot.views.push(speed);
        }
        for asked in &request.streams {
            let def = self.catalog.stream(&asked.stream)?;
            let mut tail = Tail::default();
            for (&partition, &from) in &asked.from {
                let range = OffsetRange::new(from, self.end());
                tail.ranges.insert(partition, range);
                tail.batches.push(events(def, partition, range));
            }
            snapshot.streams.push(tail);
        }
        snapshot.watermarks = (0..2)
            .map(|p| PartitionWatermark {
                stream: "flights".into(),
                partition: Partition(p),
                watermark: Some(1_357_034_400_000_000_000 + i64::from(p)),
                idle: false,
            })
            .collect();
        if request.late_events {
            let late = LateEvents {
                stream: "flights".into(),
                view: "totals".into(),
                partition: Partition(1),
                window: Some((0, 60_000_000_000)),
                count: 3,
                worst_lateness: 1_999_999,
            };
            snapshot.late_events = Some(LateEvents::batch(&[late])?);
        }
        Ok(Answer::Snapshot(snapshot))
    }

    async fn ingest(&self, request: IngestRequest) -> Result<IngestReceipt> {
        let IngestRequest { stream, format, key, body } = request;
        self.catalog.stream(&stream)?;
        if body.is_empty() {
            return Err(Error::Invalid("nothing in it".into()));
        }
        self.script(|s| s.keys.push(key));
        self.script(|s| s.appended.push((stream, format, body)));
        let reasons = vec!["because".into()];
        Ok(IngestReceipt { accepted: 3, rejected: 1, reasons, ..IngestReceipt::default() })
    }

    async fn seal(&self) -> Result<()> {
        self.script(|s| s.sealed += 1);
        Ok(())
    }

    async fn gc(&self, _: bool) -> Result<Vec<twofold_common::Digest>> {
        Ok(Vec::new())
    }

    async fn moved(&self, seen: Option<u64>) -> Result<u64> {
        while seen == Some(self.end().0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(self.end().0)
    }

    async fn status(&self) -> Result<SpeedStatus> {
        let partition = |p| PartitionStatus {
            stream: "flights".into(),
            partition: Partition(p),
            log_start: 0,
            log_end: EVENTS,
            folded: EVENTS - 2,
            archived: 0,
            segments_waiting: 1,
            watermark: Some(1_357_034_400_000_000_000 + i64::from(p)),
            idle: false,
        };
        let views = self.catalog.views().values().map(|view| SpeedViewStatus {
            view: view.name().to_string(),
            fingerprint: view.fingerprint(),
            segments: 2,
            rows: 5,
            bytes: 1000,
            building: (view.name() == "late").then_some((3, 10)),
            failed: None,
        });
        Ok(SpeedStatus {
            partitions: vec![partition(0), partition(1)],
            views: views.collect(),
            epochs: 11,
            error: None,
            late: Vec::new(),
        })
    }
}
