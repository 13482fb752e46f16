//! `spool repair`: does by hand, and says, what the agent does by itself when it opens and sends: what is damaged is copied
//! to quarantine, and what it held is written down as losses, which the collector is told of at the next session.
//!
//! Nothing intact is rewritten or removed: damaged segments stay as they are, and are freed like any other. What stands in the
//! place of a segment and can't be read is moved to quarantine.

use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use seglog::{Damage, Disk, Guard, Log, Options, Storage, Unreadable};
use serde_json::json;
use spool::inspect::{CursorState, LossRecord, Opening};
use spool::{Spool, SpoolConfig};
use telemetry::SeriesTable;

use super::batched::{Batched, range};
use super::progress::Progress;
use super::verify::{Lacks, Place, Range, Unread, gone, ranges, saved, unreadable};
use super::{Folders, TROUBLE, Whose, counts_json, lost, times_json};
use crate::human::{moment, things};
use crate::lock::{self, DataLock, LockError};
use crate::owner;

pub const EXAMPLES: &str = "\
Examples:
  telemetryx-agent spool repair --dry-run
  systemctl stop telemetryx-agent && telemetryx-agent spool repair && systemctl start telemetryx-agent

The agent does the same by itself while it runs; this settles it at once, and says what is lost.
Exit codes: 0 nothing is damaged, or all of it is settled; 1 it can't be settled, or (--dry-run) something is left to do; 2 wrong usage;
3 the configuration can't be used.";

/// Its options.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whose: Whose,
    /// Only say what would be done. Works beside a running agent.
    #[arg(long)]
    dry_run: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is damaged in one log.
struct Found {
    what: &'static str,
    ranges: Vec<Range>,
    damage: Vec<Damage>,
    unreadable: Vec<Unreadable>,
    /// Damaged places that nothing was kept of yet.
    to_be_copied: usize,
}

impl Found {
    fn is_fine(&self) -> bool {
        self.ranges.is_empty() && self.unreadable.is_empty()
    }

    /// Nothing is left to do about it.
    fn is_settled(&self) -> bool {
        self.to_be_copied == 0 && self.unreadable.is_empty()
    }
}

/// Runs it.
///
/// # Errors
/// What `main` prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folders = args.whose.folders()?;
    if !args.dry_run
        && let Some(done) = owner::instead(folders.data.as_ref().unwrap_or(&folders.spool))?
    {
        return Ok(done);
    }
    // Looked at before the lock makes a folder: a wrong name must not leave one behind.
    let saved = saved(&folders);
    let inspection = folders.look_at()?;
    let locks = if args.dry_run { None } else { Some(Locks::take(&folders)?) };
    let spool = damaged_spool(&inspection)?;
    let named = folders.data.as_ref().map(|data| data.join("journal"));
    // A link to a disk that isn't mounted isn't gone.
    let may_be_gone = named.as_ref().is_some_and(|dir| dir.is_dir() || dir.symlink_metadata().is_err());
    let journal_dir = named.filter(|dir| dir.is_dir());
    let looked =
        journal_dir.map(|dir| journal::inspect::Inspection::open(Arc::new(Disk), &dir)).transpose()?;
    let Opening { losses, extent } = inspection.opening(!spool.ranges.is_empty());
    let lacks = saved.as_ref().and_then(|saved| Lacks::of(saved, &extent));
    let batched = saved.as_ref().and_then(|saved| Batched::of(saved, &extent));
    let journal = looked.as_ref().map(|journal| damaged_journal(journal, batched.as_ref())).transpose()?;
    let seen = saved.map_or(0, |saved| saved.position);
    let position = inspection.position().unwrap_or(0).max(seen);
    let gone = if may_be_gone { gone(looked.as_ref(), position) } else { None };

    let mut copies: Vec<PathBuf> = Vec::new();
    let mut moved: Vec<PathBuf> = Vec::new();
    let cursor = match inspection.cursor() {
        CursorState::Unusable(why) => Some(why.clone()),
        // One is written before the first batch is.
        CursorState::Missing if inspection.size().0 > 0 => Some("it is gone, and was there".to_owned()),
        CursorState::Fine | CursorState::Missing => None,
    };
    if !args.dry_run {
        copies.extend(spool.damage.iter().filter_map(|place| inspection.quarantine(place)));
        for (looked, journal) in looked.iter().zip(&journal) {
            copies.extend(journal.damage.iter().filter_map(|place| looked.quarantine(place)));
        }
        drop(inspection);
        forget_heads(&folders.spool, &spool.damage)?;
        // The spool takes its own when it is opened.
        let _data = locks.map(|locks| locks.data);
        if !losses.is_empty() || !spool.unreadable.is_empty() || cursor.is_some() {
            moved.extend(settle_spool(&folders.spool)?);
        }
        if let (Some(data), Some(_)) =
            (&folders.data, journal.as_ref().filter(|found| !found.unreadable.is_empty()))
        {
            moved.extend(settle_journal(&data.join("journal"))?);
        }
    }
    let found: Vec<Found> = std::iter::once(spool).chain(journal).collect();
    let settled = losses.is_empty() && cursor.is_none() && found.iter().all(Found::is_settled);
    let left = found.iter().map(|found| found.unreadable.len()).sum::<usize>().saturating_sub(moved.len());
    let is_gone = gone.is_some() || lacks.is_some();
    let done = Done { dry_run: args.dry_run, found, losses, cursor, copies, moved, lacks, gone };
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", done.json())?,
        false => done.show(&mut out)?,
    }
    anyhow::ensure!(
        left == 0 || args.dry_run,
        "{} can't be moved to quarantine: look after the folder's rights and its disk, or move away by hand what stands there",
        things(left as u64, "segment")
    );
    Ok(if is_gone || args.dry_run && !settled { ExitCode::from(TROUBLE) } else { ExitCode::SUCCESS })
}

