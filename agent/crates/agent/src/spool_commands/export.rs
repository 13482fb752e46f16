//! `spool export`: the readings of the batches that wait, out of the spool and into a file, or to another program, without a
//! collector.

use std::collections::HashMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use spool::inspect::{BatchRecord, Fate, Found, Summary};
use telemetry::{Epoch, SampleFlags};
use wire::RangeSet;

use super::format::{Format, Prefix, Since};
use super::post::{Place, Post};
use super::progress::Progress;
use super::target::{Pieces, Target, Whole};
use super::{TROUBLE, Whose, boot_text, time};
use crate::human::{moment, things};

pub const EXAMPLES: &str = "\
Examples:
  telemetryx-agent spool export -o readings.ndjson
  telemetryx-agent spool export --match 'pump.*' --since 2h | jq -c 'select(.kind == \"sample\") | [.time_ns, .value]'
  telemetryx-agent spool export --to http://127.0.0.1:8186/write --dir /mnt/old-disk/var/lib/telemetryx/agent
  telemetryx-agent spool export --format line -o readings.lp --split 8MiB       # readings.000001.lp, readings.000002.lp …
  telemetryx-agent spool export | telemetryx convert - readings/        # Parquet, on a machine with the collector

What is exported stays in the spool, and goes to the collector as before.
Exit codes: 0 done; 1 done but for what is damaged or was refused, or it failed; 2 wrong usage; 3 the configuration can't be used.";

/// Smaller pieces would be a file for each record, and a folder of millions.
const LEAST_PIECE: u64 = 64 << 10;
/// Bodies of `--to`, and what `[input.http]` takes by far: at most 16 MiB and 500,000 readings.
const BODY: u64 = 4 << 20;

/// Its options.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whose: Whose,
    /// How to write; without, ndjson, and line with --to.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write there; - is standard output, as is nothing.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over the file, where it is there already.
    #[arg(long, requires = "output")]
    force: bool,
    /// Several files of at most this size, such as 8MiB, with a number in their names; with --to, the size of a request. At
    /// least 64KiB.
    #[arg(long, value_name = "SIZE", value_parser = split_size)]
    split: Option<u64>,
    /// Post line protocol there, in requests of at most 4 MiB, each until it is taken: http(s)://HOST:PORT/write.
    #[arg(long, value_name = "URL", conflicts_with = "output")]
    to: Option<String>,
    /// File with what to show at --to: a token, or user:password.
    #[arg(long, value_name = "FILE", requires = "to")]
    token_file: Option<PathBuf>,
    /// PEM file with the authority that signed the certificate at --to; without, the system's are believed.
    #[arg(long, value_name = "FILE", requires = "to")]
    ca_file: Option<PathBuf>,
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

fn split_size(text: &str) -> Result<u64, String> {
    match telemetry::units::parse_bytes(text) {
        Ok(bytes @ LEAST_PIECE..) => Ok(bytes),
        Ok(_) => Err("at least 64KiB: smaller pieces would be a file for nearly each record".into()),
        Err(error) => Err(error.said("write 8MiB, 64KiB or a number of bytes")),
    }
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
    /// Batches that the numbering has and the disk hasn't.
    missing: u64,
    /// Requests that the other program took in part.
    refused: u64,
}

struct Export<'a> {
    target: Target,
    /// The record that is being written.
    line: Vec<u8>,
    format: Format,
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
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since >= until
    {
        misused!(
            "--since {} is not before --until {}: nothing lies between",
            moment(Some(since)),
            moment(Some(until))
        );
    }
    let format = args.format()?;
    args.has_names()?;
    let folders = args.whose.folders()?;
    let inspection = folders.look_at()?;
    let summary = inspection.summary()?;
    if args.file().is_some() {
        super::parts::removed_at_the_end()?;
    }
    let mut export = Export {
        target: args.target()?,
        line: Vec::new(),
        format,
        args,
        summary,
        prefixes: HashMap::new(),
        met: HashMap::new(),
        done: Done::default(),
    };
    for segment in inspection.unreadable() {
        export.done.bad += 1;
        writeln!(std::io::stderr(), "telemetryx-agent: {}; the others are read", super::unread(segment))?;
    }
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
        return Err(error);
    }
    let (said, refused) = export.target.finish()?;
    export.done.refused = refused;
    // A segment that is cut off or gone shows in the numbering only.
    export.done.missing = inspection.losses(export.done.bad > 0).len() as u64;
    Ok(export.done.say(format, said.as_deref())?)
}

