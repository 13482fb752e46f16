//! The free space that others on the disk are to have, and how the spool goes on below it.
//!
//! Below the floor nothing may grow, and yet the journal, which may be what holds the disk, comes free only when its
//! records are in batches. So there is a reserve. It is used while a collector is connected, since what is cut then leaves
//! with the ack, and where batches give way at the floor, since newer ones take the place of older ones then. Segments are
//! small meanwhile: one that is acknowledged goes at once.
//!
//! How far the reserve is used counts from the least that the log held since the floor was reached. So links that come and
//! go, and restarts, don't add to it: what was cut in one session must leave before another gets room.

use std::time::Duration;

use telemetry::units::about;

use crate::reserve::Reserve;
use crate::writer::{Writer, unwritten};
use crate::{Room, SpoolError};

/// Segments that the reserve holds at least, so that there is one to free.
const SEGMENTS: u64 = 4;

/// How often is looked whether the disk has room again for what is missing of the reserve of room.
const REFILL_EVERY: Duration = Duration::from_secs(1);

/// How much is free, and should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Low {
    free: u64,
    min_free: u64,
    reserve: u64,
}

impl std::fmt::Display for Low {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [free, min_free, reserve] = [self.free, self.min_free, self.reserve].map(about);
        write!(
            f,
            "the disk under the spool has {free} free, less than spool.min_free ({min_free}): what is taken goes to the collector in steps of at most {reserve}; free space, or lower spool.min_free"
        )
    }
}

impl From<Low> for SpoolError {
    fn from(Low { free, min_free, .. }: Low) -> Self {
        Self::Floor { free, min_free }
    }
}

/// What is remembered of it.
#[derive(Debug, Default)]
pub(crate) enum Floor {
    /// Nobody has looked since the start, which doesn't tell what of the log was cut below the floor: all that fits into the
    /// reserve may have been.
    #[default]
    Unknown,
    /// There was more free at the last look.
    Above,
    /// There was less, and this is the least that the log held since.
    Below(u64),
}

impl Writer {
    /// What the log may hold below the floor.
    pub(crate) fn reserve(&self) -> u64 {
        // With the journal's at most half of what others are to have, however little that is.
        self.config.floor_reserve_bytes.min(self.config.min_free_bytes / 4)
    }

    /// Refuses when the disk is too full for others to live beside us.
    pub(crate) fn room(&mut self) -> Result<(), SpoolError> {
        self.spare()?;
        let mut low = self.low();
        if low.is_some() {
            if self.config.drop_at_floor {
                self.keep_caps()?;
            }
            self.end_segment()?;
            self.release_done();
            low = self.low();
        }
        let Some(low) = low else {
            self.floor = Floor::Above;
            self.state.lock().floor = None;
            return Ok(());
        };
        let bytes = self.log.as_ref().map_or(0, seglog::Log::bytes);
        let least = match self.floor {
            Floor::Below(least) => least.min(bytes),
            Floor::Unknown if !self.config.drop_at_floor => bytes.saturating_sub(self.reserve()),
            // What may be dropped makes room for the reserve.
            Floor::Above | Floor::Unknown => bytes,
        };
        self.floor = Floor::Below(least);
        let mut state = self.state.lock();
        state.floor = Some(low);
        let goes = state.connected || self.config.drop_at_floor;
        if goes && bytes - least < low.reserve {
            return Ok(());
        }
        let error = SpoolError::from(low);
        state.trouble = Some(error.to_string());
        Err(error)
    }

    /// Refuses when cutting would use up the room that is kept for when the disk has none: half of it is for what settles
    /// batches that are there, without which nothing leaves.
    fn spare(&mut self) -> Result<(), SpoolError> {
        let needed = |writer: &Self| writer.reserve.as_ref().is_some_and(Reserve::is_needed);
        let half = |writer: &Self| writer.room_kept().is_some_and(|room| room.left < room.whole / 2);
        if !needed(self) {
            return Ok(());
        }
        // Each cut begins a segment, whose room nobody else gets, and which goes as soon as it is acknowledged.
        if let Some(log) = &mut self.log {
            log.roll().map_err(unwritten)?;
        }
        if half(self) {
            self.release_done();
        }
        if half(self) && needed(self) {
            self.state.lock().trouble = Some(SpoolError::Full.to_string());
            return Err(SpoolError::Full);
        }
        Ok(())
    }

    /// Takes again what is missing of that room, now and then.
    pub(crate) fn refill(&mut self, now: Duration) {
        let due = self.refilled_at.is_none_or(|at| now.saturating_sub(at) >= REFILL_EVERY);
        if let Some(reserve) = self.reserve.as_ref().filter(|_| due) {
            reserve.refill();
            self.refilled_at = Some(now);
        }
    }

    /// What there is of it.
    pub(crate) fn room_kept(&self) -> Option<Room> {
        self.reserve.as_ref().map(|reserve| Room { left: reserve.left(), whole: reserve.whole() })
    }

    /// What is said of the floor ends when there is room again, also while nothing is cut.
    pub(crate) fn look_at_floor(&mut self) {
        if matches!(self.floor, Floor::Below(_)) && self.low().is_none() {
            self.floor = Floor::Above;
            self.state.lock().floor = None;
        }
    }

    /// `Some` below the floor. A file system that can't say how much is free has its own way to refuse.
    fn low(&self) -> Option<Low> {
        let min_free = self.config.min_free_bytes;
        let free = self.storage.free_bytes(&self.config.dir).ok()?;
        (free < min_free).then(|| Low { free, min_free, reserve: self.reserve() })
    }

    /// What was acknowledged comes free only when its segment isn't the newest.
    fn end_segment(&mut self) -> Result<(), SpoolError> {
        let most = self.reserve() / SEGMENTS;
        let Some(log) = &mut self.log else { return Ok(()) };
        let newest = log.readers().segments().last().map_or(0, |(_, _, bytes)| *bytes);
        if newest >= most { log.roll().map_err(unwritten) } else { Ok(()) }
    }
}
