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

mod archive;
mod batch_view;
mod digest;
mod durable;
mod error;
mod gc;
mod log;
mod manifest;
mod offset;
mod parquet_file;
mod store;
pub mod stream;
mod stream_manifest;

pub use archive::{Archive, NewSegment};
pub use batch_view::{AuditMismatch, AuditSummary, BatchManifest, BatchViews, StateFile};
pub use digest::Digest;
pub use error::{Error, Kind, Result};
pub use gc::{Gc, Orphan};
pub use log::{Append, Log, LogBounds, LogChunk};
pub use manifest::{Manifests, Versioned};
pub use offset::{Offset, OffsetRange, Partition};
pub use store::{Object, Store};
pub use stream::StreamDef;
pub use stream_manifest::{Evolution, Segment, StreamManifest, evolve};
