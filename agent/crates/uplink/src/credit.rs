//! Credit: how many payload bytes the collector lets us have unacknowledged, and the part of it
//! that only the live lane may use, so that a long backlog never delays a fresh reading.

use telemetry::Lane;

/// What may still be sent in this session.
#[derive(Debug)]
pub struct Credit {
    /// Negative after a last batch that was larger than what was left: later credit fills that first.
    left: i64,
    reserve: i64,
}

impl Credit {
    /// As the greeting grants it; a quarter is reserved for live batches.
    pub fn new(granted: u64) -> Self {
        let granted = i64::try_from(granted).unwrap_or(i64::MAX);
        Self { left: granted, reserve: granted / 4 }
    }

    /// The collector took that many bytes off our hands.
    pub fn add(&mut self, bytes: u64) {
        self.left = self.left.saturating_add_unsigned(bytes);
    }

    /// A batch was sent. A last batch may overdraw: otherwise one larger than the credit never leaves.
    pub fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub_unsigned(bytes);
    }

    /// May a batch of this lane be sent? While nothing is under way (`idle`) the backlog may take of the reserve too: when many
    /// agents come, the collector gives back less than it took, and what is left may never be more than the reserve again.
    pub fn allows(&self, lane: Lane, idle: bool) -> bool {
        match lane {
            Lane::Live => self.left > 0,
            Lane::Backlog => self.left > if idle { 0 } else { self.reserve },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_leaves_room_for_live_batches() {
        let mut credit = Credit::new(100);
        credit.spend(75);
        assert!(!credit.allows(Lane::Backlog, false));
        assert!(credit.allows(Lane::Live, false));
        credit.spend(100);
        assert!(!credit.allows(Lane::Live, false));
        credit.add(75);
        assert!(!credit.allows(Lane::Live, false), "an overdraft is paid back first");
        credit.add(20);
        assert!(credit.allows(Lane::Live, false) && !credit.allows(Lane::Backlog, false));
    }

    #[test]
    fn credit_that_became_smaller_than_the_reserve_stops_no_backlog() {
        let mut credit = Credit::new(100);
        credit.spend(90);
        credit.add(10);
        assert!(!credit.allows(Lane::Backlog, false));
        assert!(credit.allows(Lane::Backlog, true));
        credit.spend(20);
        assert!(!credit.allows(Lane::Backlog, true), "nothing is left");
    }
}
