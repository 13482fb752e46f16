//! How long a collector may leave us waiting before the session begins anew: what it owes us has a limit, and so has its
//! silence on a link where a living one is never silent. Knows no clock: time is given.

use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use super::*;

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
