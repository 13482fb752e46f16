//! What was last seen on each topic, to tell a retained redelivery from a new reading.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

/// Topic → payload, as hashes. Bounded: topics not used for long are forgotten.
#[derive(Debug, Default)]
pub struct LastSeen {
    half: usize,
    recent: HashMap<u64, u64>,
    older: HashMap<u64, u64>,
}

/// What a publish is, as far as retained messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An ordinary publish.
    Live,
    /// A retained message that is equal to the last one seen on its topic: not a reading.
    Repeat,
    /// A retained message whose payload wasn't seen yet: a reading, marked.
    Changed,
}

impl LastSeen {
    /// Remembers between half of `topics` and all of them.
    pub fn new(topics: usize) -> Self {
        Self { half: (topics / 2).max(1), ..Self::default() }
    }

    /// Judges one publish and remembers it. `retained` is the flag the broker sent it with.
    pub fn judge(&mut self, topic: &str, payload: &[u8], retained: bool) -> Delivery {
        let (topic, payload) = (xxh3_64(topic.as_bytes()), xxh3_64(payload));
        let before = self.recent.get(&topic).or_else(|| self.older.get(&topic)).copied();
        if self.recent.len() >= self.half && !self.recent.contains_key(&topic) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(topic, payload);
        match (retained, before == Some(payload)) {
            (false, _) => Delivery::Live,
            (true, true) => Delivery::Repeat,
            (true, false) => Delivery::Changed,
        }
    }

    /// As bytes to keep over a restart.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity((self.recent.len() + self.older.len()) * 16);
        for (topic, payload) in self.older.iter().chain(&self.recent) {
            out.extend_from_slice(&topic.to_le_bytes());
            out.extend_from_slice(&payload.to_le_bytes());
        }
        out
    }

    /// From [`Self::encode`]; bytes that don't make a whole pair are left out.
    pub fn decode(bytes: &[u8], topics: usize) -> Self {
        let mut seen = Self::new(topics);
        for pair in bytes.as_chunks::<16>().0.iter().take(topics) {
            let (topic, payload) = pair.split_at(8);
            let word = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            if seen.recent.len() >= seen.half {
                seen.older.insert(word(topic), word(payload));
            } else {
                seen.recent.insert(word(topic), word(payload));
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retained_message_at_a_reconnect_is_not_a_new_reading() {
        let mut seen = LastSeen::new(100);
        assert_eq!(seen.judge("t", b"21.5", false), Delivery::Live);
        assert_eq!(seen.judge("t", b"21.5", true), Delivery::Repeat);
        assert_eq!(seen.judge("t", b"22.0", true), Delivery::Changed);
        assert_eq!(seen.judge("t", b"22.0", true), Delivery::Repeat);
        assert_eq!(seen.judge("t", b"22.0", false), Delivery::Live);
        assert_eq!(seen.judge("other", b"22.0", true), Delivery::Changed);
    }

    #[test]
    fn it_is_the_same_after_a_restart_and_stays_bounded() {
        let mut seen = LastSeen::new(100);
        for n in 0..1000 {
            seen.judge(&format!("t{n}"), b"1", false);
        }
        assert!(seen.recent.len() + seen.older.len() <= 100);
        let mut again = LastSeen::decode(&seen.encode(), 100);
        assert_eq!(again.judge("t999", b"1", true), Delivery::Repeat);
        assert_eq!(again.judge("t0", b"1", true), Delivery::Changed);
        assert_eq!(LastSeen::decode(b"short", 100).encode(), b"");
    }
}
