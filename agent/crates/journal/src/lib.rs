//! The journal: what was received, made durable by group commit. The second stage of the flow:
//! inputs append to it and acknowledge behind its mark, the fold reads below its mark.
//!
//! Floor 2: imports seglog (the log it lies in) and telemetry (the records); never the network.
//!
//! # What it promises
//! 1. A position that [`Journal::wait`] confirms, or that the mark of [`Journal::durable`] has passed,
//!    is on the disk: its fsync has returned. That is what an acknowledgement waits for.
//! 2. Appending never waits for the disk, and is refused rather than let memory or disk grow beyond
//!    their bounds ([`AppendError::Full`]).
//! 3. Records come back in the order of their positions, each with its series, or are reported as a
//!    [`JournalGap`]; a position is never given twice.
//! 4. After a failed write or fsync nothing more is confirmed, ever, of what was not durable then:
//!    the mark's channel closes. [`Journal::reopen`] looks what the disk really has and goes on with
//!    higher positions and a new channel.
//!
//! # How it does it
//! * **Appending** (`state.rs`): under one short lock the record is encoded straight into a shared
//!   buffer and gets its position. There it is also decided where a segment ends, since the first two
//!   records of a segment that use a series carry its definition: a segment reads alone, also without one of them.
//! * **Committing** (`commit.rs`): one thread swaps the buffer, writes, fsyncs once and moves the mark.
//!   What is queued meanwhile is the next group, so groups grow with the load by themselves.
//! * **Reading** (`reader.rs`): a reader that starts anywhere reads its segment from the beginning, to
//!   learn the numbers. If both definitions of a series are lost to damage, the records of that segment that
//!   need it are lost with them, and their readings are counted.
//! * **Releasing**: a segment goes once each [`Holder`] has passed it. At `max_bytes` inputs push
//!   back; on a full disk too, until there is space again.

mod commit;
mod config;
mod error;
pub mod inspect;
mod journal;
mod reader;
mod size;
mod state;
mod tally;

pub use commit::Step;
pub use config::{Holder, JournalConfig, Usage};
pub use error::{AppendError, Fullness, OpenError, Poisoned, ReadError, WaitError};
pub use journal::{Journal, MAX_RECORD};
pub use reader::{JournalGap, JournalReader};
pub use seglog::Recovery;
