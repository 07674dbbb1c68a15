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
mod coverage;
mod cut;
mod digest;
mod distinct;
mod engine;
mod error;
mod fold;
mod log;
mod offset;
pub mod scan;
mod snapshot;
mod state;
pub mod stream;
mod view;

pub use coverage::{Coverage, Horizon, Offsets};
pub use cut::{Cut, Kind as CutKind};
pub use digest::Digest;
pub use engine::session;
pub use error::{Error, Kind, Result};
pub use fold::{Folder, Merger};
pub use log::{Append, Log, LogBounds, LogChunk};
pub use offset::{Offset, OffsetRange, Partition};
pub use snapshot::{
    Answer, IngestReceipt, PartitionRange, PartitionStatus, Pieces, Snapshot, SnapshotRequest, SpeedLayer, SpeedStatus,
    SpeedView, SpeedViewStatus, StreamRequest, Tail, ViewRequest,
};
pub use state::{STATE_FORMAT, State};
pub use stream::StreamDef;
pub use view::View;
