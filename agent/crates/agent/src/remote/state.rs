//! How pushed configurations stand: on disk, towards the collector, in the status.

use std::sync::Arc;

use inputs::Clock;
use parking_lot::Mutex;
use serde::Serialize;
use uplink::Care;
use wire::v1;

use super::cache::{Cache, Found, Kept, Phase, Pushed, hex};
use super::load::{HostFile, Merged};
use super::{RemoteConfig, Takes};
use crate::config::ConfigError;

/// As `status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct RemoteStatus {
    /// What is taken: `over`, `under` or `off`.
    pub takes: Takes,
    /// Whether requests are taken.
    pub requests: bool,
    /// The newest one that came; 0: none.
    pub version: u64,
    /// Its digest, in hexadecimal; "" where none came.
    pub digest: String,
    /// What came of it: `none`, `trial`, `applied`, `failed` or `declined`.
    pub phase: Phase,
    /// Why it isn't in force; "" where nothing is wrong.
    pub reason: String,
    /// The one in force; 0: the host's file alone.
    pub in_force: u64,
    /// When it came to this, nanoseconds since the epoch.
    pub at_ns: i64,
    /// What is wrong with what is kept on disk; `None` when all is well.
    pub trouble: Option<String>,
}

/// What is to be done about a configuration that came.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing: it was declined, refused, or is in force already.
    Settled,
    /// It is on trial from now on, and durably so: put this in force.
    Try(Box<Merged>),
}

/// Keeps them.
pub struct Remote {
    cache: Cache,
    clock: Arc<dyn Clock>,
    care: Arc<Care>,
    inner: Mutex<Inner>,
}

struct Inner {
    kept: Kept,
    takes: RemoteConfig,
    /// Why what is kept doesn't go with the host's file as it is now: the file is in force alone.
    shelved: Option<String>,
    trouble: Option<String>,
}

impl Remote {
    /// Reads what is kept, and counts the start. Whatever is wrong there is said and stops nothing.
    pub fn open(cache: Cache, clock: Arc<dyn Clock>, takes: RemoteConfig) -> Self {
        let (before, trouble) = match cache.read() {
            Found::Kept(kept) => (*kept, None),
            Found::Damaged(why) => {
                cache.set_aside();
                let said = format!(
                    "{why}: it was set aside, and the host's file is in force alone until the collector pushes again"
                );
                tracing::error!("{said}");
                (Kept::default(), Some(said))
            }
        };
        let kept = before.started(clock.now().wall);
        let inner = Inner { kept: before.clone(), takes, shelved: None, trouble };
        let remote = Self { cache, clock, care: Arc::default(), inner: Mutex::new(inner) };
        if kept != before {
            if kept.phase == Phase::Failed {
                tracing::error!(reason = %kept.reason, "a pushed configuration is returned from");
            }
            remote.keep(kept);
        }
        remote.say();
        remote
    }

    /// What the collector is told by, and what comes from it.
    pub fn care(&self) -> Arc<Care> {
        Arc::clone(&self.care)
    }

    /// Whether the one in force has to prove itself.
    pub fn on_trial(&self) -> bool {
        let inner = self.inner.lock();
        inner.kept.phase == Phase::Trial && inner.shelved.is_none() && inner.takes.config != Takes::Off
    }

    /// What the host's file says of pushed configurations.
    pub fn takes(&self) -> RemoteConfig {
        self.inner.lock().takes.clone()
    }

    /// The one that is in force by what is kept; `None`: the host's file alone.
    pub fn in_force(&self) -> Option<Pushed> {
        let inner = self.inner.lock();
        match inner.takes.config {
            Takes::Off => None,
            _ if inner.shelved.is_some() => None,
            _ => inner.kept.in_force().cloned(),
        }
    }

    /// The configuration to go by with this file: with what was pushed where that can be, else the file alone.
    ///
    /// # Errors
    /// [`ConfigError`] when the file alone can't be used either.
    pub fn effective(&self, file: &HostFile) -> Result<Merged, ConfigError> {
        {
            let mut inner = self.inner.lock();
            inner.takes = file.remote();
            inner.shelved = None;
        }
        let merged = loop {
            let Some(pushed) = self.in_force() else { break file.alone() };
            let error = match file.with(&pushed) {
                Ok(merged) => break Ok(merged),
                Err(error) => error,
            };
            // The file's own mistake is no fault of what was pushed.
            if let Err(own) = file.alone() {
                break Err(own);
            }
            let reason = format!("it doesn't go with {} as it is now: {error}", file.path.display());
            tracing::error!(version = pushed.version, "a pushed configuration can't be used: {reason}");
            if self.on_trial() {
                self.returned(&reason);
            } else {
                self.inner.lock().shelved = Some(reason);
            }
        };
        self.say();
        self.wanted_after_all();
        merged
    }

