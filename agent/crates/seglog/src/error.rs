//! What can go wrong, one enum an operation. Damage is none of these: it is reported, not refused.

use std::io;
use std::path::PathBuf;

use crate::regular::is_not_regular;
use crate::storage::is_unreadable;

/// Why a log or a cell could not be opened. Damaged content is never the reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, writes there.
    #[error("{} is in use by another process: stop it, or give this one another data directory", .0.display())]
    Locked(PathBuf),
    /// The disk refused what is needed to begin at all.
    #[error("{} can't be {doing}: {source}; {}", path.display(), remedy(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// What to do about a folder, or a file that must be, when the system refuses it.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::ROFS.raw_os_error() => {
            "its file system is read-only, as after an error of the disk: look into the kernel's log (dmesg), check the disk (smartctl, fsck), and mount it writable again"
        }
        _ if is_not_regular(error) => "move away what stands in its place",
        _ if is_unreadable(error) => {
            "its disk fails: look into the kernel's log (dmesg), check the disk (smartctl, fsck), and mount it again, or set agent.data_dir to a folder on a sound one. What is there stays as it is"
        }
        _ => "check that it exists, is mounted and belongs to the agent's user",
    }
}

/// Why a record was not taken. Nothing of it is in the log then.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No space on the disk. Passes when space is freed: nothing was lost, try again.
    #[error("no space is left on the disk of {}: free some, or lower the byte caps", .0.display())]
    Full(PathBuf),
    /// Larger than a record may be.
    #[error("a record of {len} bytes is over the limit of {max}: split it")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        max: u32,
    },
    /// A write or fsync failed before: what is on the disk is not known until it is opened anew.
    #[error("the log takes nothing until it is reopened: {0}")]
    Poisoned(String),
    /// A new segment could not be made for another reason than space. May pass: try again.
    #[error("a new segment {} can't be made: {source}", path.display())]
    Io {
        /// Its path.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

/// Why what was appended is not durable.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// No space on the disk. The records are kept in memory: free space and sync again.
    #[error("no space is left on the disk of {}: free some, or lower the byte caps", .0.display())]
    Full(PathBuf),
    /// A write or fsync failed, now or before. Nothing that was not durable then ever is, until
    /// the log is opened anew and has looked.
    #[error("the log takes nothing until it is reopened: {0}")]
    Poisoned(String),
}

/// Why a released segment was not unlinked, or its unlink not made durable. May pass: try again.
#[derive(Debug, thiserror::Error)]
#[error("segment {} can't be removed: {source}", path.display())]
pub struct ReleaseError {
    /// Which file or directory.
    pub path: PathBuf,
    /// What the disk said.
    pub source: io::Error,
}

/// Why a reader could not open a segment that should be there (permissions, too many open files).
/// May pass: the reader stays where it is.
#[derive(Debug, thiserror::Error)]
#[error("segment {} can't be read: {source}", path.display())]
pub struct ReadError {
    /// Which file.
    pub path: PathBuf,
    /// The number that the segment begins with.
    pub segment: u64,
    /// What the disk said.
    pub source: io::Error,
}

impl ReadError {
    /// True when the disk doesn't give the file: what may pass with another try, or with none. See [`Reader::pass_over`].
    ///
    /// [`Reader::pass_over`]: crate::Reader::pass_over
    pub fn is_unreadable(&self) -> bool {
        is_unreadable(&self.source)
    }
}

/// Why a cell's new value is not durable; the old one still is.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// Larger than the reserve.
    #[error("a value of {len} bytes is over the {max} bytes reserved in {}", path.display())]
    TooLarge {
        /// Its length.
        len: usize,
        /// What was reserved.
        max: usize,
        /// The cell's file.
        path: PathBuf,
    },
    /// A write or fsync failed, now or before: open it anew.
    #[error("{} takes nothing until it is reopened: {reason}", path.display())]
    Poisoned {
        /// The cell's file.
        path: PathBuf,
        /// What the disk said.
        reason: String,
    },
}
