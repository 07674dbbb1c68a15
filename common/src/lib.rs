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

mod config;
pub mod ddl;
mod digest;
mod error;
mod log;
mod offset;
mod project;
pub mod stream;
mod suggest;
mod table;
mod template;

pub use config::{
    ArchiveConfig, BatchConfig, CONFIG_FILE, Config, Schedule, ServeConfig, SpeedConfig, StoreLocation,
};
pub use ddl::{Location, TableDecl, TableDef, TableFormat, ViewDef};
pub use digest::Digest;
pub use error::{Error, Kind, Result};
pub use log::{Append, Log, LogBounds, LogChunk};
pub use offset::{Offset, OffsetRange, Partition};
pub use project::Project;
pub use stream::StreamDef;
pub use table::Table;
pub use template::template;
