//! Where an agent's data lies, by a config file that may have been broken since it started: who asks a running agent must
//! find it all the same, most of all to hear that the file was refused.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::config::{AgentConfig, Config, ConfigError};

/// Where it lies unless the file says otherwise.
pub const USUAL: &str = "/var/lib/telemetryx/agent";
/// Where versions up to 0.1 had it.
pub const BEFORE: &str = "/var/lib/telemetryx-agent";

/// The folder to use. Data of a version that had another default is found there, as long as there is none at the usual place.
pub fn in_use(configured: PathBuf, before: &Path) -> PathBuf {
    // The lock is there from an agent's first start on.
    let used = |dir: &Path| dir.join("lock").exists();
    if configured == Path::new(USUAL) && !used(&configured) && used(before) {
        before.into()
    } else {
        configured
    }
}

/// Reads `agent.data_dir`. Of a file that can't be used as a whole it is said on standard error why, and the key is taken
/// by itself.
///
/// # Errors
/// [`ConfigError`] when the file can't be read.
pub fn of(path: &Path) -> Result<PathBuf, ConfigError> {
    let error = match Config::load(path) {
        Ok(config) => return Ok(config.agent.data_dir),
        Err(error @ ConfigError::Read { .. }) => return Err(error),
        Err(error) => error,
    };
    // Somebody else may have removed it meanwhile; then what was found first is the error.
    let Ok(text) = std::fs::read_to_string(path) else { return Err(error) };
    let dir = alone(&text);
    // Nothing can be said when standard error is closed.
    _ = writeln!(
        std::io::stderr(),
        "telemetryx-agent: {error}\ntelemetryx-agent: going by data_dir {}: an agent that runs keeps the configuration it has",
        dir.display()
    );
    Ok(dir)
}

/// The key in the text of a file whose other parts are whatever they are.
pub fn alone(text: &str) -> PathBuf {
    let whole = toml::from_str::<toml::Table>(text).ok();
    let table = whole.or_else(|| {
        let line = text.lines().map(str::trim_start).find(|line| {
            line.strip_prefix("data_dir").is_some_and(|rest| rest.trim_start().starts_with('='))
        })?;
        toml::from_str(&format!("[agent]\n{line}")).ok()
    });
    table
        .as_ref()
        .and_then(|table| table.get("agent")?.get("data_dir")?.as_str())
        .filter(|dir| !dir.is_empty())
        .map_or_else(|| in_use(AgentConfig::default().data_dir, Path::new(BEFORE)), PathBuf::from)
}

/// What is to be told of a folder whose place depends on where a command is run.
pub fn warning(data_dir: &Path) -> Option<String> {
    data_dir.is_relative().then(|| {
        format!(
            "agent.data_dir = {data_dir:?} is relative: what is run in another folder, as a service is, has other data; write the whole path"
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails where it is surprised")]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_in_files_that_are_refused() {
        let of = |text| alone(text).to_str().unwrap().to_owned();
        assert_eq!(of("[agent]\ndata_dir = \"/a\"\nbogus = 1\n"), "/a");
        assert_eq!(of("[agent]\nname = \"x\"\n  data_dir=\"/b\" # ours\n[input.http\n"), "/b");
        let usual = AgentConfig::default().data_dir;
        assert_eq!(alone("[agent\n"), usual);
        assert_eq!(alone("[agent]\ndata_dir = \n"), usual);
        assert_eq!(alone("data_dirs = \"/c\"\n"), usual);
    }

    #[test]
    fn data_at_the_place_of_before_is_used_unless_the_file_names_another() {
        let folder = tempfile::tempdir().unwrap();
        let before = folder.path();
        let of = |configured: &str| in_use(configured.into(), before);
        assert_eq!(of(USUAL), Path::new(USUAL), "nothing was there before");
        std::fs::write(before.join("lock"), "").unwrap();
        assert_eq!(of("/srv/agent"), Path::new("/srv/agent"));
        if !Path::new(USUAL).join("lock").exists() {
            assert_eq!(of(USUAL), before);
        }
    }

    #[test]
    fn a_relative_folder_is_told() {
        let said = |text: &str| warning(&alone(text));
        assert!(said("[agent]\ndata_dir = \"data\"\n").is_some_and(|said| said.contains("whole path")));
        assert_eq!(said("[agent]\ndata_dir = \"/data\"\n"), None);
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        assert!(matches!(of(Path::new("/nowhere/agent.toml")), Err(ConfigError::Read { .. })));
    }
}
