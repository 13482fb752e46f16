//! The journal: what was received, made durable by group commit.
mod error;
mod journal;
mod reader;

pub use error::{AppendError, Fullness, OpenError, Poisoned, ReadError, WaitError};
pub use journal::{Holder, Journal, JournalConfig, MAX_RECORD, Usage};
pub use reader::{JournalGap, JournalReader};
pub use seglog::Recovery;
