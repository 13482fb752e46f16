//! How large a message passes a site's broker: some take small ones only, and say so to MQTT 5 clients, by ending the
//! connection, or not at all: mosquitto confirms what is over its `message_size_limit` and drops it.
//!
//! The collector misses such an envelope, ends the session as out of step, and the same batch would end the next one too. So what
//! a session sent before it broke off early is suspected: the broker is asked for its limit (as MQTT 5 has it), and where it names
//! none, the largest message that may be sent is halved with each further session that breaks off, down to [`LEAST`]. Batches
//! then go in parts that fit.
//!
//! A limit doesn't stay for ever: brokers are configured anew. One that names its limit is asked again, at each new session and
//! from time to time; at one that names none, larger messages are tried. What then gets lost costs a session and is sent again in
//! parts that are known to pass, and the next try waits twice as long. Knows no clock and no socket: time is given.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a status, a hello and an envelope around them take; below nothing is left to cut.
const LEAST: usize = 1 << 10;
/// What stands in a packet beside the envelope: header, topic, packet id.
const AROUND: usize = 300;
/// So many sessions in a row must break off: one alone is what a broker's restart looks like.
const SUSPECT: u32 = 2;
/// What a session sent that lasted so long has passed.
pub(crate) const SOUND: Duration = Duration::from_secs(60);
/// After how long a larger message is tried, and the longest that failed tries make of it.
const AGAIN: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(24 * 3600));
/// Nothing that this agent sends is larger.
const MOST: usize = 8 << 20;

/// The limit of a broker, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerLimit {
    /// Most bytes of a message that this agent sends.
    pub bytes: usize,
    /// The broker said so; else it is concluded from what got lost.
    pub told: bool,
    /// Smaller messages can't be made, and they get lost too.
    pub stuck: bool,
}

impl BrokerLimit {
    /// What is the matter, for a person.
    pub fn found(&self) -> String {
        let Self { bytes, told, stuck } = self;
        match (stuck, told) {
            (true, _) => {
                format!("the broker loses messages of {bytes} bytes too, and smaller ones can't be made")
            }
            (_, true) => {
                format!("the broker takes messages of at most {bytes} bytes: larger batches go in parts")
            }
            (..) => {
                format!(
                    "the broker seems to lose large messages: batches go in parts of at most {bytes} bytes"
                )
            }
        }
    }

    /// What to do.
    pub fn remedy(&self) -> &'static str {
        "raise the broker's limit for a message to 1 MiB or more (mosquitto: message_size_limit and max_packet_size); the agent finds that out by itself"
    }
}

/// What is known of one broker.
#[derive(Debug, Default)]
pub(crate) struct Fit {
    limit: Option<BrokerLimit>,
    strikes: u32,
    asked: bool,
    attempt: Option<Attempt>,
    /// When the limit is looked at again, and how long after the next attempt that fails.
    look_at: Duration,
    pause: Duration,
}

/// Messages that are larger than those that pass.
#[derive(Debug)]
struct Attempt {
    /// What is known to pass.
    proven: BrokerLimit,
    /// Since when one that is larger is on its way, and nothing has broken off.
    since: Option<Duration>,
}

/// What is to be done about a limit that has stood for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Ask the broker, as it has an answer: see [`Fit::answered`].
    Ask,
    /// Messages may be larger from now on, or as large as any.
    Larger,
    /// Nothing yet.
    Nothing,
}

impl Fit {
    pub(crate) fn limit(&self) -> Option<&BrokerLimit> {
        self.limit.as_ref()
    }

    /// A session that was greeted is over, whose largest message that isn't known to have arrived had so many bytes. True when the broker should be asked.
    pub(crate) fn ended(&mut self, broke_off: bool, largest: usize, lasted: Duration, now: Duration) -> bool {
        if let Some(attempt) = &mut self.attempt {
            attempt.since = None;
            if broke_off && largest > attempt.proven.bytes {
                self.limit = Some(attempt.proven.clone());
                self.attempt = None;
                self.pause = (self.pause * 2).min(AGAIN.1);
                self.look_at = now + self.pause;
                return false;
            }
        }
        if lasted >= SOUND {
            self.strikes = 0;
            return false;
        }
        if !broke_off || largest <= LEAST / 2 {
            return false;
        }
        self.strikes += 1;
        if self.strikes >= SUSPECT {
            let before = self.limit.clone().unwrap_or_default();
            let from = if before.bytes == 0 { largest } else { before.bytes.min(largest) };
            let stuck = before.bytes == LEAST;
            self.learned(BrokerLimit { bytes: (from / 2).max(LEAST), told: false, stuck }, now);
        }
        !std::mem::replace(&mut self.asked, true)
    }

