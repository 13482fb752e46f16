//! How long ago something was, whatever is done to the wall clock.
//!
//! Idempotency keys, the time a session's client is away and a message's expiry are ages, and an age by the wall clock
//! is wrong as soon as somebody sets it: a board without a battery that boots in 1970 is set ahead by half a century.
//! The timeline counts nanoseconds that never jump: within a boot it is the monotonic clock plus an offset, and a small
//! durable value links one boot to the next. It begins at the wall time of its first start.
//!
//! How long the host was off is known only when its wall clock was set before and is after. Otherwise it isn't counted:
//! what is remembered is then remembered longer, never shorter.
//!
//! ```text
//! value := version u8 (1), boot 16, at i64 (timeline), wall i64, mono u64      (little-endian)
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use seglog::{Cell, OpenError, Storage};
use telemetry::{Boot, Stamp};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

const VERSION: u8 = 1;
/// How often the clocks are compared. A clock that is set just before the power goes makes an age wrong by that step.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A wall clock that moved by more against the monotonic one was set: the link is written anew.
const STEP: u64 = 5_000_000_000;
/// Nor does the link become older than this: without a set clock, the time since then is lost at a reboot.
const LINK_EVERY: u64 = 600_000_000_000;

/// Where the timeline stood at a moment of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    boot: Boot,
    at: i64,
    stamp: Stamp,
}

/// Time for ages.
pub struct Timeline {
    /// Timeline minus monotonic clock.
    offset: i64,
    boot: Boot,
    kept: Mutex<Option<(Cell, Link)>>,
}

impl Timeline {
    /// One that nothing on disk goes by: it begins at this moment's wall time.
    pub fn beginning(now: Stamp) -> Self {
        Self { offset: offset(now.wall, now), boot: Boot::default(), kept: Mutex::new(None) }
    }

    /// Goes on where the one kept at `path` was left, and writes down where that is. The directory must be there.
    ///
    /// # Errors
    /// [`OpenError::Io`]; never for damage.
    pub fn open(storage: Arc<dyn Storage>, path: &Path, boot: Boot, now: Stamp) -> Result<Self, OpenError> {
        let cell = Cell::open(storage, path, 64)?;
        if cell.damaged() {
            tracing::error!(
                path = %path.display(),
                "the timeline of ages was damaged: it begins anew at the wall clock's time; what is kept for a while may go too early or late"
            );
        }
        let offset = match cell.get().as_deref().and_then(Link::decode) {
            Some(last) => last.offset(boot, now),
            None => offset(now.wall, now),
        };
        let timeline = Self { offset, boot, kept: Mutex::new(None) };
        let link = timeline.link(now);
        *timeline.kept.lock() = Some((cell, link));
        timeline.write(link);
        Ok(timeline)
    }

    /// The timeline at a moment of this boot, in nanoseconds.
    pub fn at(&self, now: Stamp) -> i64 {
        self.offset.saturating_add(i64::try_from(now.mono).unwrap_or(i64::MAX))
    }

    /// Writes the link anew when the wall clock was set, or when it has become old. Called about once a minute.
    pub fn look(&self, now: Stamp) {
        let link = self.link(now);
        let stale = self.kept.lock().as_ref().is_some_and(|(_, last)| {
            let wall = i128::from(now.wall) - i128::from(last.stamp.wall);
            let mono = i128::from(now.mono) - i128::from(last.stamp.mono);
            (wall - mono).unsigned_abs() > u128::from(STEP) || mono > i128::from(LINK_EVERY)
        });
        if stale {
            self.write(link);
        }
    }

