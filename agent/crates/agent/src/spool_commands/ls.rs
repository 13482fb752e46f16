//! `spool ls`: the batches by epoch, streamed: of each only its head is read where heads are kept.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use serde_json::{Value, json};
use spool::inspect::{BatchRecord, CursorState, Fate, Found, Inspection, LossRecord, Opening, Summary};
use spool::{Class, Overflow, Priority};
use telemetry::{BatchKey, Counts, Epoch, Lane};
use wire::RangeSet;

use super::verify::Lacks;
use super::{TROUBLE, Whose, boot_text, counts_json, lost, lost_here, times_json};
use crate::human::{count, moment, size, things};

pub const EXAMPLES: &str = "\
Examples:
  telemetryx-agent spool ls
  telemetryx-agent spool ls --limit 20 --dir /mnt/old-disk/var/lib/telemetryx/agent
  telemetryx-agent spool ls --all --json | jq -s 'map(select(.kind == \"batch\").rows) | add'

class: which goes first when there isn't room (low, normal, high), and how where that isn't oldest first.
lane: live for what happened just now, which goes beside the backlog. offered: whether it may have been sent already.
held for clock: taken before the host's clock was set, and sent once it is known when that was; its times count from the boot.
What the collector acknowledged in the last five seconds may still be listed as waiting.
With --json each line is an object: kind batch, loss, damage or, last, total.
Exit codes: 0 fine, 1 damage was met on the way, or it can't be looked at, 2 wrong usage, 3 the configuration can't be used.";

/// Its options.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whose: Whose,
    /// List at most so many of those that wait, oldest first; the totals count all.
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u64,
    /// List all, also those that are acknowledged and not freed yet.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// A JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// What is summed up.
#[derive(Default)]
struct Totals {
    waiting: Sum,
    /// Those of them that wait for the clock.
    held: u64,
    acked: Sum,
    losses: Counts,
    losses_n: u64,
    damaged: u64,
}

#[derive(Default)]
struct Sum {
    batches: u64,
    rows: u64,
    bytes: u64,
    times: Option<(i64, i64)>,
}

impl Sum {
    fn add(&mut self, batch: &BatchRecord<'_>, times: Option<(i64, i64)>) {
        self.batches += 1;
        self.rows += batch.rows;
        self.bytes += batch.bytes;
        if let Some(times) = times {
            let (from, to) = self.times.unwrap_or(times);
            self.times = Some((from.min(times.0), to.max(times.1)));
        }
    }
}

struct Listing<'a, W> {
    out: W,
    args: &'a Args,
    inspection: &'a Inspection,
    summary: Summary,
    totals: Totals,
    /// Names that were met: of two records with one name the second holds the same.
    met: HashMap<Epoch, RangeSet>,
    epoch: Option<Epoch>,
    listed: u64,
    passed: u64,
    now: i64,
}

/// Runs it.
///
/// # Errors
/// What `main` prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    list(args, BufWriter::new(std::io::stdout().lock()))
}

impl Args {
    /// Of a data folder, as JSON, at most so many batches.
    pub fn json_of(data_dir: &std::path::Path, limit: u64) -> Self {
        Self { whose: Whose::data(data_dir), limit, all: false, json: true }
    }
}

