//! `spool export`: the readings of the batches that wait, out of the spool and into a file, without a collector.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::Context;
use spool::inspect::{BatchRecord, Fate, Found, Summary};
use telemetry::{Epoch, SampleFlags};
use wire::RangeSet;

use super::format::{Format, Prefix, Since};
use super::progress::Progress;
use super::{TROUBLE, Whose, boot_text, look_at, time};
use crate::human::things;

pub const EXAMPLES: &str = "\
Examples:
  telemetryx-agent spool export -o readings.ndjson
  telemetryx-agent spool export --match 'pump.*' --since 2h | jq -c 'select(.kind == \"sample\") | [.time_ns, .value]'
  telemetryx-agent spool export --format line --dir /mnt/old-disk/var/lib/telemetryx-agent | curl --data-binary @- http://127.0.0.1:8186/write
  telemetryx-agent spool export | telemetryx convert - readings/        # Parquet, on a machine with the collector

What is exported stays in the spool, and goes to the collector as before.
Exit codes: 0 done, 1 done but for what is damaged, 2 wrong usage.";

/// Its options.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whose: Whose,
    /// How to write.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// Write there; without, to standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only from this time on: an instant, or a span before now like 2h.
    #[arg(long, value_parser = time::parse, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<i64>,
    /// Only before this time.
    #[arg(long, value_parser = time::parse, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<i64>,
    /// Only metrics, and events' sources, that this pattern fits: * any text, ? any character.
    #[arg(long = "match", value_name = "GLOB")]
    pattern: Option<String>,
    /// Also what the collector has acknowledged, as far as it is still on disk.
    #[arg(long)]
    all: bool,
}

/// What was done.
#[derive(Default)]
struct Done {
    batches: u64,
    samples: u64,
    windows: u64,
    events: u64,
    unsayable: u64,
    /// Batches whose times are corrected, and those whose times nobody knows yet.
    corrected: u64,
    held: u64,
    bad: u64,
}

struct Export<'a, W> {
    out: W,
    args: &'a Args,
    summary: Summary,
    /// Of each series its beginning of a line; `None` when the pattern doesn't fit.
    prefixes: HashMap<u32, Option<Rc<Prefix>>>,
    /// Names that were met: of two records with one name the second holds the same.
    met: HashMap<Epoch, RangeSet>,
    done: Done,
}

