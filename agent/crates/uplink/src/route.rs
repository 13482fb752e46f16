//! Which address the next attempt goes to, where there is a fallback. Knows no clock: time is given.

use std::time::Duration;

use crate::error::LinkError;
use crate::state::Moved;

/// So many failed attempts in a row over `url`, and the fallback is tried.
const ATTEMPTS: u32 = 3;
/// Or this long without a session that was good for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// One of the two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `url`
    Url,
    /// `fallback_url`
    Fallback,
}

/// Where attempts went and how they ended.
#[derive(Debug)]
pub(crate) struct Route {
    fallback: bool,
    way: Way,
    failures: u32,
    /// Since when there was no such session over `url`.
    since: Option<Duration>,
    /// `url` was given up for now: the two take turns.
    turns: bool,
}

impl Route {
    pub(crate) fn new(fallback: bool) -> Self {
        Self { fallback, way: Way::Url, failures: 0, since: None, turns: false }
    }

    /// Where the next attempt goes.
    pub(crate) fn way(&mut self, now: Duration) -> Way {
        self.since.get_or_insert(now);
        self.way
    }

    /// The attempt ended: was there a session that was good for anything?
    pub(crate) fn ended(&mut self, useful: bool, now: Duration) {
        if self.way == Way::Url {
            if useful {
                (self.failures, self.since, self.turns) = (0, Some(now), false);
            } else {
                self.failures += 1;
                let long = self.since.is_some_and(|since| now.saturating_sub(since) >= PATIENCE);
                self.turns |= self.failures >= ATTEMPTS || long;
            }
        }
        if self.fallback && self.turns {
            self.way = match self.way {
                Way::Url => Way::Fallback,
                Way::Fallback => Way::Url,
            };
        }
    }
}

/// Whether a session was good for anything. A way on which batches leave, or wait for credit, and nothing ever comes of them is
/// none, however it greets.
pub(crate) fn useful(greeted: bool, end: &Result<(), LinkError>, before: Moved, after: Moved) -> bool {
    let asked = after.sent > before.sent || matches!(end, Err(LinkError::Stalled(_)));
    greeted && (end.is_ok() || after.acked > before.acked || !asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Attempts a second apart with these ends; where each went.
    fn ways(route: &mut Route, ends: &[bool]) -> Vec<Way> {
        let at = |n: usize| SECOND * n as u32;
        ends.iter()
            .enumerate()
            .map(|(n, greeted)| {
                let way = route.way(at(n));
                route.ended(*greeted, at(n));
                way
            })
            .collect()
    }

    #[test]
    fn three_failures_lead_to_the_fallback_and_then_the_two_take_turns() {
        use Way::{Fallback, Url};
        let went = ways(&mut Route::new(true), &[false; 7]);
        assert_eq!(went, [Url, Url, Url, Fallback, Url, Fallback, Url]);
    }

    #[test]
    fn a_greeting_over_the_url_begins_anew() {
        use Way::{Fallback, Url};
        let went =
            ways(&mut Route::new(true), &[false, false, false, true, true, false, false, false, false]);
        assert_eq!(went, [Url, Url, Url, Fallback, Url, Url, Url, Url, Fallback]);
    }

    #[test]
    fn a_minute_without_a_greeting_is_enough() {
        let mut route = Route::new(true);
        assert_eq!(route.way(SECOND), Way::Url);
        route.ended(false, 61 * SECOND);
        assert_eq!(route.way(62 * SECOND), Way::Fallback);
    }

    #[test]
    fn without_a_fallback_there_is_one_way() {
        assert!(ways(&mut Route::new(false), &[false; 9]).iter().all(|way| *way == Way::Url));
    }
}
