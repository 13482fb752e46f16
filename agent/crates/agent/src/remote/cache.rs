//! What is kept of pushed configurations: `data_dir/remote/state`, one file, replaced as a whole.
//!
//! ```text
//! file := "telemetryx-remote 1 " sha256 "\n" json      sha256: of the json, 64 hexadecimal digits
//! json := {newest, phase, reason, at_ns, healthy, starts}
//! ```
//!
//! - **One file, one checksum**: there is no moment at which two of them disagree, and a byte that isn't as it was written
//!   is noticed wherever it is.
//! - **Written as a whole**: beside, fsync, rename, fsync of the folder. A crash leaves the one before or the new one.
//! - **Damage stops nothing**: the file is set aside as `state.damaged`, the host's own file is in force alone, and the
//!   collector, which is told that nothing is here, sends what it wants once more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seglog::{Mode, Storage};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MAGIC: &str = "telemetryx-remote 1 ";
/// Two configurations of 256 KiB, escaped, and words about them.
const LARGEST: u64 = 4 << 20;

/// A configuration that was pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pushed {
    /// The collector's number; 0 with an empty text takes back what was pushed before.
    pub version: u64,
    /// Its text.
    pub toml: String,
}

impl Pushed {
    /// SHA-256 of the text.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.toml).into()
    }
}

/// What came of the newest one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Nothing was pushed, or it was taken back.
    #[default]
    None,
    /// In force, and watched until it has proven itself.
    Trial,
    /// In force, and proven.
    Applied,
    /// Not in force: the one before is.
    Failed,
    /// The host's file says that nothing is taken.
    Declined,
}

/// All that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The newest one that came.
    pub newest: Option<Pushed>,
    /// What came of it.
    pub phase: Phase,
    /// Why it isn't in force, for a person.
    pub reason: String,
    /// When it came to this, nanoseconds since the epoch.
    pub at_ns: i64,
    /// The last one that proved itself; `None`: the host's file alone did.
    pub healthy: Option<Pushed>,
    /// How often a process was started in this trial, after the first.
    pub starts: u32,
}

impl Kept {
    /// The one that is to be in force; `None`: the host's file alone.
    pub fn in_force(&self) -> Option<&Pushed> {
        let one = match self.phase {
            Phase::None | Phase::Declined => None,
            Phase::Trial | Phase::Applied => self.newest.as_ref(),
            Phase::Failed => self.healthy.as_ref(),
        };
        one.filter(|pushed| pushed.version != 0)
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This; the default where nothing was ever kept.
    Kept(Box<Kept>),
    /// A file that isn't as it was written, or can't be read, and why.
    Damaged(String),
}

/// The file.
#[derive(Clone)]
pub struct Cache {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
}

impl Cache {
    /// Of a data folder.
    pub fn of(storage: Arc<dyn Storage>, data_dir: &Path) -> Self {
        Self { storage, dir: data_dir.join("remote") }
    }

    /// Reads it; changes nothing.
    pub fn read(&self) -> Found {
        match self.bytes() {
            Ok(None) => Found::Kept(Box::default()),
            Ok(Some(bytes)) => match decode(&bytes) {
                Some(kept) => Found::Kept(Box::new(kept)),
                None => Found::Damaged(format!("{} is not as it was written", self.path().display())),
            },
            Err(error) => Found::Damaged(format!("{} can't be read: {error}", self.path().display())),
        }
    }

    fn bytes(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match self.storage.open(&self.path(), Mode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; file.size()?.min(LARGEST + 1) as usize];
        let mut at = 0;
        while at < bytes.len() {
            match file.read_at(&mut bytes[at..], at as u64)? {
                0 => break,
                n => at += n,
            }
        }
        bytes.truncate(at);
        Ok(Some(bytes))
    }

    /// Replaces it; durable on return.
    ///
    /// # Errors
    /// What the disk says; the one before stands then, or this one.
    pub fn write(&self, kept: &Kept) -> io::Result<()> {
        let json = serde_json::to_string(kept)?;
        let text = format!("{MAGIC}{}\n{json}", hex(&Sha256::digest(&json)));
        self.storage.create_dir_all(&self.dir)?;
        let fresh = self.dir.join("state.new");
        let file = self.storage.open(&fresh, Mode::Create)?;
        // DURABILITY: content, then the name, then the name made to stay.
        file.write_at(text.as_bytes(), 0)?;
        file.sync()?;
        self.storage.rename(&fresh, &self.path())?;
        self.storage.sync_dir(&self.dir)
    }

