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

/// What a session was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Good {
    /// Batches were acknowledged, or there was nothing to send.
    Something,
    /// It didn't come about, or batches were not acknowledged.
    Nothing,
    /// It ended while batches waited for credit, or for a pause to end.
    Unknown,
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

    /// The attempt ended: what was its session good for?
    pub(crate) fn ended(&mut self, good: Good, now: Duration) {
        if self.way == Way::Url {
            if good == Good::Something {
                (self.failures, self.since, self.turns) = (0, Some(now), false);
            } else {
                self.failures += u32::from(good == Good::Nothing);
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

/// What a session was good for: it was useful if something of what waited was acknowledged, or nothing waited. A way on which
/// batches leave and nothing ever comes of them is good for nothing, however it greets.
///
/// Where batches still waited for credit, or for the end of a pause that the collector had asked for (`starved`), when it ended,
/// it is not to be told: the collector may be slow, or its credit never comes through. So it counts for neither, and the time without a session that was good for anything goes on:
/// a minute of such sessions leads to the fallback, as one in which no credit comes for a minute does.
pub(crate) fn good(
    greeted: bool,
    end: &Result<(), LinkError>,
    starved: bool,
    before: Moved,
    after: Moved,
) -> Good {
    let asked = after.sent > before.sent || matches!(end, Err(LinkError::Stalled(_)));
    if !greeted {
        Good::Nothing
    } else if end.is_ok() || after.acked > before.acked {
        Good::Something
    } else if asked {
        Good::Nothing
    } else if starved {
        Good::Unknown
    } else {
        Good::Something
    }
}

#[cfg(test)]
mod tests {
    use super::Good::{Nothing, Something, Unknown};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Attempts a second apart with these ends; where each went.
    fn ways(route: &mut Route, ends: &[Good]) -> Vec<Way> {
        let at = |n: usize| SECOND * n as u32;
        ends.iter()
            .enumerate()
            .map(|(n, good)| {
                let way = route.way(at(n));
                route.ended(*good, at(n));
                way
            })
            .collect()
    }

    #[test]
    fn three_failures_lead_to_the_fallback_and_then_the_two_take_turns() {
        use Way::{Fallback, Url};
        let went = ways(&mut Route::new(true), &[Nothing; 7]);
        assert_eq!(went, [Url, Url, Url, Fallback, Url, Fallback, Url]);
    }

    #[test]
    fn a_greeting_over_the_url_begins_anew() {
        use Way::{Fallback, Url};
        let went = ways(
            &mut Route::new(true),
            &[Nothing, Nothing, Nothing, Something, Something, Nothing, Nothing, Nothing, Nothing],
        );
        assert_eq!(went, [Url, Url, Url, Fallback, Url, Url, Url, Url, Fallback]);
    }

    #[test]
    fn a_minute_without_a_greeting_is_enough() {
        let mut route = Route::new(true);
        assert_eq!(route.way(SECOND), Way::Url);
        route.ended(Nothing, 61 * SECOND);
        assert_eq!(route.way(62 * SECOND), Way::Fallback);
    }

    #[test]
    fn sessions_of_which_nothing_is_known_are_no_failed_attempts_and_no_greetings() {
        use Way::{Fallback, Url};
        // One second apart: of so many none is counted, and the time goes on.
        let went = ways(&mut Route::new(true), &[Unknown; 62]);
        assert!(went[..61].iter().all(|way| *way == Url));
        assert_eq!(went[61], Fallback);
        let went = ways(&mut Route::new(true), &[Nothing, Unknown, Nothing, Unknown, Nothing, Unknown]);
        assert_eq!(went, [Url, Url, Url, Url, Url, Fallback]);
        let mut route = Route::new(true);
        ways(&mut route, &[Unknown; 60]);
        route.ended(Something, 60 * SECOND);
        route.ended(Unknown, 119 * SECOND);
        assert_eq!(route.way(120 * SECOND), Url, "a minute counts from the last that was good for something");
    }

    #[test]
    fn without_a_fallback_there_is_one_way() {
        assert!(ways(&mut Route::new(false), &[Nothing; 9]).iter().all(|way| *way == Way::Url));
    }
}