/// What keeps an agent, and another repair, from the folders: the lock of the data folder that they are in, and the log's own,
/// which is all that a spool has that lies elsewhere.
struct Locks {
    data: Option<DataLock>,
    _log: Box<dyn Guard>,
}

impl Locks {
    fn take(folders: &Folders) -> anyhow::Result<Self> {
        // A spool that was named itself: an agent whose it is has the lock of the folder around it.
        let whole = std::fs::canonicalize(&folders.spool).unwrap_or_else(|_| folders.spool.clone());
        let around = whole.parent().filter(|data| data.join("lock").exists());
        let data = folders.data.as_deref().or(around).map(lock::take).transpose().map_err(stop_first)?;
        let log = folders.spool.join("log/lock");
        let taken = Disk.lock(&log).with_context(|| format!("locking {}", log.display()))?;
        let taken = taken.ok_or_else(|| stop_first(LockError::Taken(folders.spool.display().to_string())))?;
        Ok(Self { data, _log: taken })
    }
}

fn stop_first(error: LockError) -> anyhow::Error {
    match error {
        LockError::Taken(dir) => anyhow::anyhow!(
            "the agent is running on {dir}: stop it first (systemctl stop telemetryx-agent), or see what would be done with --dry-run"
        ),
        other => other.into(),
    }
}

