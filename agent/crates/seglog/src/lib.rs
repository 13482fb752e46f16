//! One segmented, checksummed, append-only log: journal, spool and MQTT session store.
mod cell;
mod disk;
mod error;
mod format;
mod index;
mod log;
mod quarantine;
mod reader;
mod recover;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod storage;

pub use cell::Cell;
pub use disk::Disk;
pub use error::{AppendError, CellError, OpenError, ReadError, ReleaseError, SyncError};
pub use log::{Log, Options, inspect};
pub use reader::{Entry, Reader, Readers};
pub use recover::{Gap, Recovery};
pub use storage::{File, Guard, Mode, Storage, is_full};
