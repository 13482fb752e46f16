//! `telemetryx-agent spool …`: what is in a spool, whether it is sound, its damage settled, its readings taken out.
//!
//! All but `repair` only look: they take no lock and write nothing, so that they may be asked beside a running agent, or of
//! a folder that was copied off a dead host. Exit codes: 0 fine, 1 damage or trouble found, 2 wrong usage, 3 the configuration
//! can't be used.

/// Ends a function with [`Misuse`](crate::Misuse).
macro_rules! misused {
    ($($said:tt)*) => {
        return Err(crate::Misuse(format!($($said)*)).into())
    };
}

mod batched;
mod export;
mod folders;
mod format;
mod ls;
mod parts;
mod post;
mod progress;
mod repair;
mod target;
mod time;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use inputs::Clock;
use telemetry::{Boot, Counts};

use self::folders::{Folders, Whose};

/// Damage or trouble was found.
const TROUBLE: u8 = 1;

/// `spool`
#[derive(clap::Subcommand)]
pub enum SpoolCommand {
    /// List the batches that wait for the collector: what each holds, and what became of it.
    #[command(after_help = ls::EXAMPLES)]
    Ls(ls::Args),
    /// Read every byte and say what is damaged, exactly. Changes nothing.
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Args),
    /// Settle damage while the agent is stopped: keep a copy of it, and write down the losses.
    #[command(after_help = repair::EXAMPLES)]
    Repair(repair::Args),
    /// Write the readings that wait to files, or post them: NDJSON or line protocol.
    #[command(after_help = export::EXAMPLES)]
    Export(export::Args),
}

impl SpoolCommand {
    /// Whether answers, errors too, are for a program.
    pub fn json(&self) -> bool {
        match self {
            Self::Ls(args) => args.json,
            Self::Verify(args) => args.json,
            Self::Repair(args) => args.json,
            Self::Export(_) => false,
        }
    }
}

/// Runs one.
///
/// # Errors
/// What `main` prints.
pub fn run(command: SpoolCommand) -> anyhow::Result<ExitCode> {
    match command {
        SpoolCommand::Ls(args) => ls::run(&args),
        SpoolCommand::Verify(args) => verify::run(&args),
        SpoolCommand::Repair(args) => repair::run(&args),
        SpoolCommand::Export(args) => export::run(&args),
    }
}

/// What `ls --json` prints of a data folder, at most so many batches of it.
///
/// # Errors
/// When it can't be read.
pub fn list_json(data_dir: &Path, limit: u64, out: impl std::io::Write) -> anyhow::Result<()> {
    ls::list(&ls::Args::json_of(data_dir, limit), out).map(drop)
}

/// What is said of a segment that can't be read.
fn unread(segment: &seglog::Unreadable) -> String {
    format!("{} can't be read: {}", segment.file.display(), segment.why)
}

/// What a loss says, but for what went on its way as it should: `1,200 overflowed`.
fn lost(counts: &Counts) -> String {
    use telemetry::Cause::{Derived, Received, Shipped};
    let parts: Vec<String> = counts
        .iter()
        .filter(|(cause, _)| !matches!(cause, Received | Shipped | Derived))
        .map(|(cause, n)| format!("{} {}", crate::human::count(n), cause.name()))
        .collect();
    if parts.is_empty() { "nothing that was counted".into() } else { parts.join(", ") }
}

/// What one batch of many says: where several in a row are gone, the counts of all stand with the last of them.
fn lost_here(counts: &Counts) -> String {
    if counts.is_empty() { "counted with the batch after it".into() } else { lost(counts) }
}

/// Counts as JSON, by the causes' names.
fn counts_json(counts: &Counts) -> serde_json::Value {
    counts
        .iter()
        .map(|(cause, n)| (cause.name().to_owned(), n.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Nanoseconds since the epoch, now.
fn now() -> i64 {
    inputs::SystemClock.now().wall
}

/// A boot's id, as the kernel writes it.
fn boot_text(boot: Boot) -> String {
    let hex: String = boot.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

/// A time range as JSON: nanoseconds, or null where a batch holds nothing that has a time.
fn times_json(times: (i64, i64)) -> (Option<i64>, Option<i64>) {
    if times == (0, 0) { (None, None) } else { (Some(times.0), Some(times.1)) }
}
