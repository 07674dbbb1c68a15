//! What the platform is doing, as `GET /v1/status` answers and `twofold status` prints it.
//!
//! The parts are read one after the other: they are not of one moment, and offsets of a later part may be
//! ahead. When the speed layer cannot be reached, what it alone knows is absent and [`LayerStatus::error`]
//! says why; the stored part is there all the same.

use crate::query::Serving;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use twofold_common::{
    AuditSummary, AuditTotals, BatchManifest, Horizon, PartitionStatus, Result, Segment, SpeedStatus,
    SpeedViewStatus, StreamDef, StreamManifest, Versioned, View, least_watermark, rfc3339,
    stream::REJECTED_SUFFIX,
};
use utoipa::ToSchema;

/// The state of a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The speed layer.
    pub speed: LayerStatus,
    /// The streams by name, each with that of its rejected events beside it.
    pub streams: Vec<StreamStatus>,
    /// The maintained views by name.
    pub views: Vec<ViewStatus>,
    /// The names of the query-time views.
    pub query_views: Vec<String>,
    /// The tables by name.
    pub tables: Vec<TableStatus>,
}

/// The state of the speed layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LayerStatus {
    /// Whether it answered.
    pub reachable: bool,
    /// Epochs committed since it started.
    pub epochs: Option<u64>,
    /// Why it did not answer; if it did, the last error of its loop, if its last try failed.
    pub error: Option<String>,
}

/// The state of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamStatus {
    /// The stream.
    pub name: String,
    /// How many events are known of it: the archived ones, and at most those that only the log holds.
    pub events: u64,
    /// How many events were rejected from it. They are the stream of its name and `_rejected`.
    pub rejected: u64,
    /// Its partitions.
    pub partitions: Vec<StreamPartition>,
}

/// The state of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamPartition {
    /// The partition.
    pub partition: u32,
    /// The exclusive end of what is archived.
    pub archived: u64,
    /// How many segments are archived.
    pub segments: u64,
    /// How many events they hold.
    pub archived_events: u64,
    /// How many bytes their files have.
    pub archived_bytes: u64,
    /// Segments that are sealed and not archived yet.
    pub segments_waiting: Option<u64>,
    /// The first offset that the log still holds.
    pub log_start: Option<u64>,
    /// One past the last durable event.
    pub log_end: Option<u64>,
    /// One past the last event that was folded.
    pub folded: Option<u64>,
    /// How many offsets are durable and not folded yet.
    pub lag: Option<u64>,
    /// How far event time has come, less the allowed delay: RFC 3339, UTC.
    pub watermark: Option<String>,
    /// Whether nothing has come for as long as the stream's idle timeout.
    #[serde(default)]
    pub idle: bool,
}

/// The state of a maintained view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViewStatus {
    /// The view.
    pub name: String,
    /// The fingerprint of its definition: 64 hexadecimal digits.
    pub fingerprint: String,
    /// Whether it can be queried.
    pub state: ViewState,
    /// The streams that it reads.
    pub streams: Vec<String>,
    /// The newest batch view; `None` before the first.
    pub batch: Option<BatchStatus>,
    /// What audits have found about this version of it; `None` before the first.
    #[serde(default)]
    pub audit: Option<AuditStatus>,
    /// What the speed layer holds above.
    pub speed: Option<SpeedStates>,
    /// How far the speed layer has come with building it.
    pub building: Option<Building>,
    /// Why it stands still, if its query failed on an event.
    pub failed: Option<String>,
    /// While the project is being built: the fingerprint of the previous version of the view, which answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The least watermark of the partitions of its streams: RFC 3339, UTC. Windows that end there or before are final.
    #[serde(default)]
    pub watermark: Option<String>,
}

/// Whether a view can be queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ViewState {
    /// It answers.
    Live,
    /// The speed layer is building it.
    Building,
    /// Its query failed on an event: change it.
    Failed,
    /// The speed layer runs with another definition, or without it: restart it.
    Unknown,
    /// The speed layer cannot be reached.
    Offline,
}

/// What audits have found about a view: states of segments, and of its batch view, counted by cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditStatus {
    /// Where both states are the same.
    pub equal: u64,
    /// Where there was none to compare with.
    pub unaudited: u64,
    /// Where they differ.
    pub unequal: u64,
    /// When states were last compared: RFC 3339, UTC.
    pub at: String,
}

/// A batch view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchStatus {
    /// The version of its manifest.
    pub version: u64,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// How it was made: `incremental` or `full`.
    pub mode: String,
    /// The exclusive upper end of what it covers.
    #[schema(value_type = BTreeMap<String, BTreeMap<String, u64>>)]
    pub horizon: Horizon,
    /// How many keys its states have.
    pub rows: u64,
    /// How many bytes their files have.
    pub bytes: u64,
    /// How its states compare with the speed layer's.
    #[schema(value_type = Object)]
    pub audit: AuditSummary,
}

/// What the speed layer holds of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SpeedStates {
    /// How many segments it holds states of.
    pub segments: u64,
    /// How many rows these states have.
    pub rows: u64,
    /// About how many bytes of memory they take.
    pub bytes: u64,
}

/// Progress of building a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Building {
    /// Events folded so far.
    pub done: u64,
    /// Events to fold.
    pub total: u64,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableStatus {
    /// The table.
    pub name: String,
    /// How many rows it has.
    pub rows: u64,
}