fn damaged_spool(inspection: &spool::inspect::Inspection) -> anyhow::Result<Found> {
    let mut ranges = Vec::new();
    let mut progress = Progress::new("spool:", inspection.size().1);
    inspection.walk(&mut |found| {
        match found {
            spool::inspect::Found::Segment(_, bytes) => progress.advance(bytes),
            spool::inspect::Found::Damaged(gap) => {
                ranges.push(Range {
                    first: gap.first,
                    last: gap.last,
                    bytes: gap.bytes,
                    readings: None,
                    lost: None,
                });
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    let unreadable = inspection.unreadable().to_vec();
    let damage = inspection.damage();
    let to_be_copied = damage.iter().filter(|place| inspection.is_to_be_copied(place)).count();
    Ok(Found { what: "record", ranges, damage, unreadable, to_be_copied })
}

fn damaged_journal(
    inspection: &journal::inspect::Inspection,
    batched: Option<&Batched>,
) -> anyhow::Result<Found> {
    let mut ranges = Vec::new();
    let mut progress = Progress::new("journal:", inspection.size().1);
    inspection.walk(&mut |found| {
        match found {
            journal::inspect::Found::Segment(_, bytes) => progress.advance(bytes),
            journal::inspect::Found::Gap(gap, upto) => ranges.push(range(gap, upto, batched)),
            journal::inspect::Found::Record(..) => {}
        }
        ControlFlow::Continue(())
    })?;
    let unreadable = inspection.unreadable().to_vec();
    let damage = inspection.damage();
    let to_be_copied = damage.iter().filter(|place| inspection.is_to_be_copied(place)).count();
    Ok(Found { what: "position", ranges, damage, unreadable, to_be_copied })
}

/// The heads of a damaged segment still name its batches: without them opening reads the segment, and finds what is lost.
/// They are a copy, which the agent makes again from what is there.
fn forget_heads(spool: &Path, damage: &[Damage]) -> anyhow::Result<()> {
    let segments: BTreeSet<_> = damage.iter().filter_map(|damage| damage.file.file_name()).collect();
    for segment in segments {
        let path = spool.join("heads").join(segment);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Opens the spool as the agent does, with caps that drop nothing: what can't be read is moved to quarantine, what is lost is
/// written down, and there is a cursor. Gives what was moved.
fn settle_spool(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let config = SpoolConfig { max_bytes: u64::MAX, min_free_bytes: 0, ..SpoolConfig::new(dir) };
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let (spool, recovery) = Spool::open(config, storage, SeriesTable::new(usize::MAX), "repair")
        .context("is an agent running on it?")?;
    spool
        .write_losses()
        .context("the losses can't be written down yet; what is in the spool is as it was")?;
    Ok(recovery.set_aside)
}

/// The same of a journal: what was lost in it the agent counts when it comes there.
fn settle_journal(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (_, recovery) =
        Log::open(Arc::new(Disk), dir, Options::default()).context("is an agent running on it?")?;
    Ok(recovery.set_aside)
}

/// What was found, and done about it.
struct Done {
    dry_run: bool,
    found: Vec<Found>,
    losses: Vec<LossRecord>,
    /// Why the cursor couldn't be used.
    cursor: Option<String>,
    copies: Vec<PathBuf>,
    moved: Vec<PathBuf>,
    /// What is gone from the spool, by the fold's checkpoint.
    lacks: Option<Lacks>,
    /// What is gone from the journal's end.
    gone: Option<Range>,
}

impl Done {
    fn show(&self, out: &mut impl Write) -> std::io::Result<()> {
        if let Some(why) = &self.cursor {
            let done = if self.dry_run { "would be made" } else { "is made" };
            writeln!(
                out,
                "DAMAGE   the cursor: {why}; what was acknowledged lately is asked for again. A new one {done}"
            )?;
        }
        for found in &self.found {
            let segments: Vec<Unread> = found.unreadable.iter().map(Unread::from).collect();
            unreadable(out, &segments)?;
            let places: Vec<Place> = found.damage.iter().map(Place::from).collect();
            ranges(out, found.what, &found.ranges, &places)?;
        }
        if let Some(Lacks { what, .. }) = &self.lacks {
            writeln!(
                out,
                "DAMAGE   {what}: put back what is gone if there is a copy; else the agent notes that when it starts, and nothing else settles it"
            )?;
        }
        if let Some(gone) = &self.gone {
            writeln!(
                out,
                "DAMAGE   positions {} to {} of the journal are gone, and what came behind them: put them back if there is a copy; else the agent notes that when it starts, and nothing else settles it",
                gone.first, gone.last
            )?;
        }
        for copy in &self.copies {
            writeln!(out, "copied   to {}", copy.display())?;
        }
        for moved in &self.moved {
            writeln!(out, "moved    to {}", moved.display())?;
        }
        for run in self.losses.chunk_by(goes_on) {
            let Some((first, last)) = run.first().zip(run.last()) else { continue };
            let (from, to) = times_json(last.times);
            let seqs = match run.len() {
                1 => first.key.seq.to_string(),
                _ => format!("{} to {}", first.key.seq, last.key.seq),
            };
            writeln!(
                out,
                "lost     seq {seqs} of epoch {}, {} to {}: {}",
                last.key.epoch,
                moment(from),
                moment(to),
                lost(&last.counts)
            )?;
        }
        let n = self.losses.len();
        let whole = self.cursor.is_none() && self.gone.is_none() && self.lacks.is_none();
        if n == 0 && whole && self.found.iter().all(Found::is_fine) {
            return writeln!(out, "nothing is damaged");
        }
        if n == 0 {
            return writeln!(
                out,
                "no loss is to be written down: nothing that waits in what there is of the spool is damaged, or it is settled already{}",
                match self.gone.is_some() || self.lacks.is_some() {
                    true => "",
                    false => ", and of the journal the agent counts what is gone when it comes there",
                }
            );
        }
        writeln!(
            out,
            "{} {} written down; the collector hears of it at the next session",
            things(n as u64, "loss"),
            match n {
                _ if self.dry_run => "would be",
                1 => "is",
                _ => "are",
            }
        )
    }

    fn json(&self) -> serde_json::Value {
        let damage: Vec<_> = self
            .found
            .iter()
            .map(|found| {
                let places: Vec<Place> = found.damage.iter().map(Place::from).collect();
                let segments: Vec<Unread> = found.unreadable.iter().map(Unread::from).collect();
                let log = if found.what == "record" { "spool" } else { "journal" };
                json!({"log": log, "damage": found.ranges, "places": places, "unreadable": segments})
            })
            .collect();
        let losses: Vec<_> = self
            .losses
            .iter()
            .map(|loss| {
                let (from, to) = times_json(loss.times);
                json!({
                    "epoch": loss.key.epoch.to_string(), "seq": loss.key.seq, "from_ns": from, "to_ns": to,
                    "counts": counts_json(&loss.counts),
                })
            })
            .collect();
        json!({
            "dry_run": self.dry_run, "found": damage, "losses": losses, "cursor": self.cursor, "copies": self.copies,
            "moved": self.moved, "spool_lacks": self.lacks, "journal_gone": self.gone,
        })
    }
}

/// True where two losses are of one run: batches one after the other that are gone, whose counts stand with the last.
fn goes_on(one: &LossRecord, next: &LossRecord) -> bool {
    let follows = one.key.epoch == next.key.epoch && one.key.seq + 1 == next.key.seq;
    follows && one.times == next.times && one.counts.is_empty()
}