    /// The broker said how large a packet may be, when it was asked because sessions broke off.
    pub(crate) fn told(&mut self, packet: usize, now: Duration) {
        let bytes = packet.saturating_sub(AROUND).max(LEAST);
        if self.limit.as_ref().is_none_or(|limit| limit.bytes > bytes) {
            self.learned(BrokerLimit { bytes, told: true, stuck: false }, now);
        }
        self.strikes = 0;
    }

    fn learned(&mut self, limit: BrokerLimit, now: Duration) {
        self.limit = Some(limit);
        self.attempt = None;
        self.pause = AGAIN.0;
        self.look_at = now + self.pause;
    }

    /// Whether the limit is one that the broker has said: then it is asked again when a session begins.
    pub(crate) fn is_told(&self) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.told)
    }

    /// What the broker says now of its limit, having named one before: `None` when it no longer does.
    pub(crate) fn answered(&mut self, packet: Option<usize>, now: Duration) {
        let Some(packet) = packet else {
            // It may still lose what is large, without a word.
            self.try_larger(None, now);
            return;
        };
        let bytes = packet.saturating_sub(AROUND).max(LEAST);
        if self.limit.as_ref().is_some_and(|limit| limit.bytes == bytes) {
            self.pause = (self.pause * 2).min(AGAIN.1);
            self.look_at = now + self.pause;
        } else {
            self.learned(BrokerLimit { bytes, told: true, stuck: false }, now);
        }
    }

    /// When to look again; `None` while all messages pass, as far as is known.
    pub(crate) fn looks_at(&self) -> Option<Duration> {
        (self.limit.is_some() || self.attempt.is_some()).then_some(self.look_at)
    }

    /// Looks at the limit in a session whose largest message had so many bytes.
    pub(crate) fn look(&mut self, largest: usize, now: Duration) -> Look {
        if now < self.look_at {
            return Look::Nothing;
        }
        let Some(attempt) = &mut self.attempt else {
            if self.is_told() {
                return Look::Ask;
            }
            let Some(limit) = &self.limit else { return Look::Nothing };
            let bytes = limit.bytes.saturating_mul(2);
            // Where nothing is cut to the limit, it says nothing any more.
            let cuts = largest >= limit.bytes / 2 && bytes < MOST;
            let larger = cuts.then_some(BrokerLimit { bytes, told: false, stuck: false });
            self.try_larger(larger, now);
            return Look::Larger;
        };
        self.look_at = now + SOUND;
        if largest <= attempt.proven.bytes {
            return Look::Nothing;
        }
        let since = *attempt.since.get_or_insert(now);
        if now < since + SOUND {
            return Look::Nothing;
        }
        // It has passed: the next one is tried at once.
        self.attempt = None;
        self.pause = AGAIN.0;
        self.look_at = now;
        if self.limit.is_some() { self.look(largest, now) } else { Look::Nothing }
    }

    fn try_larger(&mut self, larger: Option<BrokerLimit>, now: Duration) {
        let Some(proven) = std::mem::replace(&mut self.limit, larger) else { return };
        self.attempt = Some(Attempt { proven, since: None });
        self.look_at = now + SOUND;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_secs(1);
    const NOW: Duration = Duration::from_secs(1_000);

    /// Sessions in a row over a broker that loses what is larger than this; how many broke off, and what was learned.
    fn learned(loses: usize, batch: usize) -> (u32, Fit) {
        let mut fit = Fit::default();
        for session in 0..30 {
            let largest = fit.limit().map_or(batch, |limit| limit.bytes.min(batch));
            if largest <= loses {
                return (session, fit);
            }
            fit.ended(true, largest, SHORT, NOW);
        }
        (30, fit)
    }

    #[test]
    fn messages_are_cut_until_they_pass() {
        let (lost, fit) = learned(10_000, 60_000);
        let limit = fit.limit().unwrap();
        assert!((5_000..=10_000).contains(&limit.bytes) && !limit.told && !limit.stuck, "{limit:?}");
        assert!(lost < 6, "{lost}");
    }

    #[test]
    fn where_nothing_can_be_cut_any_more_it_says_so() {
        let (_, fit) = learned(500, 60_000);
        assert_eq!(fit.limit(), Some(&BrokerLimit { bytes: LEAST, told: false, stuck: true }));
    }

    #[test]
    fn one_session_that_breaks_off_proves_nothing_and_one_that_lasts_clears_it() {
        let mut fit = Fit::default();
        assert!(fit.ended(true, 60_000, SHORT, NOW), "the broker is asked once");
        assert!(!fit.ended(true, 60_000, SOUND, NOW));
        fit.ended(true, 60_000, SHORT, NOW);
        assert_eq!(fit.limit(), None);
        fit.ended(false, 60_000, SHORT, NOW);
        fit.ended(true, 100, SHORT, NOW);
        assert_eq!(fit.limit(), None);
    }

    #[test]
    fn what_the_broker_says_counts_at_once() {
        let mut fit = Fit::default();
        fit.told(20_000, NOW);
        let limit = fit.limit().unwrap();
        assert!(limit.told && limit.bytes < 20_000 && limit.bytes > 19_000, "{limit:?}");
        fit.told(100_000, NOW);
        assert!(fit.limit().unwrap().bytes < 20_000);
    }

    /// Days over a broker that loses what is larger than `loses` says at the time: a batch of 60,000 bytes waits always. Gives
    /// the limit of now and how many sessions broke off.
    fn days(fit: &mut Fit, begin: Duration, days: u32, loses: impl Fn(Duration) -> usize) -> (usize, u32) {
        let (mut now, mut began, mut broken) = (begin, begin, 0);
        let size = |fit: &Fit| fit.limit().map_or(60_000, |limit| limit.bytes.min(60_000));
        while now < begin + Duration::from_secs(u64::from(days) * 86_400) {
            if size(fit) > loses(now) {
                fit.ended(true, size(fit), now - began, now);
                broken += 1;
                began = now;
            }
            now += Duration::from_secs(1);
            if fit.looks_at().is_some_and(|at| at <= now) {
                assert_ne!(fit.look(size(fit), now), Look::Ask);
            }
        }
        (size(fit), broken)
    }

    #[test]
    fn a_broker_that_takes_more_gets_more_and_one_that_does_not_is_seldom_tried() {
        let (_, mut fit) = learned(10_000, 60_000);
        let small = fit.limit().unwrap().bytes;
        let (size, broken) = days(&mut fit, NOW, 7, |_| 10_000);
        assert_eq!(size, small, "it passes what passed before");
        assert!((4..=14).contains(&broken), "{broken} tries in a week");

        let begin = NOW + Duration::from_secs(7 * 86_400);
        let (size, broken) = days(&mut fit, begin, 2, |_| usize::MAX);
        assert_eq!((size, broken), (60_000, 0));
        assert!(fit.limit().is_none_or(|limit| limit.bytes > 60_000));
    }

    #[test]
    fn a_broker_that_was_stuck_is_tried_as_well() {
        let (_, mut fit) = learned(500, 60_000);
        assert!(fit.limit().unwrap().stuck);
        let (size, broken) = days(&mut fit, NOW, 1, |_| usize::MAX);
        assert_eq!((size, broken), (60_000, 0));
    }

    #[test]
    fn a_larger_message_that_passed_stays_and_one_that_did_not_brings_the_proven_limit_back() {
        let mut fit = Fit::default();
        fit.learned(BrokerLimit { bytes: 5_000, told: false, stuck: false }, NOW);
        let mut now = NOW + AGAIN.0;
        assert_eq!(fit.look(5_000, now), Look::Larger);
        assert_eq!(fit.limit().unwrap().bytes, 10_000);
        // As long as nothing large waits nothing is proven, and sessions may break off for other reasons.
        now += SOUND * 100;
        assert_eq!(fit.look(5_000, now), Look::Nothing);
        assert!(!fit.ended(true, 4_000, SOUND, now));
        assert_eq!(fit.limit().unwrap().bytes, 10_000);
        now += SOUND;
        assert_eq!(fit.look(9_000, now), Look::Nothing);
        now += SOUND;
        assert_eq!(fit.look(9_000, now), Look::Larger, "it has passed");
        assert!(!fit.ended(true, 19_000, SOUND, now));
        assert_eq!(fit.limit().unwrap().bytes, 10_000);
        assert_eq!(fit.look(10_000, now + AGAIN.0), Look::Nothing, "twice as long as at first");
        assert_eq!(fit.look(10_000, now + AGAIN.0 * 2), Look::Larger);
    }

    #[test]
    fn a_limit_that_the_broker_named_is_asked_for_again() {
        let mut fit = Fit::default();
        fit.told(20_000, NOW);
        assert!(fit.is_told());
        let now = NOW + AGAIN.0;
        assert_eq!(fit.look(19_000, now), Look::Ask);
        fit.answered(Some(20_000), now);
        assert_eq!(fit.looks_at(), Some(now + AGAIN.0 * 2), "the same: twice as long");
        fit.answered(Some(200_000), now);
        assert_eq!(fit.limit().unwrap().bytes, 200_000 - AROUND);
        fit.answered(None, now);
        assert_eq!(fit.limit(), None, "it names none any more");
        fit.ended(true, 300_000, SOUND, now);
        assert_eq!(fit.limit().unwrap().bytes, 200_000 - AROUND, "and loses what is larger");
    }
}
