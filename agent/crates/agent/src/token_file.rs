//! `--token-file` of a command: the file that somebody names who stands before it, or a container's secret, which the engine lets all
//! of the container read. So one that others can read is told, and used; what the agent itself reads again and again
//! (`[uplink] token_file`) is refused instead.

use std::io::Write;
use std::path::Path;

use uplink::secret;

use crate::Misuse;

/// What is in it. That others can read it is said on standard error.
///
/// # Errors
/// [`Misuse`] where it isn't there, can't be read, or holds no text: another file must be named.
pub fn read(path: &Path) -> anyhow::Result<String> {
    read_telling(path, &mut std::io::stderr())
}

fn read_telling(path: &Path, told: &mut dyn Write) -> anyhow::Result<String> {
    let (text, exposed) =
        secret::text_once(path).map_err(|error| Misuse(format!("--token-file: {error}")))?;
    if let Some(exposed) = exposed {
        // Nothing can be said when standard error is closed.
        _ = writeln!(told, "telemetryx-agent: WARNING: --token-file: {exposed}");
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_used_and_told_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        for (mode, warned) in [(0o600, false), (0o400, false), (0o444, true), (0o644, true)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let mut told = Vec::new();
            assert_eq!(read_telling(&path, &mut told).unwrap(), "s3cret\n");
            let told = String::from_utf8(told).unwrap();
            assert_eq!(told.contains("chmod 600"), warned, "{mode:o}: {told}");
            assert!(!told.contains("s3cret"));
        }
        let error = read(&folder.path().join("none")).unwrap_err();
        assert!(error.is::<Misuse>() && error.to_string().contains("--token-file"), "{error}");
    }
}