    /// One that was declined is taken up again when the host's file takes pushed configurations by now.
    fn wanted_after_all(&self) {
        let inner = self.inner.lock();
        if inner.kept.phase == Phase::Declined
            && inner.takes.config != Takes::Off
            && let Some(pushed) = &inner.kept.newest
        {
            let config = v1::PushedConfig {
                version: pushed.version,
                digest: pushed.digest().to_vec(),
                toml: pushed.toml.clone(),
            };
            self.care.ask(uplink::Asked::Config(config));
        }
    }

    /// Judges a configuration that came. `check` looks closer at one that could be used: it gives what is wrong with it.
    pub fn came(
        &self,
        file: &HostFile,
        came: v1::PushedConfig,
        check: impl Fn(&Merged) -> Option<String>,
    ) -> Outcome {
        let pushed = Pushed { version: came.version, toml: came.toml };
        let now = self.clock.now().wall;
        let kept = self.inner.lock().kept.clone();
        let known = kept.newest.as_ref().is_some_and(|newest| newest.toml == pushed.toml)
            || (kept.newest.is_none() && pushed.version == 0);
        if known
            && !matches!(kept.phase, Phase::Declined | Phase::Failed)
            && pushed.digest()[..] == came.digest[..]
        {
            if kept.newest.is_some() && pushed.version != 0 {
                self.keep(kept.renumbered(pushed.version, now));
            }
            self.say();
            return Outcome::Settled;
        }
        // Taking back is always welcome.
        if self.takes().config == Takes::Off && pushed.version != 0 {
            tracing::info!(
                version = pushed.version,
                "a pushed configuration is declined: [remote] config = \"off\""
            );
            self.settle(kept.declined(pushed, now));
            return Outcome::Settled;
        }
        let judged = if pushed.digest()[..] != came.digest[..] {
            Err("its text is not what its digest says: it was damaged on the way".to_owned())
        } else if pushed.version == 0 {
            file.alone().map_err(|error| error.to_string())
        } else {
            file.with(&pushed).map_err(|error| error.to_string())
        };
        match judged.and_then(|merged| check(&merged).map_or(Ok(merged), Err)) {
            Err(why) => {
                tracing::error!(
                    version = pushed.version,
                    "a pushed configuration can't be used, the one before stays in force: {why}"
                );
                self.settle(kept.refused(pushed, &why, now));
                Outcome::Settled
            }
            Ok(merged) => {
                let trial = kept.tried(pushed.clone(), now);
                // Before anything changes: a process that ends from here on must be counted.
                if let Err(error) = self.cache.write(&trial) {
                    let why = format!("it can't be kept on this host's disk: {error}");
                    tracing::error!(version = pushed.version, "a pushed configuration is not taken: {why}");
                    self.settle(kept.refused(pushed, &why, now));
                    return Outcome::Settled;
                }
                tracing::info!(version = pushed.version, "a pushed configuration is on trial");
                let mut inner = self.inner.lock();
                (inner.kept, inner.shelved, inner.trouble) = (trial, None, None);
                drop(inner);
                self.say();
                Outcome::Try(Box::new(merged))
            }
        }
    }

    /// The one on trial has proven itself.
    pub fn proven(&self) {
        let kept = self.inner.lock().kept.clone();
        if kept.phase != Phase::Trial {
            return;
        }
        let kept = kept.proven(self.clock.now().wall);
        tracing::info!(
            version = kept.healthy.as_ref().map_or(0, |pushed| pushed.version),
            "a pushed configuration has proven itself"
        );
        self.settle(kept);
    }

    /// The one on trial has not.
    pub fn returned(&self, reason: &str) {
        let kept = self.inner.lock().kept.clone();
        if kept.phase != Phase::Trial {
            return;
        }
        tracing::error!("a pushed configuration is returned from: {reason}");
        self.settle(kept.returned(reason, self.clock.now().wall));
    }

    /// The process was told to stop.
    pub fn ended(&self) {
        let kept = self.inner.lock().kept.clone();
        if kept.phase == Phase::Trial {
            self.keep(kept.ended());
        }
    }

