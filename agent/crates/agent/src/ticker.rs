//! Ticks: the records by which the fold learns that time passed.

use std::sync::Arc;
use std::time::Duration;

use inputs::Clock;
use journal::Journal;
use telemetry::{DeviceClock, Record};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::identity;

const EVERY: Duration = Duration::from_secs(1);
/// With nothing coming in, a tick every so many seconds is enough; each costs a sync of the disk.
const IDLE_SECONDS: u32 = 10;

/// The tick of this moment.
pub fn tick(clock: &dyn Clock, boot: [u8; 16]) -> Record {
    let at = clock.now();
    Record::Tick(DeviceClock { at, boot, synced: identity::clock_is_set(at.wall) })
}

/// Appends ticks until shutdown. A full journal is no place for a tick: the next one says as much.
pub async fn run(journal: Journal, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let boot = identity::boot_id();
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut last, mut idle) = (0, 0);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = shutdown.cancelled() => return,
        }
        idle += 1;
        // A few more after the last record, so that the windows it opened are closed in time.
        if journal.last() > last || idle % IDLE_SECONDS == 0 || idle < 2 * IDLE_SECONDS {
            if journal.last() > last {
                idle = 0;
            }
            if let Err(error) = journal.append(&tick(&*clock, boot)) {
                tracing::debug!(%error, "no tick");
            }
            last = journal.last();
        }
    }
}
