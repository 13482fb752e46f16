//! Folding: journal records in, rows to the spool, checkpoint and release behind it.
//!
//! Floor 3: imports journal, fold and spool, which know nothing of each other; never the network.
//!
//! [`Driver`] is a state machine: it is told the time, takes one step, and says when it wants the
//! next. It neither sleeps nor blocks but for the disk, so that a simulation can drive it beside
//! everything else on one thread. [`start`] gives it a thread of its own, which is all that the agent needs.
//!
//! Order of what it makes durable (DESIGN section 4): the spool first, then the checkpoint, then the
//! journal lets go. A crash between any two only means replaying more.

mod checkpoint;
mod damage;
mod driver;
mod missing;
mod thread;
mod ticks;
mod watch;
mod work;

pub use checkpoint::{Checkpoint, CheckpointError, Restored, Saved};
pub use driver::{Driver, Step};
pub use missing::{Lacking, number_on};
pub use thread::{Running, start};
pub use watch::{Progress, Watch};
pub use work::Folding;
