//! Commands that write in a data folder do so as the user to whom it belongs. What root makes there is root's, and the agent,
//! which is started as that user afterwards, could neither read nor replace it.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;

/// Runs this very command once more as the owner of `dir`, where that is somebody else and we are root. `None`: go on, we are
/// who should do it, or may be nobody else.
///
/// # Errors
/// When it can't be run as that user.
pub fn instead(dir: &Path) -> anyhow::Result<Option<ExitCode>> {
    let Ok(owner) = std::fs::metadata(dir) else { return Ok(None) };
    let (uid, gid) = (owner.uid(), owner.gid());
    if !rustix::process::geteuid().is_root() || uid == 0 {
        return Ok(None);
    }
    let as_owner = format!(
        "{} belongs to user {uid}, and this command can't be run as that user: try setpriv --reuid {uid} --regid {gid} --clear-groups telemetryx-agent …",
        dir.display()
    );
    let this = std::env::current_exe().context("finding this program")?;
    // As another user a process of its own: to become one is for a process as a whole, and for good.
    let ended = Command::new(this).args(std::env::args_os().skip(1)).uid(uid).gid(gid).status();
    let code = ended.context(as_owner)?.code();
    Ok(Some(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)))
}
