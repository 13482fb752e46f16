//! What the targets of the inputs share: a door onto a journal in memory.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use inputs::clock::ManualClock;
use inputs::{Clock, Door, IntakeBuilder, Rejects, SeriesCache};
use journal::{Journal, JournalConfig};
use seglog::sim::SimDisk;
use telemetry::{Intake, SeriesTable};

/// The zone of times without an offset.
pub static UTC: jiff::tz::TimeZone = jiff::tz::TimeZone::UTC;

thread_local! {
    static DOOR: RefCell<Option<Door>> = const { RefCell::new(None) };
}

/// Fills one intake; what comes out must have columns of equal length and balanced counts.
pub fn fill(with: impl FnOnce(&mut IntakeBuilder<'_>)) -> Intake {
    DOOR.with_borrow_mut(|slot| {
        let door = slot.get_or_insert_with(|| {
            let table = SeriesTable::new(10_000);
            let (journal, _) =
                Journal::open(JournalConfig::new(Path::new("/journal")), SimDisk::new(1).storage(), Arc::clone(&table))
                    .unwrap();
            let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(1_709_294_400_000_000_000));
            Door::new(0, "fuzz", journal, table, Arc::new(Rejects::new()), clock)
        });
        let mut cache = SeriesCache::new();
        let mut out = IntakeBuilder::new(door, &mut cache, door.now());
        with(&mut out);
        let intake = out.finish();
        assert!(intake.times.len() == intake.index.len() && intake.values.len() == intake.index.len());
        assert!(intake.index.iter().all(|index| (*index as usize) < intake.series.len()));
        assert!(intake.values.iter().all(|value| value.is_finite()));
        intake
    })
}
