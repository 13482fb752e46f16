//! One agent a data folder: a lock that the kernel drops with the process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock that another has is tried again.
const RETRY: Duration = Duration::from_millis(50);

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
        "the data folder {path} can't be used: {source}; {}, or set agent.data_dir to a folder that this user may write",
        remedy(source)
    )]
    Unusable {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A link to a place that isn't there.
    #[error("the data folder can't be used: {0}, or set agent.data_dir to another")]
    Dangling(DeadLink),
    /// Another agent has it.
    #[error("another agent is running on {0}: stop it, or give this one its own agent.data_dir")]
    Taken(String),
}

fn remedy(error: &std::io::Error) -> &'static str {
    match seglog::is_full(error) {
        true => "its disk has no room, or no inodes (df -h, df -i), or a quota is used up: free some",
        false => seglog::remedy(error),
    }
}

/// Makes the folder (mode 0700), where there is none.
///
/// # Errors
/// [`LockError`].
pub fn make(data_dir: &Path) -> Result<(), LockError> {
    use std::os::unix::fs::DirBuilderExt;
    if data_dir.exists() {
        return Ok(());
    }
    if let Some(link) = dead_link(data_dir) {
        return Err(LockError::Dangling(link));
    }
    let unusable = |source| LockError::Unusable { path: data_dir.display().to_string(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(unusable)
}

/// A link that leads nowhere, mostly to a disk that isn't mounted; as text with what to do about it.
#[derive(Debug)]
pub struct DeadLink {
    path: PathBuf,
    to: PathBuf,
    /// It leads back to itself.
    is_loop: bool,
}

impl DeadLink {
    /// What stands there.
    pub fn stands(&self) -> String {
        let (path, to) = (self.path.display(), self.to.display());
        let leads = if self.is_loop { "leads back to it" } else { "isn't there" };
        format!("{path} is a link to {to}, which {leads}")
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        if self.is_loop { "put a folder in its place" } else { "mount that disk or make that folder" }
    }
}

impl std::fmt::Display for DeadLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.stands(), self.remedy())
    }
}

/// The link that stands at a folder's name or above it, where it leads nowhere.
pub fn dead_link(folder: &Path) -> Option<DeadLink> {
    let path = folder.ancestors().find(|path| std::fs::symlink_metadata(path).is_ok())?;
    let to = std::fs::read_link(path).ok()?;
    let error = std::fs::metadata(path).err()?;
    let is_loop = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    (is_loop || error.kind() == std::io::ErrorKind::NotFound).then(|| DeadLink {
        path: path.into(),
        to,
        is_loop,
    })
}

/// Makes the folder and takes its lock.
///
/// # Errors
/// [`LockError`].
pub fn take(data_dir: &Path) -> Result<DataLock, LockError> {
    let unusable = |source| LockError::Unusable { path: data_dir.display().to_string(), source };
    make(data_dir)?;
    let file = seglog::regular::lock_file(&data_dir.join("lock")).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(DataLock { _file: file }),
        Err(std::fs::TryLockError::WouldBlock) => Err(LockError::Taken(data_dir.display().to_string())),
        Err(std::fs::TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// As [`take`]; what another agent has is tried again for `patience`: one that was killed holds it until the kernel has
/// let go of all it had, which takes seconds where it had much memory or its disk is slow.
///
/// # Errors
/// [`LockError`].
pub async fn take_from_a_dying(data_dir: &Path, patience: Duration) -> Result<DataLock, LockError> {
    let until = tokio::time::Instant::now() + patience;
    let mut told = false;
    loop {
        match take(data_dir) {
            Err(LockError::Taken(path)) if tokio::time::Instant::now() < until => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        data_dir = path,
                        "another agent still has the data folder: waiting up to {} s for it to end",
                        patience.as_secs()
                    );
                }
                tokio::time::sleep(RETRY).await;
            }
            Ok(lock) if told => {
                tracing::info!("the other agent has ended");
                return Ok(lock);
            }
            other => return other,
        }
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

    #[test]
    fn a_link_to_a_disk_that_is_not_mounted_is_named_and_used_once_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, link) = (folder.path().join("disk"), folder.path().join("link"));
        std::os::unix::fs::symlink(&disk, &link).unwrap();
        for path in [link.clone(), link.join("data")] {
            let said = take(&path).unwrap_err().to_string();
            assert!(said.contains(&format!("is a link to {}", disk.display())), "{said}");
        }
        std::fs::create_dir(&disk).unwrap();
        assert!(take(&link.join("data")).is_ok() && disk.join("data/lock").exists());
    }

    #[test]
    fn a_link_that_leads_back_to_itself_is_named_as_that() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("link", &link).unwrap();
        for path in [link.clone(), link.join("data")] {
            let said = take(&path).unwrap_err().to_string();
            assert!(
                said.contains("link to link, which leads back to it") && said.contains("agent.data_dir"),
                "{said}"
            );
        }
    }

    #[tokio::test]
    async fn one_that_is_dying_is_waited_for_and_one_that_lives_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = take(&path).unwrap();
        let short = take_from_a_dying(&path, Duration::from_millis(120)).await;
        assert!(matches!(short, Err(LockError::Taken(_))));
        let (waiting, dying) = tokio::join!(take_from_a_dying(&path, Duration::from_secs(60)), async {
            tokio::time::sleep(RETRY).await;
            drop(first);
        });
        let ((), _second) = (dying, waiting.unwrap());
        assert!(take(&path).is_err(), "it has the lock");
    }
}