impl Serving {
    /// What the platform is doing.
    ///
    /// # Errors
    /// Those of reading manifests. A speed layer that cannot be reached is none: it is part of the answer.
    pub async fn status(&self) -> Result<Status> {
        let speed = self.speed.status().await;
        let layer = layer(&speed);
        let speed = speed.ok();
        let project = self.project();
        let catalog = project.current();
        let previous = project.previous_in(speed.as_ref()).map(|catalog| catalog.views());
        let mut streams = Vec::new();
        for def in catalog.streams().values() {
            let manifest = self.archive.manifest(&def.name).await?;
            streams.push(stream(def, manifest.map(|m| m.body), speed.as_ref()));
        }
        let mut views = Vec::new();
        for view in catalog.views().values() {
            let batch = self.batch_views.latest(view.name(), &view.fingerprint().to_string()).await?;
            let mut status = self::view(view, batch, speed.as_ref());
            let audits = self.batch_views.audits();
            status.audit = audits.totals(view.name(), &status.fingerprint).await?.map(audit);
            let before = previous.and_then(|views| views.get(view.name())).map(|view| view.fingerprint());
            status.previous = before.filter(|before| *before != view.fingerprint()).map(|f| f.to_string());
            views.push(status);
        }
        let tables = catalog.tables().iter();
        let tables =
            tables.map(|(name, t)| TableStatus { name: name.clone(), rows: t.num_rows() as u64 }).collect();
        let query_views = catalog.query_views().keys().cloned().collect();
        Ok(Status { speed: layer, streams: with_rejected(streams), views, query_views, tables })
    }
}

fn layer(speed: &Result<SpeedStatus>) -> LayerStatus {
    match speed {
        Ok(speed) => LayerStatus { reachable: true, epochs: Some(speed.epochs), error: speed.error.clone() },
        Err(e) => LayerStatus { reachable: false, epochs: None, error: Some(e.to_string()) },
    }
}

fn stream(def: &StreamDef, manifest: Option<StreamManifest>, speed: Option<&SpeedStatus>) -> StreamStatus {
    let archived: BTreeMap<_, _> = manifest.map(|m| m.segments).unwrap_or_default();
    let partitions: Vec<StreamPartition> = def
        .partitions()
        .map(|p| {
            let known =
                speed.and_then(|s| s.partitions.iter().find(|k| k.stream == def.name && k.partition == p));
            partition(p.0, archived.get(&p).map_or(&[], Vec::as_slice), known)
        })
        .collect();
    let only_in_log = |p: &StreamPartition| p.log_end.map_or(0, |end| end.saturating_sub(p.archived));
    let events = partitions.iter().map(|p| p.archived_events + only_in_log(p)).sum();
    StreamStatus { name: def.name.clone(), events, rejected: 0, partitions }
}

fn partition(partition: u32, segments: &[Segment], known: Option<&PartitionStatus>) -> StreamPartition {
    StreamPartition {
        partition,
        archived: segments.last().map_or(0, |last| last.range.end.0),
        segments: segments.len() as u64,
        archived_events: segments.iter().map(|s| s.rows).sum(),
        archived_bytes: segments.iter().map(|s| s.bytes).sum(),
        segments_waiting: known.map(|k| k.segments_waiting),
        log_start: known.map(|k| k.log_start),
        log_end: known.map(|k| k.log_end),
        folded: known.map(|k| k.folded),
        lag: known.map(|k| k.log_end.saturating_sub(k.folded)),
        watermark: known.and_then(|k| k.watermark).map(rfc3339),
        idle: known.is_some_and(|k| k.idle),
    }
}

/// The streams, each with the number of events that were rejected from it.
fn with_rejected(mut streams: Vec<StreamStatus>) -> Vec<StreamStatus> {
    let events: BTreeMap<String, u64> = streams.iter().map(|s| (s.name.clone(), s.events)).collect();
    for stream in &mut streams {
        stream.rejected = events.get(&format!("{}{REJECTED_SUFFIX}", stream.name)).copied().unwrap_or(0);
    }
    streams
}

fn view(view: &View, batch: Option<Versioned<BatchManifest>>, speed: Option<&SpeedStatus>) -> ViewStatus {
    let known = |v: &&SpeedViewStatus| v.view == view.name() && v.fingerprint == view.fingerprint();
    let known = speed.and_then(|s| s.views.iter().find(known));
    let building = known.and_then(|v| v.building).map(|(done, total)| Building { done, total });
    let failed = known.and_then(|v| v.failed.clone());
    let state = match (speed, known) {
        (None, _) => ViewState::Offline,
        (_, None) => ViewState::Unknown,
        _ if failed.is_some() => ViewState::Failed,
        _ if building.is_some() => ViewState::Building,
        _ => ViewState::Live,
    };
    let partitions = speed.into_iter().flat_map(|s| &s.partitions);
    let mine = partitions.filter(|p| view.streams().contains(&p.stream));
    let watermark = least_watermark(mine.map(|p| (p.watermark, p.idle)));
    ViewStatus {
        watermark: watermark.map(rfc3339),
        name: view.name().to_string(),
        fingerprint: view.fingerprint().to_string(),
        state,
        streams: view.streams().into_iter().collect(),
        batch: batch.map(self::batch),
        audit: None,
        speed: known.map(|v| SpeedStates { segments: v.segments, rows: v.rows, bytes: v.bytes }),
        building,
        failed,
        previous: None,
    }
}

fn audit(totals: AuditTotals) -> AuditStatus {
    let AuditTotals { equal, unaudited, unequal, at } = totals;
    AuditStatus { equal, unaudited, unequal, at: rfc3339(at) }
}

pub(crate) fn batch(manifest: Versioned<BatchManifest>) -> BatchStatus {
    let Versioned { version, body } = manifest;
    let files = || body.cuts.iter().flatten();
    BatchStatus {
        version,
        created: rfc3339(body.created),
        rows: files().map(|f| f.rows).sum(),
        bytes: files().map(|f| f.bytes).sum(),
        mode: body.mode,
        horizon: body.horizon,
        audit: body.audit,
    }
}
