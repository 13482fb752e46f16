//! What this crate's unit tests share: a door onto a journal on a simulated disk.

use std::path::Path;
use std::sync::Arc;

use journal::{Journal, JournalConfig};
use seglog::sim::SimDisk;
use telemetry::{Attribute, Intake, SeriesTable};

use crate::clock::ManualClock;
use crate::{Door, IntakeBuilder, Rejects, SeriesCache};

/// 2024-03-01T12:00:00Z.
pub(crate) const NOW: i64 = 1_709_294_400_000_000_000;

/// A door, a cache and a clock that stands still.
pub(crate) struct Bench {
    pub(crate) door: Door,
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) disk: SimDisk,
    cache: SeriesCache,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_max_series(10_000)
    }

    pub(crate) fn with_max_series(limit: usize) -> Self {
        Self::on(SimDisk::new(1), limit)
    }

    pub(crate) fn on(disk: SimDisk, limit: usize) -> Self {
        let table = SeriesTable::new(limit);
        let config = JournalConfig::new(Path::new("/journal"));
        let (journal, _) = Journal::open(config, Arc::new(disk.clone()), Arc::clone(&table)).unwrap();
        let clock = Arc::new(ManualClock::at(NOW));
        let rejects = Arc::new(Rejects::new());
        let door = Door::new(3, "test", journal, Arc::clone(&table), rejects, clock);
        Self { door, table, disk, cache: SeriesCache::new() }
    }

    /// Fills one intake.
    pub(crate) fn fill<T>(&mut self, with: impl FnOnce(&mut IntakeBuilder<'_>) -> T) -> (Intake, T) {
        let mut out = IntakeBuilder::new(&self.door, &mut self.cache, self.door.now());
        let result = with(&mut out);
        (out.finish(), result)
    }

    /// Samples as text: `name{labels} = value @time`, with ` unit` and ` ~flags` where there are any.
    pub(crate) fn samples(&self, intake: &Intake) -> Vec<String> {
        (0..intake.index.len())
            .map(|at| {
                let def = self.table.get(intake.series[intake.index[at] as usize]).unwrap();
                let unit = if def.unit.is_empty() { String::new() } else { format!(" {}", def.unit) };
                let flags = intake.flags.get(at).copied().unwrap_or(0);
                let flags = if flags == 0 { String::new() } else { format!(" ~{flags}") };
                let time =
                    if intake.times[at] == NOW { "now".to_owned() } else { intake.times[at].to_string() };
                format!("{} = {}{unit} @{time}{flags}", def.key, intake.values[at])
            })
            .collect()
    }

    /// Events as text: `source severity body attributes @time`.
    pub(crate) fn events(&self, intake: &Intake) -> Vec<String> {
        intake
            .events
            .iter()
            .map(|event| {
                let attributes: String = event
                    .attributes
                    .iter()
                    .map(|(name, value)| match value {
                        Attribute::Text(text) => format!(" {name}={text}"),
                        Attribute::Bool(value) => format!(" {name}={value}"),
                        Attribute::Int(value) => format!(" {name}={value}"),
                        Attribute::Float(value) => format!(" {name}={value}"),
                    })
                    .collect();
                let time = if event.time == NOW { "now".to_owned() } else { event.time.to_string() };
                format!("{} {:?} {:?}{attributes} @{time}", event.source, event.severity, event.body)
            })
            .collect()
    }
}
