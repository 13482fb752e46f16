//! What goes wrong in a spool. Whatever it is, readings stay with whoever offered them.

use std::path::PathBuf;

use telemetry::units::about;

/// Why a spool can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("the spool in {dir} can't be opened: {source}")]
pub struct OpenError {
    pub(crate) dir: PathBuf,
    pub(crate) source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why an operation failed. Whatever it was, nothing was lost: the caller keeps what it offered.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// No room on the disk: try again after acks.
    #[error(
        "the disk under the spool is full; batches wait in the journal until acknowledgements or you free space"
    )]
    Full,
    /// The file system has less free than others are to have: try again after acks.
    #[error(
        "the disk under the spool has {} free, less than spool.min_free ({}); batches wait in the journal until acknowledgements or you free space, or spool.min_free is lowered",
        about(*free), about(*min_free)
    )]
    Floor {
        /// Bytes free now.
        free: u64,
        /// Bytes that others are to have.
        min_free: u64,
    },
    /// At its cap, and what is left is of classes that may not be dropped: try again after acks.
    #[error(
        "the spool is at its cap and holds only what its classes forbid to drop; readings wait in the journal until acknowledgements make room (spool.max_bytes, spool.class)"
    )]
    Blocked,
    /// The log is out of order after a failed write or fsync; it is reopened and verified by a later call.
    #[error("the spool can't write: {0}")]
    Broken(String),
    /// A file of it is there and can't be read just now: nothing is lost, and it is opened anew by a later call.
    #[error("the spool waits for what it can't read just now: {0}")]
    Withheld(String),
    /// A batch can't be read back.
    #[error("the spool can't read a batch: {0}")]
    Unreadable(String),
}
