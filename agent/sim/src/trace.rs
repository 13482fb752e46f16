//! What happened, in order: as a hash by which two runs are compared, and in words for who looks for a cause.

use std::io::Write;

use crate::clock::{SECOND, Time};

/// Hash of everything noted so far.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    told: bool,
}

impl Trace {
    /// Nothing happened yet; `told` = each thing is printed too.
    pub fn new(told: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, told }
    }

    /// Something happened.
    pub fn note(&mut self, now: Time, what: &str, numbers: [u64; 3]) {
        // FNV-1a, a word at a time.
        let mut mix =
            |word: u64| self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        mix(now);
        what.bytes().for_each(|byte| mix(u64::from(byte)));
        numbers.into_iter().for_each(&mut mix);
        if self.told {
            let [a, b, c] = numbers;
            self.say(&format!("{:>14.6} {what:<28} {a:>8} {b:>8} {c:>8}", now as f64 / SECOND as f64));
        }
    }

    /// Whether it is printed.
    pub fn told(&self) -> bool {
        self.told
    }

    /// Words that belong to what was noted last.
    pub fn say(&self, words: &str) {
        say(words);
    }

    /// The hash.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// Prints a line. Whoever reads may stop reading.
pub fn say(words: &str) {
    _ = writeln!(std::io::stdout().lock(), "{words}");
}
