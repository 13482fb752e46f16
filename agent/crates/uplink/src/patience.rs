//! How long a collector may leave us waiting before the session begins anew: what it owes us has a limit, and so has its
//! silence on a link where a living one is never silent, and so have its requests to wait. Knows no clock: time is given.

use std::time::Duration;

use crate::backoff::{self, Backoff};

/// A collector may ask us to wait again and again for so long, and take nothing; whether it will ever, a new session or another
/// way shows.
const PUT_OFF: Duration = Duration::from_secs(60);
/// While it does, the pauses grow up to this, unless it asks for longer ones.
const LONGEST: Duration = Duration::from_secs(30);

/// Of one session.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Since when it owes something, and has given nothing of it.
    owed_since: Option<Duration>,
    last_word: Duration,
    /// A living collector is never silent for so long.
    silence: Option<Duration>,
}

impl Patience {
    pub(crate) fn new(now: Duration) -> Self {
        Self { owed_since: None, last_word: now, silence: None }
    }

    /// From here on it may not be silent for so long.
    pub(crate) fn expect_word_every(&mut self, silence: Duration) {
        self.silence = Some(silence);
    }

    /// It said something.
    pub(crate) fn heard(&mut self, now: Duration) {
        self.last_word = now;
    }

    /// It gave a part of what it owes.
    pub(crate) fn given(&mut self, now: Duration) {
        self.owed_since = self.owed_since.map(|_| now);
    }

    /// Whether it owes something now, and then for how long it has given nothing.
    pub(crate) fn owes(&mut self, owes: bool, now: Duration) -> Duration {
        self.owed_since = owes.then(|| self.owed_since.unwrap_or(now));
        self.owed_since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// It was silent for longer than a living one is.
    pub(crate) fn silent(&self, now: Duration) -> Option<Duration> {
        self.silence.filter(|silence| now >= self.last_word + *silence)
    }

    /// When one of the limits is reached; `most` is that of what it owes.
    pub(crate) fn ends_at(&self, most: Duration) -> Option<Duration> {
        let owed = self.owed_since.map(|since| since + most);
        let silence = self.silence.map(|silence| self.last_word + silence);
        [owed, silence].into_iter().flatten().min()
    }
}

/// Requests to wait, in one session, between which nothing of what waits was acknowledged.
#[derive(Debug)]
pub(crate) struct PutOff {
    since: Option<Duration>,
    backoff: Backoff,
}

impl Default for PutOff {
    fn default() -> Self {
        Self { since: None, backoff: Backoff::new(LONGEST) }
    }
}

impl PutOff {
    /// It asks for a pause, while something `waits`: how long ours is; `None` where it has been asking for too long. One who asks
    /// in a pause (`in_pause`) speaks of what was under way before it, batch by batch: that is the same request once more.
    pub(crate) fn asked(
        &mut self,
        asked: Duration,
        waits: bool,
        in_pause: bool,
        draw: u32,
        now: Duration,
    ) -> Option<Duration> {
        let pause = backoff::asked(asked, draw);
        let Some(since) = self.since.filter(|_| waits) else {
            *self = Self { since: waits.then_some(now), ..Self::default() };
            return Some(pause);
        };
        (now.saturating_sub(since) < PUT_OFF).then(|| match in_pause {
            true => pause,
            false => pause.max(self.backoff.next(draw)),
        })
    }

    /// It took something.
    pub(crate) fn took(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_those_asked_for_and_grow_while_nothing_is_taken_up_to_a_minute() {
        let (mut put_off, mut now, mut pauses) = (PutOff::default(), SECOND, Vec::new());
        while let Some(pause) = put_off.asked(SECOND, true, false, u32::MAX, now) {
            pauses.push(pause);
            now += pause;
        }
        let whole =
            |seconds: &[f64]| seconds.iter().copied().map(Duration::from_secs_f64).collect::<Vec<_>>();
        assert_eq!(pauses, whole(&[1.25, 1.25, 1.25, 2.0, 4.0, 8.0, 16.0, 30.0]));
        put_off.took();
        assert_eq!(put_off.asked(SECOND, true, false, 0, now), Some(SECOND));
        // A pause that is as long as that is no reason to end: what is sent after it shows.
        assert_eq!(put_off.asked(SECOND * 200, true, false, 0, now + SECOND * 59), Some(SECOND * 200));
        assert_eq!(put_off.asked(SECOND * 200, true, false, 0, now + SECOND * 259), None);
    }

    #[test]
    fn who_asks_while_nothing_waits_asks_for_nothing() {
        let mut put_off = PutOff::default();
        for minute in 0..10 {
            assert_eq!(put_off.asked(SECOND, false, false, 0, SECOND * 60 * minute), Some(SECOND));
        }
        assert_eq!(put_off.asked(SECOND, true, false, 0, SECOND * 1000), Some(SECOND));
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_owed_counts_from_when_it_is_and_anew_with_each_part_of_it() {
        let mut patience = Patience::new(Duration::ZERO);
        assert_eq!(patience.owes(false, SECOND * 5), Duration::ZERO);
        assert_eq!(patience.ends_at(SECOND * 60), None);
        assert_eq!(patience.owes(true, SECOND * 6), Duration::ZERO);
        assert_eq!(patience.owes(true, SECOND * 9), SECOND * 3);
        assert_eq!(patience.ends_at(SECOND * 60), Some(SECOND * 66));
        patience.given(SECOND * 10);
        assert_eq!(patience.owes(true, SECOND * 12), SECOND * 2);
        assert_eq!(patience.owes(false, SECOND * 13), Duration::ZERO);
        assert_eq!(patience.owes(true, SECOND * 20), Duration::ZERO);
    }

    #[test]
    fn any_word_ends_a_silence() {
        let mut patience = Patience::new(Duration::ZERO);
        assert_eq!(patience.silent(SECOND * 1000), None);
        patience.expect_word_every(SECOND * 30);
        patience.heard(SECOND * 10);
        assert_eq!(patience.silent(SECOND * 39), None);
        assert_eq!(patience.silent(SECOND * 40), Some(SECOND * 30));
    }
}
