//! Ticks: the records by which the fold learns that time passed.

use std::sync::Arc;
use std::time::Duration;

use inputs::Clock;
use journal::Journal;
use telemetry::{DeviceClock, Record};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::fold_thread::Watch;
use crate::identity;

/// How often is looked whether one is due.
const EVERY: Duration = Duration::from_secs(1);
/// With nothing that waits for time to pass, one every so many seconds is enough; each costs a sync of the disk.
const AT_LEAST_SECONDS: u32 = 10;

/// The tick of this moment.
pub fn tick(clock: &dyn Clock, boot: [u8; 16]) -> Record {
    let at = clock.now();
    Record::Tick(DeviceClock { at, boot, synced: identity::clock_is_set(at.wall) })
}

/// Appends ticks until shutdown: when the fold waits for one, when the clock was set, and now and then. A full
/// journal is no place for a tick: the next one says as much.
pub async fn run(journal: Journal, fold: Arc<Watch>, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let boot = identity::boot_id();
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut since, mut was_set) = (0, false);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = shutdown.cancelled() => return,
        }
        since += 1;
        let now = clock.now();
        let set = identity::clock_is_set(now.wall);
        if set != was_set || since >= AT_LEAST_SECONDS || fold.tick_is_due(now.mono) {
            (since, was_set) = (0, set);
            if let Err(error) = journal.append(&tick(&*clock, boot)) {
                tracing::debug!(%error, "no tick");
            }
        }
    }
}
