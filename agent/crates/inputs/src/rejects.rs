//! The last readings that were refused, for a person to look at: which input, why, and what it was.
//!
//! Counts by cause travel with the batches ([`telemetry::Counts`]); this is the other half, the
//! examples. It is bounded and lives in memory only.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;
use telemetry::Cause;

/// How many are kept.
pub const KEPT: usize = 100;
/// Longest excerpt of the refused bytes, in bytes as shown.
pub const MAX_EXCERPT: usize = 256;
/// Longest reason kept.
const MAX_REASON: usize = 512;

/// One refused reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// The input that refused it, as the config names it.
    pub input: String,
    /// When it arrived, nanoseconds since the epoch.
    pub time_ns: i64,
    /// The counted cause ([`Cause::name`]).
    pub cause: &'static str,
    /// What is wrong with it, for a person.
    pub reason: String,
    /// Its beginning; control characters and bytes that aren't UTF-8 are shown as escapes.
    pub excerpt: String,
}

/// A ring of the last [`KEPT`] rejects of all inputs.
#[derive(Debug, Default)]
pub struct Rejects {
    ring: Mutex<VecDeque<Reject>>,
}

impl Rejects {
    /// An empty ring.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps one, and forgets the oldest when there are too many.
    pub fn keep(&self, input: &str, time_ns: i64, cause: Cause, reason: &str, bytes: &[u8]) {
        let reject = Reject {
            input: input.to_owned(),
            time_ns,
            cause: cause.name(),
            reason: clip(reason, MAX_REASON).to_owned(),
            excerpt: excerpt(bytes),
        };
        let mut ring = self.ring.lock();
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back(reject);
    }

    /// All kept, oldest first.
    pub fn list(&self) -> Vec<Reject> {
        self.ring.lock().iter().cloned().collect()
    }
}

/// The longest prefix of at most `max` bytes that ends at a character.
pub(crate) fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max.min(text.len()))]
}

/// The first bytes of something refused, safe to print on a terminal and in a page.
pub fn excerpt(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes[..bytes.len().min(MAX_EXCERPT)].utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() { out.extend(character.escape_default()) } else { out.push(character) }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
        if out.len() >= MAX_EXCERPT {
            break;
        }
    }
    let shown = clip(&out, MAX_EXCERPT).len();
    if shown < out.len() || bytes.len() > MAX_EXCERPT {
        out.truncate(shown);
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_hundred_are_kept() {
        let rejects = Rejects::new();
        for n in 0..KEPT + 5 {
            rejects.keep("http", n as i64, Cause::RejectedSyntax, "no", b"x");
        }
        let list = rejects.list();
        assert_eq!(list.len(), KEPT);
        assert_eq!((list[0].time_ns, list[KEPT - 1].time_ns), (5, KEPT as i64 + 4));
    }

    #[test]
    fn an_excerpt_never_holds_control_characters_or_broken_text() {
        assert_eq!(excerpt(b"a\x1b[31m\n\xff\xc3\xa9"), "a\\u{1b}[31m\\n\\xff\u{e9}");
        let long = excerpt("é".repeat(1000).as_bytes());
        assert!(long.ends_with('…') && long.len() <= MAX_EXCERPT + '…'.len_utf8());
        assert!(excerpt(&[0xff; 1000]).len() <= MAX_EXCERPT + '…'.len_utf8());
    }
}
