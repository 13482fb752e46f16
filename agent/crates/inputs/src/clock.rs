//! Where an input's idea of now comes from. Tests hand in their own.

use std::time::{SystemTime, UNIX_EPOCH};

use telemetry::Stamp;

/// Both of a host's clocks.
pub trait Clock: Send + Sync {
    /// Wall time and time since boot.
    fn now(&self) -> Stamp;
}

/// This host's real clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Stamp {
        let wall = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
        };
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let mono = (boot.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(boot.tv_nsec as u64);
        Stamp { wall, mono }
    }
}

/// A clock that stands still until it is moved: for tests and replays.
#[derive(Debug, Default)]
pub struct ManualClock(parking_lot::Mutex<Stamp>);

impl ManualClock {
    /// Standing at a wall time in nanoseconds, 1 s after boot.
    pub fn at(wall: i64) -> Self {
        Self(parking_lot::Mutex::new(Stamp { wall, mono: 1_000_000_000 }))
    }

    /// Standing at a reading of both clocks.
    pub fn reading(now: Stamp) -> Self {
        Self(parking_lot::Mutex::new(now))
    }

    /// Sets the wall clock, as a person or NTP does.
    pub fn set(&self, wall: i64) {
        self.0.lock().wall = wall;
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: std::time::Duration) {
        let mut now = self.0.lock();
        now.wall += by.as_nanos() as i64;
        now.mono += by.as_nanos() as u64;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Stamp {
        *self.0.lock()
    }
}
