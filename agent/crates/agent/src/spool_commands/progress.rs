//! What a long run says of itself on standard error: how far it is, once it takes longer than a moment.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::human::size;

const PATIENCE: Duration = Duration::from_secs(2);
const TERMINAL_EVERY: Duration = Duration::from_millis(500);
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Bytes of those that there are.
pub struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    next: Instant,
    every: Duration,
    terminal: bool,
    said: bool,
}

impl Progress {
    /// Nothing is done yet.
    pub fn new(what: &'static str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let every = if terminal { TERMINAL_EVERY } else { LOG_EVERY };
        Self { what, total, done: 0, next: Instant::now() + PATIENCE, every, terminal, said: false }
    }

    /// So many bytes more are begun.
    pub fn advance(&mut self, bytes: u64) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + self.every;
            self.said = true;
            let percent = (self.done * 100).checked_div(self.total).unwrap_or(100);
            let line = format!("{} {percent} % ({} of {})", self.what, size(self.done), size(self.total));
            let (begin, end) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
            // Who can't be told goes without.
            let _ = write!(std::io::stderr(), "{begin}{line}{end}");
        }
        self.done += bytes;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.said && self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