/// Lists to wherever.
///
/// # Errors
/// What `main` prints.
pub fn list(args: &Args, out: impl Write) -> anyhow::Result<ExitCode> {
    let folders = args.whose.folders()?;
    let inspection = folders.look_at()?;
    let mut listing = Listing {
        out,
        args,
        inspection: &inspection,
        summary: inspection.summary()?,
        totals: Totals::default(),
        met: HashMap::new(),
        epoch: None,
        listed: 0,
        passed: 0,
        now: super::now(),
    };
    let (segments, bytes) = inspection.size();
    let cursor = match inspection.cursor() {
        CursorState::Fine => "cursor fine".to_owned(),
        // One is written before the first batch is.
        CursorState::Missing if segments > 0 => {
            "CURSOR GONE: what was acknowledged lately is listed as waiting".to_owned()
        }
        CursorState::Missing => "no cursor yet".to_owned(),
        CursorState::Unusable(why) => format!("CURSOR UNUSABLE: {why}"),
    };
    if !args.json {
        writeln!(
            listing.out,
            "spool {}: {}, {}, {cursor}",
            folders.spool.display(),
            things(segments as u64, "segment"),
            size(bytes)
        )?;
    }
    for segment in inspection.unreadable() {
        listing.damage(&super::unread(segment))?;
    }
    let mut failed = None;
    inspection.list(&mut |found| match listing.take(&found) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    // A segment that is cut off or gone shows in the numbering only.
    let Opening { losses, extent } = inspection.opening(false);
    listing.missing(&losses)?;
    // Nor what is gone from its end, but to the fold's checkpoint.
    if let Some(lacks) = super::verify::saved(&folders).and_then(|saved| Lacks::of(&saved, &extent)) {
        listing.damage(&lacks.what)?;
    }
    listing.end()?;
    let blind = matches!(inspection.cursor(), CursorState::Missing) && segments > 0;
    let damaged =
        listing.totals.damaged > 0 || blind || matches!(inspection.cursor(), CursorState::Unusable(_));
    Ok(if damaged { ExitCode::from(TROUBLE) } else { ExitCode::SUCCESS })
}

impl<W: Write> Listing<'_, W> {
    fn take(&mut self, found: &Found<'_>) -> std::io::Result<()> {
        match found {
            Found::Batch(batch) => self.batch(batch),
            Found::Loss(loss) => self.loss(loss),
            Found::Unknown(record, why) => {
                self.damage(&format!("record {record} can't be understood: {why}"))
            }
            Found::Damaged(gap) => self
                .damage(&format!("records {} to {} are damaged ({} bytes)", gap.first, gap.last, gap.bytes)),
            Found::Segment(..) | Found::Relabel => Ok(()),
        }
    }

    fn batch(&mut self, batch: &BatchRecord<'_>) -> std::io::Result<()> {
        let name = self.summary.name(batch);
        let fate = self.summary.fate(batch);
        // A batch whose loss stands further on is listed as that loss.
        if matches!(fate, Fate::Lost | Fate::Unfinished)
            || !self.met.entry(name.epoch).or_default().insert(name.seq)
        {
            return Ok(());
        }
        let state = match fate {
            Fate::Waiting => "waiting",
            Fate::Held => "held for clock",
            Fate::Acked => "acked",
            Fate::Lost | Fate::Unfinished => return Ok(()),
        };
        let times = self.summary.times(batch);
        match fate {
            Fate::Acked => self.totals.acked.add(batch, times),
            _ => self.totals.waiting.add(batch, times),
        }
        self.totals.held += u64::from(fate == Fate::Held);
        if !self.show(fate == Fate::Acked) {
            return Ok(());
        }
        let class = batch.group.class;
        let (lane, offered) = (self.lane(batch, fate), self.summary.offered(batch));
        if self.args.json {
            let line = json!({
                "kind": "batch", "epoch": name.epoch.to_string(), "seq": name.seq, "state": state, "rows": batch.rows,
                "bytes": batch.bytes, "from_ns": times.map(|times| times.0), "to_ns": times.map(|times| times.1),
                "counts": counts_json(&batch.counts), "part": batch.part, "parts": batch.parts,
                "positions": batch.positions, "record": batch.record, "series": batch.series.len(),
                "priority": priority(class), "overflow": overflow(class), "lane": lane, "offered": offered,
                "clock": self.clock(batch),
            });
            return writeln!(self.out, "{line}");
        }
        self.header(name)?;
        let since = |ns: i64| format!("boot + {:.3} s", ns as f64 / 1e9);
        let (from, to) = match (times, fate) {
            (None, Fate::Held) => (since(batch.times.0), since(batch.times.1)),
            _ => (moment(times.map(|times| times.0)), moment(times.map(|times| times.1))),
        };
        let class = match class.overflow {
            Overflow::DropOldest => priority(class).to_owned(),
            _ => format!("{} {}", priority(class), overflow(class)),
        };
        writeln!(
            self.out,
            "{:>10} {:>10} {:>10}  {class:<8}  {:<7}  {:<7}  {from:<24}  {to:<24}  {state}",
            name.seq,
            count(batch.rows),
            size(batch.bytes),
            lane.unwrap_or("-"),
            if offered { "yes" } else { "no" },
        )
    }

    /// By which lane it will go; none when it doesn't go now.
    fn lane(&self, batch: &BatchRecord<'_>, fate: Fate) -> Option<&'static str> {
        (fate == Fate::Waiting).then(|| match self.summary.lane(batch, self.now) {
            Lane::Live => "live",
            Lane::Backlog => "backlog",
        })
    }

    /// What times counted from a boot come to; null for those of a set clock.
    fn clock(&self, batch: &BatchRecord<'_>) -> Option<Value> {
        let boot = batch.group.clock?;
        let offset = self.summary.offset(batch);
        Some(json!({
            "boot": boot_text(boot), "since_boot_ns": batch.times, "offset_ns": offset.map(|offset| offset.ns),
            "guess": offset.map(|offset| offset.is_guess),
        }))
    }

    fn loss(&mut self, loss: &LossRecord) -> std::io::Result<()> {
        if !self.met.entry(loss.key.epoch).or_default().insert(loss.key.seq) {
            return Ok(());
        }
        let acked = self.summary.acked(loss.key);
        if !acked {
            self.totals.losses.merge(&loss.counts);
            self.totals.losses_n += 1;
        }
        if !self.show(acked) {
            return Ok(());
        }
        let times = times_json(loss.times);
        if self.args.json {
            let line = json!({
                "kind": "loss", "epoch": loss.key.epoch.to_string(), "seq": loss.key.seq,
                "state": if acked { "acked" } else { "waiting" }, "from_ns": times.0, "to_ns": times.1,
                "counts": counts_json(&loss.counts),
            });
            return writeln!(self.out, "{line}");
        }
        self.header(loss.key)?;
        writeln!(
            self.out,
            "{:>10} {:>10} {:>10}  {:<8}  {:<7}  {:<7}  {:<24}  {:<24}  lost: {}{}",
            loss.key.seq,
            "-",
            "-",
            "-",
            "-",
            "-",
            moment(times.0),
            moment(times.1),
            lost_here(&loss.counts),
            if acked { " (told)" } else { "" }
        )
    }

    fn damage(&mut self, what: &str) -> std::io::Result<()> {
        self.totals.damaged += 1;
        match self.args.json {
            true => writeln!(self.out, "{}", json!({"kind": "damage", "what": what})),
            false => writeln!(self.out, "DAMAGE     {what}"),
        }
    }

    /// Batches that the numbering has and the disk hasn't: opening reports them as lost.
    fn missing(&mut self, losses: &[LossRecord]) -> std::io::Result<()> {
        let listed = losses.iter().take(if self.args.all { losses.len() } else { self.args.limit as usize });
        for loss in listed {
            let (from, to) = times_json(loss.times);
            if self.args.json {
                let line = json!({
                    "kind": "damage", "what": "missing", "epoch": loss.key.epoch.to_string(), "seq": loss.key.seq,
                    "from_ns": from, "to_ns": to, "counts": counts_json(&loss.counts),
                });
                writeln!(self.out, "{line}")?;
                continue;
            }
            self.header(loss.key)?;
            writeln!(
                self.out,
                "{:>10} MISSING    will be reported as lost, between {} and {}: {}",
                loss.key.seq,
                moment(from),
                moment(to),
                lost_here(&loss.counts)
            )?;
        }
        self.totals.damaged += losses.len() as u64;
        self.passed +=
            losses.len().saturating_sub(self.args.limit as usize) as u64 * u64::from(!self.args.all);
        Ok(())
    }

    /// Whether the next one is to be listed.
    fn show(&mut self, acked: bool) -> bool {
        let shown = self.args.all || (!acked && self.listed < self.args.limit);
        self.listed += u64::from(shown);
        self.passed += u64::from(!shown && !acked);
        shown
    }

    fn header(&mut self, name: BatchKey) -> std::io::Result<()> {
        if self.epoch.replace(name.epoch) == Some(name.epoch) {
            return Ok(());
        }
        let known = self.inspection.epochs().find(|(id, _)| *id == name.epoch);
        let known = known.map_or(String::new(), |(_, done)| {
            let above = done.iter().len() - usize::from(done.upto() > 0);
            let above = if above > 0 {
                format!(" and {} above", things(above as u64, "range"))
            } else {
                String::new()
            };
            format!(": acknowledged up to {}{above}", done.upto())
        });
        writeln!(self.out, "\nepoch {}{known}", name.epoch)?;
        writeln!(
            self.out,
            "{:>10} {:>10} {:>10}  {:<8}  {:<7}  {:<7}  {:<24}  {:<24}  state",
            "seq", "rows", "bytes", "class", "lane", "offered", "from", "to"
        )
    }

    fn end(&mut self) -> std::io::Result<()> {
        let Totals { waiting, held, acked, losses, losses_n, damaged } = &self.totals;
        let times = (waiting.times.map(|times| times.0), waiting.times.map(|times| times.1));
        if self.args.json {
            let line = json!({
                "kind": "total", "batches": waiting.batches, "rows": waiting.rows, "bytes": waiting.bytes,
                "from_ns": times.0, "to_ns": times.1, "held_batches": held, "losses": losses_n, "lost": counts_json(losses),
                "acked_batches": acked.batches, "acked_bytes": acked.bytes, "damage": damaged,
            });
            writeln!(self.out, "{line}")?;
            return self.out.flush();
        }
        if self.passed > 0 {
            writeln!(self.out, "           … {} more: --all lists them", count(self.passed))?;
        }
        let span = match waiting.times {
            Some(_) => format!(", {} to {}", moment(times.0), moment(times.1)),
            None => String::new(),
        };
        let wait = if waiting.batches == 1 { "waits" } else { "wait" };
        writeln!(
            self.out,
            "\ntotal: {} {wait}: {}, {}{span}",
            things(waiting.batches, "batch"),
            things(waiting.rows, "row"),
            size(waiting.bytes)
        )?;
        if *held > 0 {
            writeln!(
                self.out,
                "       {} of them held until it is known when their boot was",
                things(*held, "batch")
            )?;
        }
        if *losses_n > 0 {
            writeln!(self.out, "       {} to be told: {}", things(*losses_n, "loss"), lost(losses))?;
        }
        if acked.batches > 0 {
            writeln!(self.out, "       {} acknowledged and not freed yet", things(acked.batches, "batch"))?;
        }
        if *damaged > 0 {
            writeln!(self.out, "       DAMAGE was met: `telemetryx-agent spool verify` says all of it")?;
        }
        self.out.flush()
    }
}

/// As the config file writes it.
fn priority(class: Class) -> &'static str {
    match class.priority {
        Priority::Low => "low",
        Priority::Normal => "normal",
        Priority::High => "high",
    }
}

fn overflow(class: Class) -> &'static str {
    match class.overflow {
        Overflow::DropOldest => "drop-oldest",
        Overflow::DropNewest => "drop-newest",
        Overflow::Block => "block",
        Overflow::Thin(_) => "thin",
    }
}
