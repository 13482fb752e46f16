//! Where an agent's data lies, by a config file that may have been broken since it started: who asks a running agent must
//! find it all the same, most of all to hear that the file was refused.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::config::{AgentConfig, Config, ConfigError};
use crate::lock;

/// Where it lies unless the file says otherwise.
pub const USUAL: &str = "/var/lib/telemetryx/agent";
/// Where versions up to 0.1 had it.
pub const BEFORE: &str = "/var/lib/telemetryx-agent";
/// The fold's checkpoint in it.
pub const CHECKPOINT: &str = "fold.checkpoint";

/// What the fold's checkpoint in it says, for those who only look; `None` without one that can be read. Beside a running agent
/// read it before its logs: they may be ahead of it then, never behind.
pub fn saved(data: &Path) -> Option<folding::Saved> {
    folding::Checkpoint::peek(&seglog::Disk, &data.join(CHECKPOINT)).ok().flatten()
}

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
    let Ok(text) = crate::config::text(path) else { return Err(error) };
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

/// What keeps a folder from holding data, as far as it shows before there is one: a sentence.
pub fn problem(data_dir: &Path) -> Option<String> {
    let remedy = "name a folder that only this agent writes to, or leave the key out";
    if data_dir.as_os_str().is_empty() {
        return Some(format!("agent.data_dir is empty: {remedy}"));
    }
    if data_dir == Path::new("/") {
        return Some(format!("agent.data_dir = \"/\" is the root of all: {remedy}"));
    }
    let named = format!("agent.data_dir = {data_dir:?}");
    for place in data_dir.ancestors().filter(|place| !place.as_os_str().is_empty()) {
        let there = std::fs::metadata(place);
        if there.is_err()
            && let Some(link) = lock::dead_link(place)
        {
            return Some(format!("{named} can't be used: {link}, or name another folder"));
        }
        match there {
            Ok(there) if there.is_dir() => {
                let kind = pseudo(place)?;
                return Some(format!(
                    "{named} lies in a file system of the kernel ({kind}), which holds no data: {remedy}"
                ));
            }
            Ok(_) if place == data_dir => return Some(format!("{named} is a file, not a folder: {remedy}")),
            Ok(_) => return Some(format!("{named}: {place:?} is a file, not a folder: {remedy}")),
            Err(error) if error.kind() == ErrorKind::InvalidFilename => {
                return Some(format!("{named} is too long a path: {remedy}"));
            }
            // It may be made; what lies above says whether it can.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            // Whoever asks may not look, and the agent may.
            Err(_) => return None,
        }
    }
    None
}

/// What the disk has in all that a folder is on, or will be; `None` where that can't be told.
pub fn disk_bytes(data_dir: &Path) -> Option<u64> {
    let there = data_dir.ancestors().find(|place| place.is_dir())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    stat.f_blocks.checked_mul(stat.f_frsize).filter(|bytes| *bytes > 0)
}

/// The name of a file system that only shows what the kernel knows.
fn pseudo(folder: &Path) -> Option<&'static str> {
    // Of statfs(2).
    const KINDS: [(u64, &str); 16] = [
        (0x9fa0, "proc"),
        (0x6265_6572, "sysfs"),
        (0x0027_e0eb, "cgroup"),
        (0x6367_7270, "cgroup2"),
        (0x6462_6720, "debugfs"),
        (0x7472_6163, "tracefs"),
        (0x7363_6673, "securityfs"),
        (0xf97c_ff8c, "selinuxfs"),
        (0x1cd1, "devpts"),
        (0x6265_6570, "configfs"),
        (0x6165_676c, "pstore"),
        (0xde5e_81e4, "efivarfs"),
        (0xcafe_4a11, "bpf"),
        (0x6573_5543, "fusectl"),
        (0x1980_0202, "mqueue"),
        (0x4249_4e4d, "binfmt_misc"),
    ];
    let kind = rustix::fs::statfs(folder).ok()?.f_type as u64 & 0xffff_ffff;
    KINDS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
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
    fn what_can_hold_no_data_is_refused_with_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let said = |path: &Path| problem(path).unwrap_or_default();
        for path in ["/proc", "/proc/1", "/proc/self/x/y", "/sys/kernel"] {
            assert!(said(Path::new(path)).contains("file system of the kernel"), "{path}");
        }
        assert!(said(&file).contains("is a file, not a folder"), "{}", said(&file));
        assert!(
            said(&file.join("a/b")).contains("file\" is a file, not a folder"),
            "{}",
            said(&file.join("a/b"))
        );
        for (link, to, word) in
            [("gone", "/nowhere/disk", "isn't there"), ("self", "self", "leads back to it")]
        {
            let path = folder.path().join(link);
            std::os::unix::fs::symlink(to, &path).unwrap();
            for path in [path.clone(), path.join("a/b")] {
                let said = said(&path);
                assert!(said.contains(&format!("is a link to {to}, which {word}")), "{said}");
            }
            let text = format!("[agent]\ndata_dir = {path:?}\n");
            let error = Config::parse(&text, Path::new("agent.toml")).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("joined.json"), "{error}");
        }
        assert!(said(Path::new("/dev/null")).contains("not a folder"));
        assert!(said(&folder.path().join("x".repeat(5_000))).contains("too long"));
        assert!(said(Path::new("/")).contains("root of all"));
        for fine in [folder.path().to_owned(), folder.path().join("a/b/c"), USUAL.into(), "relative".into()] {
            assert_eq!(problem(&fine), None, "{fine:?}");
        }
    }

    #[test]
    fn a_data_folder_that_is_a_file_is_no_damaged_enrolment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let text = format!("[agent]\ndata_dir = {file:?}\n");
        let error = Config::parse(&text, Path::new("agent.toml")).unwrap_err().to_string();
        assert!(error.contains("is a file, not a folder") && !error.contains("joined.json"), "{error}");
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
