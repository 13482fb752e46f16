//! The journal: what was received, made durable by group commit.
mod commit;
mod error;
mod journal;
mod reader;
mod size;
mod state;

pub use error::{AppendError, Fullness, OpenError, Poisoned, ReadError, WaitError};
pub use journal::{Holder, Journal, JournalConfig, MAX_RECORD, Usage};
pub use reader::{JournalGap, JournalReader};
pub use seglog::Recovery;