    fn settle(&self, kept: Kept) {
        self.keep(kept);
        self.say();
    }

    /// Keeps it; where the disk refuses, until the process ends.
    fn keep(&self, kept: Kept) {
        let written = self.cache.write(&kept);
        let mut inner = self.inner.lock();
        inner.kept = kept;
        inner.trouble = written.err().map(|error| {
            let said = format!(
                "{} can't be written: {error}; after a restart it may be as it was before",
                self.cache.path().display()
            );
            tracing::error!("{said}");
            said
        });
    }

    /// Tells the collector.
    fn say(&self) {
        let status = self.status();
        let (newest, requests) = {
            let inner = self.inner.lock();
            (inner.kept.newest.clone(), inner.takes.requests)
        };
        let phase = match status.phase {
            Phase::None => v1::ConfigPhase::ConfigNone,
            Phase::Trial => v1::ConfigPhase::ConfigTrial,
            Phase::Applied => v1::ConfigPhase::ConfigApplied,
            Phase::Failed => v1::ConfigPhase::ConfigFailed,
            Phase::Declined => v1::ConfigPhase::ConfigDeclined,
        };
        let state = v1::ConfigState {
            version: status.version,
            digest: newest.map(|pushed| pushed.digest().to_vec()).unwrap_or_default(),
            phase: phase.into(),
            reason: status.reason,
            in_force: status.in_force,
            at_ns: status.at_ns,
        };
        self.care.say(state, requests);
    }

