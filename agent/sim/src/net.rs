//! The network between a host and the collector: connections that delay, and break. Within one
//! direction of one connection frames keep their order, as TCP's do; between connections nothing does.

use crate::clock::{SECOND, Time};
use crate::rng::Rng;

/// A host finds out about a dead link after this long (the keep-alive of HTTP/2).
pub const KEEP_ALIVE: Time = 20 * SECOND;
/// Bytes that the sender's side of a connection holds; more don't fit until some have left.
const BUFFER: u64 = 64 << 10;

/// One connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Whose.
    pub host: usize,
    /// Which life of that host opened it.
    pub life: u32,
    /// The agent's end is open.
    pub agent: bool,
    /// The collector's end is open.
    pub collector: bool,
    /// Nothing arrives any more.
    pub hole: bool,
    /// When the line is free again, and the last frame is there; up and down.
    free: [Time; 2],
    there: [Time; 2],
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the collector.
    Up = 0,
    /// To the agent.
    Down = 1,
}

impl Connection {
    /// An open one.
    pub fn new(host: usize, life: u32, now: Time) -> Self {
        Self { host, life, agent: true, collector: true, hole: false, free: [now; 2], there: [now; 2] }
    }

    /// When there is room for another frame; now or later.
    pub fn room(&self, way: Way, rate: u64, now: Time) -> Time {
        let full = BUFFER.saturating_mul(SECOND) / rate;
        self.free[way as usize].saturating_sub(full).max(now)
    }

    /// When a frame of so many bytes that is sent now is there. `net` as in the plan.
    pub fn send(&mut self, way: Way, bytes: u64, net: (Time, Time, u64), rng: &mut Rng, now: Time) -> Time {
        let (delay, jitter, rate) = net;
        let at = way as usize;
        self.free[at] = self.free[at].max(now) + (bytes + 60).saturating_mul(SECOND) / rate;
        self.there[at] = self.there[at].max(self.free[at] + delay + rng.range(0, jitter));
        self.there[at]
    }
}
