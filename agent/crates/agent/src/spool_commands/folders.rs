//! Which folders a command looks at: by the config file, or named themselves; and what to name where there is no spool.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seglog::{Disk, Storage};
use spool::inspect::{InspectError, Inspection};

use crate::{At, data_dir, lock};

/// Which spool.
#[derive(clap::Args)]
pub struct Whose {
    #[command(flatten)]
    at: At,
    /// A data folder, or a spool's folder, in place of the config file's: a copy, or another host's disk.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The folders that a command looks at.
pub struct Folders {
    /// Of the spool.
    pub spool: PathBuf,
    /// Of everything, where it is known.
    pub data: Option<PathBuf>,
    /// It was named itself, and not found by the config file.
    named: bool,
}

impl Whose {
    /// Of this data folder.
    pub fn data(dir: &Path) -> Self {
        Self { at: At { config: PathBuf::new() }, dir: Some(dir.to_owned()) }
    }

    /// Finds the folders.
    ///
    /// # Errors
    /// When the config file can't be used.
    pub fn folders(&self) -> anyhow::Result<Folders> {
        let named = self.dir.is_some();
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => data_dir::of(&self.at.config)?,
        };
        if named && dir.join("log").is_dir() {
            return Ok(Folders { spool: dir, data: None, named });
        }
        Ok(Folders { spool: dir.join("spool"), data: Some(dir), named })
    }
}

impl Folders {
    /// Lists what is in the spool's folder.
    ///
    /// # Errors
    /// When it is none, with what to name instead, or can't be listed.
    pub fn look_at(&self) -> anyhow::Result<Inspection> {
        let storage: Arc<dyn Storage> = Arc::new(Disk);
        match Inspection::open(storage, &self.spool) {
            Err(error @ (InspectError::NotASpool(_) | InspectError::List(_)))
                if !self.spool.join("log").is_dir() =>
            {
                let said = self.data.as_ref().and_then(|data| no_spool(data, self.named));
                Err(said.map_or_else(|| error.into(), anyhow::Error::msg))
            }
            other => Ok(other?),
        }
    }
}

/// Why there is no spool in what should be a data folder, and what to do: a sentence.
fn no_spool(data: &Path, named: bool) -> Option<String> {
    let remedy = match named {
        true => {
            "name an agent's data folder, which holds `spool`, or a spool's, which holds `log`, with --dir"
        }
        false => "start the agent, which makes it, or name another folder with --dir",
    };
    let shown = data.display();
    if let Some(link) = lock::dead_link(&data.join("spool")) {
        return Some(format!("{link}, or {remedy}"));
    }
    match std::fs::read_dir(data).map(drop) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Some(format!("{shown} is no folder: {remedy}"));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Some(format!("there is no folder {shown}: {remedy}"));
        }
        // What the system says of it is the reason; nor does this tell what is in a folder that isn't shown.
        Err(_) => return None,
    }
    // As the folder of the spool's segments, or of the journal's.
    if named && has_segments(data) {
        let whole = std::fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
        let above = whole.parent().unwrap_or(&whole);
        return Some(format!(
            "{shown} holds the segments of a log: name the folder above it, {}",
            above.display()
        ));
    }
    let spool = data.join("spool");
    Some(match (spool.is_dir(), named) {
        (true, _) => format!("{} is no spool: it has no folder `log`; {remedy}", spool.display()),
        (false, true) => format!(
            "{shown} holds no spool, neither in {} nor in {}: {remedy}",
            spool.display(),
            data.join("log").display()
        ),
        (false, false) => format!("there is no spool yet in the data folder {shown}: {remedy}"),
    })
}

fn has_segments(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries
        .flatten()
        .any(|entry| Path::new(&entry.file_name()).extension().is_some_and(|ending| ending == "seg"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn said(dir: &Path) -> String {
        let Err(error) = Whose::data(dir).folders().unwrap().look_at() else { panic!("{dir:?} is a spool") };
        error.to_string()
    }

    #[test]
    fn what_is_no_spool_is_told_with_what_was_looked_for_and_what_to_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for log in ["spool/log", "journal"] {
            fs::create_dir_all(at(log)).unwrap();
            fs::write(at(log).join("00000000000000000001-00000001.seg"), b"").unwrap();
        }
        assert!(Whose::data(folder.path()).folders().unwrap().look_at().is_ok());
        assert!(Whose::data(&at("spool")).folders().unwrap().look_at().is_ok());
        let inner = said(&at("spool/log"));
        assert!(inner.contains("name the folder above it") && inner.ends_with("/spool"), "{inner}");
        let journal = said(&at("journal"));
        let whole = fs::canonicalize(folder.path()).unwrap();
        assert!(journal.ends_with(&format!("the folder above it, {}", whole.display())), "{journal}");
        assert!(said(&at("nowhere")).contains(&format!("there is no folder {}", at("nowhere").display())));
        std::os::unix::fs::symlink("/nowhere/disk", at("link")).unwrap();
        assert!(said(&at("link")).contains("is a link to /nowhere/disk, which isn't there"));
        std::os::unix::fs::symlink("self", at("self")).unwrap();
        assert!(said(&at("self")).contains("leads back to it"), "{}", said(&at("self")));
        fs::write(at("file"), b"").unwrap();
        assert!(said(&at("file")).contains("is no folder"));
        fs::create_dir(at("empty")).unwrap();
        let empty = said(&at("empty"));
        assert!(
            empty.contains("empty/spool") && empty.contains("empty/log") && empty.contains("--dir"),
            "{empty}"
        );
        fs::create_dir_all(at("half/spool")).unwrap();
        assert!(said(&at("half")).contains("half/spool is no spool"));
    }
}
