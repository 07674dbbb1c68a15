//! What a Twofold view *is*, shared by the batch, speed and serving layers.
//!
//! Everything rests on three functions that each view derives from its query:
//!
//! ```text
//! fold   : Events -> State
//! merge  : State x State -> State      (associative and commutative, identity = empty)
//! finish : State -> Rows
//!
//! answer = finish( merge( batch[0, H), speed[H, now) ) )      for any horizon H
//! ```

mod aggregate;
mod archive;
mod audit;
mod audits;
mod batch_progress;
mod batch_view;
mod by_start;
mod calls;
mod catalog;
mod chunks;
mod config;
mod coverage;
mod cut;
pub mod ddl;
mod definition;
mod difference;
mod digest;
mod durable;
mod engine;
mod error;
mod expr;
mod failpoint;
mod finality;
mod first_row;
mod fold;
pub mod foreign;
mod functions;
mod gc;
mod ingest;
mod intake;
mod key_order;
mod late_events;
mod log;
mod manifest;
mod meaning;
mod memory;
mod off_thread;
mod offset;
mod order;
mod parquet_file;
mod place;
mod project;
mod projects;
mod row_key;
pub mod scan;
mod segment;
mod shape;
mod snapshot;
mod sorted;
mod split;
mod sql;
mod sql_type;
mod state;
mod state_file;
mod state_pieces;
mod state_table;
mod store;
pub mod stream;
mod stream_manifest;
mod suggest;
mod table;
mod template;
mod text_views;
pub mod token;
mod tokens;
mod told_coverage;
mod union;
mod unit;
mod versions;
mod view;
mod window_key;
mod windowed;
mod windows;
pub mod wire;

pub use archive::{Archive, NewSegment, SegmentEvents};
pub use audit::{AUDIT, AuditRun, AuditTotals, Audited, Finding, Kept};
pub use audits::Audits;
pub use batch_progress::BatchProgress;
pub use batch_view::{AuditMismatch, AuditSummary, BatchManifest, BatchViews};
pub use catalog::Catalog;
pub use chunks::Footer;
pub use config::duration::duration;
pub use config::{
    AlertsConfig, ArchiveConfig, BatchConfig, CONFIG_FILE, Config, IngestConfig, LimitsConfig, Listening,
    MemoryConfig, Schedule, ServeConfig, SpeedConfig, StoreLocation, TablesConfig, TlsFiles,
};
pub use coverage::{Coverage, Horizon, Offsets};
pub use cut::{Cut, Kind as CutKind};
pub use ddl::{Location, TableDecl, TableDef, TableFormat, ViewDef};
pub use definition::Definition;
pub use difference::{DifferentKey, difference, differing};
pub use digest::Digest;
pub use engine::{session, session_with};
pub use error::{Error, Kind, OF_LIMITS, Result};
pub use failpoint::Failpoint;
pub use finality::{PartitionWatermark, decide, least_watermark, rfc3339};
pub use fold::{Finisher, Folder, Merger, Values};
pub use functions::{Functions, Merging};
pub use gc::{Gc, Orphan};
pub use ingest::{
    IDEMPOTENCY_KEY, IdempotencyKey, IngestReceipt, IngestRequest, PartitionRange, REMEMBER_KEYS,
};
pub use intake::{Intake, Interrupted, Taken};
pub use key_order::is_ordered;
pub use late_events::{LATE_EVENTS, LateEvents};
pub use log::{Append, AppendRequest, Appended, Log, LogBounds, LogChunk, Once};
pub use manifest::{Manifests, Newest, Versioned};
pub use offset::{Offset, OffsetRange, Partition};
pub use order::depends_on_order;
pub use project::Project;
pub use projects::{Projects, SettledProject};
pub use segment::{SealedSegment, SealedSegments, SegmentState, SpeedStates, state_key};
pub use snapshot::{
    Answer, LateTotal, MOVED_EVERY, PartitionStatus, Pieces, Snapshot, SnapshotRequest, SpeedLayer,
    SpeedStatus, SpeedView, SpeedViewStatus, StreamRequest, Tail, ViewRequest,
};
pub use sql_type::sql_type;
pub use state::{STATE_FORMAT, State, StateDigest, conform};
pub use state_file::StateFile;
pub use state_pieces::{HeldPieces, MergedPieces, StatePieces};
pub use state_table::StateTable;
pub use store::{Name, Object, Store};
pub use stream::{Deduplicate, StreamDef};
pub use stream_manifest::{Evolution, Segment, StreamManifest, evolve};
pub use table::Table;
pub use template::template;
pub use token::{Scopes, Scram, Token, TokenRecord};
pub use tokens::{TOKENS, TokenList, Tokens};
pub use told_coverage::COVERAGE;
pub use unit::Unit;
pub use versions::{Progress, Versions};
pub use view::View;
pub use window_key::WindowKey;