    /// Sets a damaged file aside, for whoever wants to look at it.
    pub fn set_aside(&self) {
        let aside = self.dir.join("state.damaged");
        let done = self.storage.rename(&self.path(), &aside).and_then(|()| self.storage.sync_dir(&self.dir));
        if let Err(error) = done {
            tracing::warn!(%error, path = %self.path().display(), "a damaged file of pushed configurations can't be set aside");
        }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.dir.join("state")
    }
}

fn decode(bytes: &[u8]) -> Option<Kept> {
    if bytes.len() as u64 > LARGEST {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, json) = text.split_once('\n')?;
    if head.strip_prefix(MAGIC)? != hex(&Sha256::digest(json)) {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// Bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seglog::sim::SimDisk;

    use super::*;

    fn kept(version: u64) -> Kept {
        let pushed = |version| Some(Pushed { version, toml: format!("[agent]\nmax_series = {version}\n") });
        Kept {
            newest: pushed(version),
            phase: Phase::Trial,
            reason: "é \"quoted\"\n".into(),
            at_ns: 7,
            healthy: pushed(version - 1),
            starts: 1,
        }
    }

    fn cache(disk: &SimDisk) -> Cache {
        Cache::of(disk.storage(), Path::new("/data"))
    }

    fn read(disk: &SimDisk) -> Option<Kept> {
        match cache(disk).read() {
            Found::Kept(kept) => Some(*kept),
            Found::Damaged(_) => None,
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_is_what_there_is_at_first() {
        let disk = SimDisk::new(1);
        assert_eq!(read(&disk), Some(Kept::default()));
        for version in 1..4 {
            cache(&disk).write(&kept(version)).unwrap();
            assert_eq!(read(&disk), Some(kept(version)));
        }
    }

    #[test]
    fn a_write_that_fails_leaves_the_one_before() {
        let disk = SimDisk::new(2);
        cache(&disk).write(&kept(1)).unwrap();
        disk.fail_sync_after(0);
        assert!(cache(&disk).write(&kept(2)).is_err());
        assert_eq!(read(&disk), Some(kept(1)));
        disk.set_capacity(Some(0));
        assert!(cache(&disk).write(&kept(2)).is_err());
        assert_eq!(read(&disk), Some(kept(1)));
    }

    #[test]
    fn which_one_is_in_force_follows_from_the_phase() {
        let of = |phase| Kept { phase, ..kept(5) }.in_force().map(|pushed| pushed.version);
        assert_eq!((of(Phase::Trial), of(Phase::Applied)), (Some(5), Some(5)));
        assert_eq!((of(Phase::Failed), of(Phase::Declined), of(Phase::None)), (Some(4), None, None));
        let taken_back = Kept { newest: Some(Pushed::default()), ..kept(5) };
        assert_eq!(taken_back.in_force(), None);
    }

    proptest! {
        #[test]
        fn no_byte_can_change_and_no_end_be_missing_without_being_noticed(
            at in any::<prop::sample::Index>(), bit in 0_u8..8, cut: bool
        ) {
            let folder = tempfile::tempdir().unwrap();
            let cache = Cache::of(Arc::new(seglog::Disk), folder.path());
            cache.write(&kept(3)).unwrap();
            let mut bytes = std::fs::read(cache.path()).unwrap();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            std::fs::write(cache.path(), &bytes).unwrap();
            prop_assert!(matches!(cache.read(), Found::Damaged(_)));
            cache.set_aside();
            prop_assert_eq!(cache.read(), Found::Kept(Box::default()));
            cache.write(&kept(4)).unwrap();
            prop_assert_eq!(cache.read(), Found::Kept(Box::new(kept(4))));
        }

        #[test]
        fn a_power_cut_leaves_one_of_the_two(seed in 0_u64..200, torn in 0_u64..6) {
            let disk = SimDisk::new(seed);
            cache(&disk).write(&kept(1)).unwrap();
            disk.crash_after(torn);
            let _ = cache(&disk).write(&kept(2));
            disk.crash();
            let found = read(&disk);
            prop_assert!(found == Some(kept(1)) || found == Some(kept(2)), "{found:?}");
        }
    }
}
