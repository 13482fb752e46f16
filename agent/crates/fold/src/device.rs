//! Devices and their watermarks: the event time up to which a device's input is taken as complete.
//!
//! A watermark follows the newest reading of its (input, device) at a distance of `lateness` and never
//! goes back. Between readings ticks carry it on: time that passed since the last arrival, by the
//! monotonic clock, is added to the newest reading's time, so that it works for a device whose clock is
//! wrong or that sends from the past. But only to the end of the longest window that the newest reading lies in: a device that
//! was cut off for an hour and then sends what it kept is not late.

use std::sync::Arc;

use telemetry::{SeriesRef, Stamp};

use crate::window;

/// One (input, site, device), by real time or by time since boot.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub input: u16,
    /// Its times are nanoseconds since a boot whose clock was not set.
    pub unset: bool,
    pub site: Box<str>,
    pub name: Box<str>,
    /// Newest event time seen; meaningless before the first sample.
    pub newest: i64,
    /// When that host last heard of the device, on the monotonic clock.
    pub arrival: u64,
    /// Input is complete up to here.
    pub watermark: i64,
    /// Its series, in order of first use.
    pub series: Vec<u32>,
    /// End of its first window to close, or the end of time. Recomputed, not checkpointed.
    pub next_end: i64,
    /// True when one of its open windows is a late one. Recomputed, not checkpointed.
    pub has_late: bool,
    /// How many windows its series have open. Recomputed, not checkpointed.
    pub open: usize,
    /// The scorer wants some of its series. Recomputed, not checkpointed.
    pub scored: bool,
    /// The series its scores are shipped as, so that each name is interned once. Not checkpointed.
    pub scores: Vec<ScoreSeries>,
    /// The record that last brought a sample. Not checkpointed: it tells records apart only within one.
    pub touched: u64,
}

/// The series of one model version's scores of one device.
#[derive(Clone, Debug)]
pub(crate) struct ScoreSeries {
    pub model: Arc<str>,
    pub version: Arc<str>,
    pub at: SeriesRef,
}

impl Device {
    pub(crate) fn new(input: u16, unset: bool, site: &str, name: &str) -> Self {
        Self {
            input,
            unset,
            site: site.into(),
            name: name.into(),
            newest: i64::MIN,
            arrival: 0,
            watermark: i64::MIN,
            series: Vec::new(),
            next_end: i64::MAX,
            has_late: false,
            open: 0,
            scored: false,
            scores: Vec::new(),
            touched: 0,
        }
    }

    /// Readings arrived. Returns true when the watermark moved.
    pub(crate) fn heard(&mut self, stamp: Stamp, lateness: i64) -> bool {
        self.arrival = stamp.mono;
        self.raise(self.newest.saturating_sub(lateness))
    }

    /// Time passed. Returns true when the watermark moved.
    pub(crate) fn passed(&mut self, mono: u64, lateness: i64, longest_window: i64) -> bool {
        if self.newest == i64::MIN {
            return false;
        }
        let silence = i64::try_from(mono.saturating_sub(self.arrival)).unwrap_or(i64::MAX);
        let (_, end) = window::bounds(self.newest, longest_window);
        self.raise(self.newest.saturating_add(silence).saturating_sub(lateness).min(end))
    }

    /// When, by the monotonic clock, time that passes will next let go of a window, or of a score (they
    /// come at multiples of `step`). `None` while only a reading can.
    pub(crate) fn due(&self, lateness: i64, longest_window: i64, step: Option<i64>) -> Option<u64> {
        if self.newest == i64::MIN {
            return None;
        }
        if self.has_late {
            return Some(0);
        }
        let (_, end) = window::bounds(self.newest, longest_window);
        let score =
            step.filter(|_| self.scored).map_or(i64::MAX, |step| window::bounds(self.watermark, step).1);
        let target = self.next_end.min(score);
        if target > end || target <= self.watermark {
            return None;
        }
        let silence = target.saturating_sub(self.newest).saturating_add(lateness);
        Some(self.arrival.saturating_add(silence.max(0).unsigned_abs()))
    }

    /// One of its series opened a window.
    pub(crate) fn opened(&mut self, end: i64, late: bool) {
        self.open += 1;
        if late {
            self.has_late = true;
        } else {
            self.next_end = self.next_end.min(end);
        }
    }

    /// All its windows were let go of; those that stay are opened again.
    pub(crate) fn reset_open(&mut self) {
        (self.next_end, self.has_late, self.open) = (i64::MAX, false, 0);
    }

    fn raise(&mut self, to: i64) -> bool {
        let moved = to > self.watermark;
        self.watermark = self.watermark.max(to);
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn ticks_carry_a_silent_device_to_the_end_of_its_window_and_no_further() {
        let mut device = Device::new(0, false, "", "pump");
        device.newest = 1_003 * S;
        assert!(device.heard(Stamp { wall: 0, mono: 50 * S as u64 }, 2 * S));
        assert_eq!(device.watermark, 1_001 * S);
        assert!(device.passed(54 * S as u64, 2 * S, 10 * S));
        assert_eq!(device.watermark, 1_005 * S);
        assert!(device.passed(9_999 * S as u64, 2 * S, 10 * S));
        assert_eq!(device.watermark, 1_010 * S);
        assert!(!device.passed(99_999 * S as u64, 2 * S, 10 * S));
    }

    #[test]
    fn a_watermark_never_goes_back() {
        let mut device = Device::new(0, false, "", "pump");
        device.newest = 100 * S;
        device.heard(Stamp::default(), 0);
        assert!(!device.heard(Stamp::default(), 50 * S));
        assert_eq!(device.watermark, 100 * S);
        assert!(!Device::new(0, false, "", "").passed(u64::MAX, 0, 1));
    }
}