impl Export<'_> {
    fn batch(&mut self, batch: &BatchRecord<'_>) -> anyhow::Result<()> {
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
        let format = self.format;
        let mut last: Option<(u32, Option<Rc<Prefix>>)> = None;
        for (id, time, value, flags) in payload.samples() {
            if last.as_ref().is_none_or(|last| last.0 != id) {
                last = Some((id, self.prefix(id)));
            }
            let Some((_, Some(prefix))) = &last else { continue };
            if self.args.spans(since.time(time)) {
                let said = format.sample(&mut self.line, prefix, (since, time), value, flags & !cleared)?;
                self.record()?;
                self.done.samples += u64::from(said);
                self.done.unsayable += u64::from(!said);
            }
        }
        for window in payload.windows.iter().filter(|window| self.args.spans(since.time(window.start))) {
            let Some(prefix) = self.prefix(window.id) else { continue };
            let said = format.window(&mut self.line, &prefix, since, window)?;
            self.record()?;
            self.done.windows += u64::from(said);
            self.done.unsayable += u64::from(!said);
        }
        for event in &payload.events {
            if self.args.spans(since.time(event.time)) && self.args.fits(&event.source) {
                let said = format.event(&mut self.line, since, event)?;
                self.record()?;
                self.done.events += u64::from(said);
                self.done.unsayable += u64::from(!said);
            }
        }
        Ok(())
    }

    fn record(&mut self) -> anyhow::Result<()> {
        let done = self.target.record(&self.line);
        self.line.clear();
        done
    }

    fn prefix(&mut self, id: u32) -> Option<Rc<Prefix>> {
        if let Some(known) = self.prefixes.get(&id) {
            return known.clone();
        }
        let def = self.summary.series.get(&id);
        // A series without a definition is damage: its rows can't be named.
        self.done.bad += u64::from(def.is_none());
        let prefix =
            def.filter(|def| self.args.fits(def.key.name())).map(|def| Rc::new(self.format.prefix(def)));
        self.prefixes.insert(id, prefix.clone());
        prefix
    }
}

impl Args {
    fn format(&self) -> anyhow::Result<Format> {
        match (&self.to, self.format) {
            (Some(_), Some(Format::Ndjson)) => misused!("--to posts line protocol: leave --format out"),
            (Some(_), _) => Ok(Format::Line),
            (None, format) => Ok(format.unwrap_or(Format::Ndjson)),
        }
    }

    /// The file, where it isn't standard output.
    fn file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    fn has_names(&self) -> anyhow::Result<()> {
        if self.split.is_some() && self.to.is_none() && self.file().is_none() {
            misused!("--split needs names: give the files' with -o FILE, or --to URL");
        }
        Ok(())
    }

    fn target(&self) -> anyhow::Result<Target> {
        if let Some(url) = &self.to {
            let place = Place {
                url: url.clone(),
                token_file: self.token_file.clone(),
                ca_file: self.ca_file.clone(),
            };
            let limit = usize::try_from(self.split.unwrap_or(BODY)).unwrap_or(usize::MAX);
            return Ok(Target::Post(Box::new(Post::new(&place, limit)?)));
        }
        match (self.file(), self.split) {
            (None, _) => Ok(Target::stdout()),
            (Some(path), None) => Ok(Target::File(Whole::create(path, self.force)?)),
            (Some(path), Some(limit)) => Ok(Target::Pieces(Pieces::create(path, limit, self.force)?)),
        }
    }

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
    fn say(&self, format: Format, at: Option<&str>) -> std::io::Result<ExitCode> {
        let mut err = std::io::stderr().lock();
        writeln!(
            err,
            "telemetryx-agent: exported {}, {} and {} of {}",
            things(self.samples, "sample"),
            things(self.windows, "window"),
            things(self.events, "event"),
            things(self.batches, "batch")
        )?;
        if let Some(at) = at {
            writeln!(err, "  {at}")?;
        }
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
        if self.refused > 0 {
            writeln!(
                err,
                "  {} refused in part: what it said stands above",
                things(self.refused, "request")
            )?;
        }
        if self.bad == 0 && self.missing == 0 {
            return Ok(if self.refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(TROUBLE) });
        }
        if self.bad > 0 {
            writeln!(err, "  damage was passed over in {}", things(self.bad, "place"))?;
        }
        if self.missing > 0 {
            writeln!(err, "  {} missing: damaged, cut off or gone", things(self.missing, "batch"))?;
        }
        writeln!(err, "  `telemetryx-agent spool verify` says what and where")?;
        Ok(ExitCode::from(TROUBLE))
    }
}