    /// How it stands.
    pub fn status(&self) -> RemoteStatus {
        let in_force = self.in_force().map_or(0, |pushed| pushed.version);
        let inner = self.inner.lock();
        let (phase, reason) = match (&inner.shelved, inner.takes.config) {
            (_, Takes::Off) => (Phase::Declined, "the host's file says [remote] config = \"off\"".to_owned()),
            (Some(why), _) => (Phase::Failed, why.clone()),
            (None, _) => (inner.kept.phase, inner.kept.reason.clone()),
        };
        let newest = inner.kept.newest.as_ref();
        RemoteStatus {
            takes: inner.takes.config,
            requests: inner.takes.requests,
            version: newest.map_or(0, |pushed| pushed.version),
            digest: newest.map(|pushed| hex(&pushed.digest())).unwrap_or_default(),
            phase,
            reason,
            in_force,
            at_ns: inner.kept.at_ns,
            trouble: inner.trouble.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use inputs::SystemClock;
    use seglog::sim::SimDisk;

    use super::*;

    fn open(disk: &SimDisk, file: &HostFile) -> Remote {
        Remote::open(Cache::of(disk.storage(), Path::new("/data")), Arc::new(SystemClock), file.remote())
    }

    fn file(text: &str) -> HostFile {
        HostFile { path: "agent.toml".into(), text: text.into(), table: text.parse().unwrap() }
    }

    fn push(remote: &Remote, file: &HostFile, version: u64, toml: &str) -> Option<Merged> {
        let digest = Pushed { version, toml: toml.into() }.digest().to_vec();
        match remote.came(file, v1::PushedConfig { version, toml: toml.into(), digest }, |_| None) {
            Outcome::Try(merged) => Some(*merged),
            Outcome::Settled => None,
        }
    }

    fn is(remote: &Remote) -> (Phase, u64, u64) {
        let status = remote.status();
        (status.phase, status.version, status.in_force)
    }

    #[test]
    fn what_a_full_disk_does_not_keep_is_not_tried() {
        let (disk, file) = (SimDisk::new(1), file(""));
        let remote = open(&disk, &file);
        disk.set_capacity(Some(0));
        assert!(push(&remote, &file, 1, "[agent]\nmax_series = 5\n").is_none());
        assert_eq!(is(&remote), (Phase::Failed, 1, 0));
        assert!(remote.status().reason.contains("can't be kept on this host's disk"));
        disk.set_capacity(None);
        assert_eq!(push(&remote, &file, 1, "[agent]\nmax_series = 5\n").unwrap().config.agent.max_series, 5);
        assert_eq!((is(&remote), remote.status().trouble), ((Phase::Trial, 1, 1), None));
    }

    #[test]
    fn a_text_that_was_damaged_on_the_way_is_refused_and_the_same_one_again_is_no_trial() {
        let (disk, file) = (SimDisk::new(1), file(""));
        let remote = open(&disk, &file);
        let damaged = v1::PushedConfig { version: 1, toml: "[agent]\n".into(), digest: vec![0; 32] };
        assert!(matches!(remote.came(&file, damaged, |_| None), Outcome::Settled));
        assert!(remote.status().reason.contains("damaged on the way"));
        assert!(push(&remote, &file, 2, "[agent]\n").is_some());
        remote.proven();
        assert!(push(&remote, &file, 3, "[agent]\n").is_none());
        assert_eq!(is(&remote), (Phase::Applied, 3, 3), "another number alone");
        drop(remote);
        assert_eq!(is(&open(&disk, &file)), (Phase::Applied, 3, 3));
    }

    #[test]
    fn what_the_host_lacks_for_it_is_a_reason_not_to_try() {
        let (disk, file) = (SimDisk::new(1), file(""));
        let remote = open(&disk, &file);
        let toml = "[agent]\nmax_series = 5\n";
        let digest = Pushed { version: 1, toml: toml.into() }.digest().to_vec();
        let came = v1::PushedConfig { version: 1, toml: toml.into(), digest };
        assert!(matches!(remote.came(&file, came, |_| Some("no such file".into())), Outcome::Settled));
        assert_eq!((is(&remote), remote.status().reason.as_str()), ((Phase::Failed, 1, 0), "no such file"));
    }

    #[test]
    fn a_file_that_changed_and_clashes_is_in_force_alone_until_it_fits_again() {
        let (disk, fits) = (SimDisk::new(1), file("[input.http]\nlisten = \"127.0.0.1:9000\"\n"));
        let clashes = file("[input.http]\nlisten = \"127.0.0.1:9001\"\n");
        let remote = open(&disk, &fits);
        push(&remote, &fits, 1, "[input.tcp]\nlisten = \"127.0.0.1:9001\"\n").unwrap();
        remote.proven();
        let remote = open(&disk, &clashes);
        assert!(remote.effective(&clashes).unwrap().config.input.tcp.is_none());
        assert_eq!(is(&remote), (Phase::Failed, 1, 0));
        assert!(remote.effective(&fits).unwrap().config.input.tcp.is_some());
        assert_eq!(is(&remote), (Phase::Applied, 1, 1));
        assert!(remote.effective(&file("[agent]\nmax_series = 0\n")).is_err(), "its own mistake is its own");
        assert_eq!(is(&remote), (Phase::Applied, 1, 1));
    }

    #[test]
    fn a_file_that_changed_ends_a_trial_and_nobody_proves_it_afterwards() {
        let (disk, fits) = (SimDisk::new(1), file(""));
        let remote = open(&disk, &fits);
        push(&remote, &fits, 1, "[input.tcp]\nlisten = \"127.0.0.1:9001\"\n").unwrap();
        assert!(remote.on_trial());
        remote.effective(&file("[input.http]\nlisten = \"127.0.0.1:9001\"\n")).unwrap();
        assert!(!remote.on_trial());
        remote.proven();
        assert_eq!(is(&remote), (Phase::Failed, 1, 0));
    }

    #[test]
    fn one_that_was_declined_comes_again_once_the_file_takes_it() {
        let (disk, off) = (SimDisk::new(1), file("[remote]\nconfig = \"off\"\n"));
        let remote = open(&disk, &off);
        assert!(push(&remote, &off, 1, "[agent]\nmax_series = 5\n").is_none());
        assert_eq!(is(&remote), (Phase::Declined, 1, 0));
        let on = file("");
        let remote = open(&disk, &on);
        remote.effective(&on).unwrap();
        let care = remote.care();
        let mut asked = std::pin::pin!(care.next_config());
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        let std::task::Poll::Ready(config) = asked.as_mut().poll(&mut context) else {
            panic!("nothing came")
        };
        assert_eq!(config.version, 1);
    }

    #[test]
    fn a_damaged_file_is_said_and_what_comes_next_is_kept_again() {
        let (disk, file) = (SimDisk::new(1), file(""));
        push(&open(&disk, &file), &file, 1, "[agent]\n").unwrap();
        assert!(disk.rot(Path::new("/data/remote/state"), 90, 1));
        let remote = open(&disk, &file);
        assert_eq!(is(&remote), (Phase::None, 0, 0));
        assert!(remote.status().trouble.unwrap().contains("set aside"));
        assert_eq!(disk.read(Path::new("/data/remote/state")), None);
        push(&remote, &file, 1, "[agent]\n").unwrap();
        assert_eq!((is(&remote), remote.status().trouble), ((Phase::Trial, 1, 1), None));
    }
}