/// Runs it.
///
/// # Errors
/// What `main` prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folders = args.whose.folders()?;
    let inspection = look_at(&folders.spool)?;
    let summary = inspection.summary()?;
    let file = args
        .output
        .as_ref()
        .map(|path| File::create(path).with_context(|| format!("{} can't be written", path.display())));
    let file = file.transpose()?;
    let out: Box<dyn Write> = match &file {
        Some(file) => Box::new(file.try_clone()?),
        None => Box::new(std::io::stdout().lock()),
    };
    let mut export = Export {
        out: BufWriter::with_capacity(256 << 10, out),
        args,
        summary,
        prefixes: HashMap::new(),
        met: HashMap::new(),
        done: Done::default(),
    };
    let mut progress = Progress::new("export:", inspection.size().1);
    let mut failed = None;
    inspection.walk(&mut |found| {
        let result = match found {
            Found::Segment(_, bytes) => {
                progress.advance(bytes);
                Ok(())
            }
            Found::Batch(batch) => export.batch(&batch),
            Found::Damaged(_) | Found::Unknown(..) => {
                export.done.bad += 1;
                Ok(())
            }
            Found::Loss(_) | Found::Relabel => Ok(()),
        };
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    drop(progress);
    if let Some(error) = failed {
        return Err(error.into());
    }
    export.out.flush()?;
    if let Some(file) = &file {
        file.sync_all()?;
    }
    Ok(export.done.say(args.format)?)
}

impl<W: Write> Export<'_, W> {
    fn batch(&mut self, batch: &BatchRecord<'_>) -> std::io::Result<()> {
        let name = self.summary.name(batch);
        match self.summary.fate(batch) {
            Fate::Waiting | Fate::Held => {}
            Fate::Acked if self.args.all => {}
            Fate::Acked | Fate::Lost | Fate::Unfinished => return Ok(()),
        }
        if !self.met.entry(name.epoch).or_default().insert(name.seq) {
            return Ok(());
        }
        let Ok(payload) = wire::payload::decode(batch.payload) else {
            self.done.bad += 1;
            return Ok(());
        };
        self.done.batches += 1;
        let offset = self.summary.offset(batch);
        let boot = batch.group.clock.map(boot_text).unwrap_or_default();
        let since = offset.map_or(Since::Boot(&boot), |offset| Since::Epoch(offset.ns));
        self.done.corrected += u64::from(batch.group.clock.is_some() && offset.is_some());
        self.done.held += u64::from(offset.is_none());
        // As the collector does: what was corrected, and not by a guess, is as certain as any other.
        let certain = batch.group.clock.is_some() && offset.is_some_and(|offset| !offset.is_guess);
        let cleared = if certain { SampleFlags::CLOCK_UNCERTAIN } else { 0 };
        let format = self.args.format;
        let mut last: Option<(u32, Option<Rc<Prefix>>)> = None;
        for (id, time, value, flags) in payload.samples() {
            if last.as_ref().is_none_or(|last| last.0 != id) {
                last = Some((id, self.prefix(id)));
            }
            let Some((_, Some(prefix))) = &last else { continue };
            if self.args.spans(since.time(time)) {
                let said = format.sample(&mut self.out, prefix, (since, time), value, flags & !cleared)?;
                self.done.samples += u64::from(said);
                self.done.unsayable += u64::from(!said);
            }
        }
        for window in payload.windows.iter().filter(|window| self.args.spans(since.time(window.start))) {
            let Some(prefix) = self.prefix(window.id) else { continue };
            let said = format.window(&mut self.out, &prefix, since, window)?;
            self.done.windows += u64::from(said);
            self.done.unsayable += u64::from(!said);
        }
        for event in &payload.events {
            if self.args.spans(since.time(event.time)) && self.args.fits(&event.source) {
                let said = format.event(&mut self.out, since, event)?;
                self.done.events += u64::from(said);
                self.done.unsayable += u64::from(!said);
            }
        }
        Ok(())
    }

    fn prefix(&mut self, id: u32) -> Option<Rc<Prefix>> {
        if let Some(known) = self.prefixes.get(&id) {
            return known.clone();
        }
        let def = self.summary.series.get(&id);
        // A series without a definition is damage: its rows can't be named.
        self.done.bad += u64::from(def.is_none());
        let prefix =
            def.filter(|def| self.args.fits(def.key.name())).map(|def| Rc::new(self.args.format.prefix(def)));
        self.prefixes.insert(id, prefix.clone());
        prefix
    }
}

impl Args {
    /// A time that nobody knows is in no span.
    fn spans(&self, time: Option<i64>) -> bool {
        match time {
            Some(time) => {
                self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
            }
            None => self.since.is_none() && self.until.is_none(),
        }
    }

    fn fits(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| telemetry::glob::matches(pattern, name))
    }
}

impl Done {
    /// On standard error, since standard output may be the readings.
    fn say(&self, format: Format) -> std::io::Result<ExitCode> {
        let mut err = std::io::stderr().lock();
        writeln!(
            err,
            "telemetryx-agent: exported {}, {} and {} of {}",
            things(self.samples, "sample"),
            things(self.windows, "window"),
            things(self.events, "event"),
            things(self.batches, "batch")
        )?;
        if self.corrected > 0 {
            writeln!(
                err,
                "  {} of before the host's clock was set: their times are corrected, as the collector will have them",
                things(self.corrected, "batch")
            )?;
        }
        if self.held > 0 {
            let what = match format {
                Format::Line => "left out, line protocol can't say that",
                Format::Ndjson => "time_ns is null, since_boot_ns counts from the boot",
            };
            writeln!(err, "  {} with times that nobody knows yet: {what}", things(self.held, "batch"))?;
        }
        if self.unsayable > 0 {
            let name = if format == Format::Line { "line protocol" } else { "NDJSON" };
            writeln!(
                err,
                "  {} left out: NaN, infinite, or of an unknown time, and {name} can't say that",
                things(self.unsayable, "reading")
            )?;
        }
        if self.bad == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        writeln!(err, "  damage was passed over in {}: `spool verify` names it", things(self.bad, "place"))?;
        Ok(ExitCode::from(TROUBLE))
    }
}
