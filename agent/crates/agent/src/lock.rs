//! One agent a data folder: a lock that the kernel drops with the process.

use std::fs::File;
use std::path::Path;

/// Held as long as the agent runs.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why the data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It can't be made or written.
    #[error(
        "the data folder {path} can't be used: {source}; set agent.data_dir to a folder that this user may write"
    )]
    Unusable {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another agent has it.
    #[error("another agent is running on {0}: stop it, or give this one its own agent.data_dir")]
    Taken(String),
}

/// Makes the folder (mode 0700) and takes its lock.
///
/// # Errors
/// [`LockError`].
pub fn take(data_dir: &Path) -> Result<DataLock, LockError> {
    let unusable = |source| LockError::Unusable { path: data_dir.display().to_string(), source };
    if !data_dir.exists() {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(unusable)?;
    }
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(data_dir.join("lock"))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(DataLock { _file: file }),
        Err(std::fs::TryLockError::WouldBlock) => Err(LockError::Taken(data_dir.display().to_string())),
        Err(std::fs::TryLockError::Error(source)) => Err(unusable(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_on_the_same_folder_is_refused_and_may_start_when_the_first_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = take(&path).unwrap();
        assert!(matches!(take(&path), Err(LockError::Taken(_))));
        drop(first);
        assert!(take(&path).is_ok());
    }
}
