//! The configuration in force: the records that tell the fold, written at the start and at each SIGHUP, and what came of it.
//!
//! The fold goes by what stands in the journal, so a configuration is in force from its record on. A file that can't be
//! used at SIGHUP changes nothing; a model that can't be read at the start leaves the fold with the one it had.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inputs::Clock;
use journal::{AppendError, Journal};
use parking_lot::Mutex;
use serde::Serialize;
use telemetry::Record;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::inputs_table::Reloads;
use crate::{identity, models};

/// How often is tried whether the journal takes the configuration now.
const RETRY: Duration = Duration::from_millis(250);

/// The configuration, as `status` shows it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConfigStatus {
    /// Its file.
    pub file: PathBuf,
    /// When it was taken, nanoseconds since the epoch.
    pub taken_ns: i64,
    /// The last SIGHUP, when the file was not taken then: the one before stays in force.
    pub refused: Option<RefusedConfig>,
    /// What of it isn't in force, and why.
    pub trouble: Vec<String>,
    /// What it allows and few want.
    pub warnings: Vec<String>,
}

/// A file that was not taken.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedConfig {
    /// When, nanoseconds since the epoch.
    pub at_ns: i64,
    /// Why: place, value and remedy.
    pub why: String,
}

/// Writes the configuration into the journal, and remembers how that went.
pub struct Standing {
    journal: Journal,
    clock: Arc<dyn Clock>,
    status: Mutex<ConfigStatus>,
}

impl Standing {
    /// Writes the first one. What can't be written at present is given back, for [`Standing::write_late`].
    ///
    /// # Errors
    /// When it never can be.
    pub fn begin(
        config: &Config,
        path: &Path,
        journal: Journal,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Option<Vec<Record>>), AppendError> {
        let mut status = taken(path.to_owned(), clock.now().wall, config);
        let mut records = fold_records(config, &*clock);
        match models::host_record(&config.model, clock.now()) {
            Ok(record) => records.push(record),
            Err(error) => {
                let why = format!("{error:#}; nothing is scored by it: put it there and send SIGHUP");
                tracing::error!("{why}");
                status.trouble.push(why);
            }
        }
        let late = match journal.append_all(&records) {
            Ok(_) => None,
            // A disk without room, or one that doesn't give or take what it should at present: no reason not to start.
            Err(AppendError::Full { .. } | AppendError::Poisoned(_)) => Some(records),
            Err(error) => return Err(error),
        };
        Ok((Self { journal, clock, status: Mutex::new(status) }, late))
    }

    /// Puts in force `[fold]`, `[model]` and who may use the MQTT port; all else takes a pipeline that is built anew.
    ///
    /// # Errors
    /// When it can't be taken. Then nothing has changed.
    pub fn take(&self, config: &Config, inputs: &Reloads) -> anyhow::Result<()> {
        inputs.check(&config.input)?;
        let mut records = fold_records(config, &*self.clock);
        records.push(models::host_record(&config.model, self.clock.now())?);
        // All or none: half of a configuration is none that anybody checked.
        self.journal.append_all(&records)?;
        inputs.send(&config.input);
        let file = self.status.lock().file.clone();
        *self.status.lock() = taken(file, self.clock.now().wall, config);
        Ok(())
    }

    /// The file was to be read again, and was not taken.
    pub fn refuse(&self, error: &anyhow::Error) {
        let why = format!("{error:#}");
        // Whoever reads of it in the log finds it in the status.
        let refused = RefusedConfig { at_ns: self.clock.now().wall, why: why.clone() };
        self.status.lock().refused = Some(refused);
        tracing::error!("the config file was not taken, the old one stays in force: {why}");
    }

    /// Writes records as soon as the journal takes them. Until then nearly no reading is taken either, and the fold goes
    /// by the configuration of before.
    pub async fn write_late(records: Vec<Record>, journal: Journal, shutdown: CancellationToken) {
        tracing::warn!(
            reason = journal.usage().poisoned,
            "the journal takes nothing at present: the configuration is written into it once it does"
        );
        loop {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = shutdown.cancelled() => return,
            }
            match journal.append_all(&records) {
                Ok(_) => return tracing::info!("the configuration is in the journal now"),
                Err(error) => tracing::debug!(%error, "the configuration is not in the journal yet"),
            }
        }
    }

    /// How it stands.
    pub fn status(&self) -> ConfigStatus {
        self.status.lock().clone()
    }
}

/// A configuration that was taken.
fn taken(file: PathBuf, taken_ns: i64, config: &Config) -> ConfigStatus {
    let warnings: Vec<String> = config.warnings().into_iter().map(|(_, warning)| warning).collect();
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    ConfigStatus { file, taken_ns, warnings, ..ConfigStatus::default() }
}

/// What the fold must know before the first reading: time and configuration. Equal ones change nothing.
fn fold_records(config: &Config, clock: &dyn Clock) -> Vec<Record> {
    let stamp = clock.now();
    vec![
        identity::tick(stamp, identity::boot_id()),
        Record::Config { stamp, generation: stamp.wall.unsigned_abs(), config: config.fold.to_json() },
    ]
}

#[cfg(test)]
mod tests {
    use inputs::SystemClock;
    use seglog::Disk;
    use telemetry::SeriesTable;

    use super::*;

    #[test]
    fn a_model_that_is_missing_stops_no_start_and_a_file_that_is_wrong_changes_nothing_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        let missing = folder.path().join("nothing");
        std::fs::write(&path, format!("[model]\nhost_dir = {missing:?}\n")).unwrap();
        let config = Config::load(&path).unwrap();
        let journal = Journal::open(
            journal::JournalConfig {
                dir: folder.path().join("journal"),
                max_bytes: 64 << 20,
                segment_bytes: 1 << 20,
                ..journal::JournalConfig::new(folder.path())
            },
            Arc::new(Disk),
            SeriesTable::new(10),
        );
        let (journal, _) = journal.unwrap();
        let (standing, late) =
            Standing::begin(&config, &path, journal.clone(), Arc::new(SystemClock)).unwrap();
        assert!(late.is_none());
        assert!(standing.status().trouble[0].contains("manifest.json"), "{:?}", standing.status());

        let before = journal.last();
        let reloads = Reloads::new(&config.input);
        assert!(standing.take(&config, &reloads).is_err(), "the model is missing still");
        standing.refuse(&anyhow::anyhow!("agent.max_series must be at least 1"));
        let status = standing.status();
        assert!(status.refused.unwrap().why.contains("agent.max_series"));
        assert_eq!((journal.last(), status.trouble.len()), (before, 1));

        standing.take(&Config::parse("", &path).unwrap(), &reloads).unwrap();
        let status = standing.status();
        assert!(status.refused.is_none() && status.trouble.is_empty(), "{status:?}");
        assert!(journal.last() > before);
        journal.close();
    }
}
