//! Where the power goes: at the n-th call of a kind on some files. A step of a few calls among thousands (a
//! checkpoint, an unlink) is hit by naming it, hardly ever by chance.

use std::path::Path;

/// A kind of call that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// A file comes into being, or is emptied.
    Create,
    /// Bytes are written.
    Write,
    /// A file's fsync.
    Sync,
    /// A file gets another name.
    Rename,
    /// A name goes.
    Unlink,
    /// A directory's fsync.
    SyncDir,
}

/// A call to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Of this kind; `None` for any.
    pub call: Option<Call>,
    /// On a path that has this in it.
    pub path: &'static str,
    /// So many of them pass before it.
    pub after: u64,
}

impl Point {
    /// Counts a call; true when it is the one.
    pub(super) fn is(&mut self, call: Call, path: &Path) -> bool {
        let meant = self.call.is_none_or(|kind| kind == call) && path.to_string_lossy().contains(self.path);
        if !meant {
            return false;
        }
        let now = self.after == 0;
        self.after = self.after.saturating_sub(1);
        now
    }
}