    /// Looks after the link until shutdown.
    pub async fn keep(self: Arc<Self>, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
        loop {
            let stopping = tokio::select! {
                () = shutdown.cancelled() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            let (timeline, now) = (Arc::clone(&self), clock.now());
            let looked = tokio::task::spawn_blocking(move || match stopping {
                true => timeline.write(timeline.link(now)),
                false => timeline.look(now),
            });
            if looked.await.is_err() || stopping {
                return;
            }
        }
    }

    fn link(&self, stamp: Stamp) -> Link {
        Link { boot: self.boot, at: self.at(stamp), stamp }
    }

    fn write(&self, link: Link) {
        if let Some((cell, last)) = self.kept.lock().as_mut() {
            if let Err(error) = cell.set(&link.encode()) {
                tracing::warn!(%error, "the timeline of ages is not kept: after a reboot, what is kept for a while may be kept longer");
            }
            *last = link;
        }
    }
}

fn offset(at: i64, now: Stamp) -> i64 {
    at.saturating_sub(i64::try_from(now.mono).unwrap_or(i64::MAX))
}

impl Link {
    /// The timeline's offset now that it is `now`, in this boot or another.
    fn offset(&self, boot: Boot, now: Stamp) -> i64 {
        let last = self.stamp;
        // A host without boot ids can't say that it is the same; nor is it, when its clock runs from 0 again.
        if boot == self.boot && boot != Boot::default() && now.mono >= last.mono {
            return offset(self.at, last);
        }
        let up = i64::try_from(now.mono).unwrap_or(i64::MAX);
        let known = last.is_set() && now.is_set() && now.wall >= last.wall;
        let since = if known { now.wall - last.wall } else { up };
        offset(self.at.saturating_add(since), now)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.boot);
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.stamp.wall.to_le_bytes());
        out.extend_from_slice(&self.stamp.mono.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[VERSION])?;
        let (boot, rest) = rest.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (wall, rest) = rest.split_first_chunk()?;
        let (mono, _) = rest.split_first_chunk()?;
        let stamp = Stamp { wall: i64::from_le_bytes(*wall), mono: u64::from_le_bytes(*mono) };
        Some(Self { boot: *boot, at: i64::from_le_bytes(*at), stamp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seglog::sim::SimDisk;
    use telemetry::clock::SET_AFTER;

    const S: i64 = 1_000_000_000;
    const HOUR: i64 = 3600 * S;
    const SET: i64 = SET_AFTER + 1000 * HOUR;

    fn open(disk: &SimDisk, boot: u8, now: Stamp) -> Timeline {
        Timeline::open(Arc::new(disk.clone()), Path::new("/timeline"), [boot; 16], now).unwrap()
    }

    fn stamp(wall: i64, mono: i64) -> Stamp {
        Stamp { wall, mono: mono as u64 }
    }

    #[test]
    fn setting_the_clock_moves_nothing_in_this_process_nor_after_a_restart_in_the_same_boot() {
        let disk = SimDisk::new(1);
        let timeline = open(&disk, 1, stamp(40 * S, 10 * S));
        assert_eq!(timeline.at(stamp(SET, 20 * S)), 50 * S);
        timeline.look(stamp(SET, 20 * S));
        assert_eq!(open(&disk, 1, stamp(SET - 99 * HOUR, 30 * S)).at(stamp(0, 31 * S)), 61 * S);
    }

    #[test]
    fn between_boots_it_goes_by_a_wall_clock_that_was_set_in_both() {
        let disk = SimDisk::new(1);
        open(&disk, 1, stamp(SET, 5 * S));
        let again = stamp(SET + 30 * HOUR, 7 * S);
        assert_eq!(open(&disk, 2, again).at(again), SET + 30 * HOUR);
    }

    #[test]
    fn between_boots_an_unset_clock_or_one_that_was_set_back_counts_only_the_time_it_is_up() {
        for wall in [8 * S, SET - HOUR] {
            let disk = SimDisk::new(1);
            open(&disk, 1, stamp(SET, 5 * S));
            let again = open(&disk, 2, stamp(wall, 7 * S));
            assert_eq!(again.at(stamp(wall, 7 * S)), SET + 7 * S);
            assert_eq!(again.at(stamp(SET + 30 * HOUR, 8 * S)), SET + 8 * S);
        }
    }

    #[test]
    fn what_was_unset_before_and_is_set_now_counts_only_the_time_it_is_up() {
        let disk = SimDisk::new(1);
        open(&disk, 1, stamp(40 * S, 5 * S)).look(stamp(40 * S + HOUR, 5 * S + HOUR));
        let again = stamp(SET, 7 * S);
        assert_eq!(open(&disk, 2, again).at(again), 40 * S + HOUR + 7 * S);
    }

    #[test]
    fn hosts_without_a_boot_id_go_by_the_wall_clock() {
        let disk = SimDisk::new(1);
        open(&disk, 0, stamp(SET, 5 * S));
        let again = stamp(SET + HOUR, 50 * S);
        assert_eq!(open(&disk, 0, again).at(again), SET + HOUR);
    }

    #[test]
    fn a_step_is_written_down_at_the_next_look() {
        let disk = SimDisk::new(1);
        let timeline = open(&disk, 1, stamp(SET + 5000 * HOUR, 5 * S));
        timeline.look(stamp(SET, 6 * S));
        let again = stamp(SET + HOUR, S);
        assert_eq!(open(&disk, 2, again).at(again), SET + 5001 * HOUR + S);
    }
}
