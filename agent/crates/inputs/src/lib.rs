//! Inputs: sockets and `/proc` to the journal. The first stage of the flow.
//!
//! Every input has the same shape: a `Config`, an error type and `run(config, door, shutdown)`. It
//! parses what arrives into an [`telemetry::Intake`] with an [`IntakeBuilder`], gives it to the
//! journal through its [`Door`], and acknowledges to the sender only when the door says that the
//! journal has it on disk (promise P1). What doesn't parse is counted by cause and kept in
//! [`Rejects`] with the reason; nothing is dropped silently.
//!
//! Floor 3: imports journal, seglog and telemetry; never fold, spool, uplink or score.

mod accept;
pub mod admission;
pub mod clock;
pub mod door;
pub mod events;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub mod fuzz;
pub mod host;
pub mod http;
pub mod intake;
pub mod json;
pub mod lineproto;
pub mod mapping;
pub mod mqtt;
pub mod mqtt_client;
pub mod network;
pub mod rejects;
pub mod retry;
pub mod span;
pub mod stats;
pub mod tcp;
#[cfg(test)]
mod testing;
pub mod timeline;
pub mod times;

pub use clock::{Clock, SystemClock};
pub use door::{Door, Limits, Refused, StateDir};
pub use intake::{CachePool, IntakeBuilder, Rejection, SeriesCache, Slot};
pub use mapping::{Mapper, MappingConfig};
pub use rejects::{Reject, Rejects};
pub use retry::Retry;
pub use stats::{InputStats, StatsSnapshot};
pub use timeline::Timeline;

/// What no host serves at a time, and no counter of places is near its end at.
const MOST_CONNECTIONS: usize = 1_000_000;
