//! When a host's clock counts as set, and what a time read off an unset one is worth.
//!
//! Boards without a battery start in 1970, or at the date of their image. Whether somebody (NTP, a person, a battery)
//! has set the clock since is told by the wall time alone: a time before [`SET_AFTER`] is none that this build can run
//! at. The kernel's own "synchronised" flag is no better: it stays off on hosts that are set by hand, by a battery or
//! by their hypervisor.
//!
//! Until then only the monotonic clock means something: a time read off the unset clock becomes nanoseconds since
//! boot, and belongs to that boot until it is known when the boot was.

use crate::Stamp;

/// The kernel's boot id; all zero where there is none.
pub type Boot = [u8; 16];

/// 2024-01-01: a wall clock before it was never set.
pub const SET_AFTER: i64 = 1_704_067_200_000_000_000;

/// A time this near to an unset clock was read off it: a reading without a time of its own, or of a program on the host.
const SAME_CLOCK: u64 = 600_000_000_000;

impl Stamp {
    /// True once the wall clock can be believed.
    pub fn is_set(self) -> bool {
        self.wall >= SET_AFTER
    }

    /// A time that was read off this host's unset clock, as nanoseconds since its boot. `None` when the clock is set, or
    /// the time is another clock's.
    pub fn since_boot(self, time: i64) -> Option<i64> {
        let unset = !self.is_set() && time.abs_diff(self.wall) <= SAME_CLOCK;
        let boot = i64::try_from(self.mono).unwrap_or(i64::MAX);
        unset.then(|| boot.saturating_add(time.saturating_sub(self.wall)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn only_a_time_off_the_unset_clock_becomes_time_since_boot() {
        let unset = Stamp { wall: 40 * S, mono: 25 * S as u64 };
        assert_eq!(unset.since_boot(40 * S), Some(25 * S), "the time of arrival");
        assert_eq!(unset.since_boot(38 * S), Some(23 * S), "a program on the same host");
        assert_eq!(unset.since_boot(SET_AFTER + S), None, "a device with a clock of its own");
        let set = Stamp { wall: SET_AFTER, mono: 25 * S as u64 };
        assert!(set.is_set() && set.since_boot(SET_AFTER).is_none());
        let odd = Stamp { wall: i64::MIN, mono: u64::MAX };
        assert_eq!(odd.since_boot(i64::MIN), Some(i64::MAX));
        assert_eq!(odd.since_boot(i64::MAX), None);
    }
}
