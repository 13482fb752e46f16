//! `spool verify`: reads every byte of spool and journal, decodes what is intact, and names what isn't.

mod show;

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use spool::inspect::{BatchRecord, CursorState, Found, Inspection, Opening, Summary};
use telemetry::{Counts, Position, Record};

pub use self::show::{ranges, unreadable};
use super::batched::{Batched, range};
use super::progress::Progress;
use super::{Folders, TROUBLE, Whose, counts_json};
use crate::data_dir;
use crate::human::things;
use crate::lock;

pub const EXAMPLES: &str = "\
Examples:
  telemetryx-agent spool verify --journal
  telemetryx-agent spool verify --dir /mnt/old-disk/var/lib/telemetryx/agent --json | jq .spool.damage

Checks each record's checksum and number, each batch's checksum, that it decodes, and that its series are defined.
Safe beside a running agent: what is being written at that moment is no damage.
Exit codes: 0 all is intact, or what is damaged is settled already; 1 damage was found, or it can't be looked at;
2 wrong usage; 3 the configuration can't be used.";

/// Single findings that are listed; all are counted.
const LISTED: usize = 1_000;

/// Its options.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    whose: Whose,
    /// Read the journal too.
    #[arg(long)]
    journal: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// What was found.
#[derive(Serialize)]
pub struct Report {
    /// Nothing is to be done.
    ok: bool,
    /// There is damage, and nothing is to be done about it any more.
    settled: bool,
    spool: SpoolReport,
    journal: Option<JournalReport>,
}

/// Records that are gone.
#[derive(Clone, Serialize)]
pub struct Range {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Damaged bytes; 0 where they are missing altogether.
    pub bytes: u64,
    /// Readings in them, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readings: Option<u64>,
    /// Of those, the ones that no batch has, where batches have some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

/// Where it is.
#[derive(Clone, Serialize)]
pub struct Place {
    file: String,
    offset: u64,
    bytes: u64,
}

impl From<&seglog::Damage> for Place {
    fn from(damage: &seglog::Damage) -> Self {
        Self { file: damage.file.display().to_string(), offset: damage.offset, bytes: damage.bytes }
    }
}

/// A segment that the disk doesn't give, or in whose place something else stands.
#[derive(Clone, Serialize)]
pub struct Unread {
    file: String,
    why: String,
}

impl From<&seglog::Unreadable> for Unread {
    fn from(segment: &seglog::Unreadable) -> Self {
        Self { file: segment.file.display().to_string(), why: segment.why.clone() }
    }
}

/// An intact record whose content can't be used.
#[derive(Serialize)]
struct Bad {
    record: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    what: String,
}

/// What a spool lacks of what was in it: it is an older copy, or its newest part is gone.
#[derive(Clone, Serialize)]
pub struct Lacks {
    /// A sentence.
    pub what: String,
    /// The first and last of the batches that are gone, and how many readings they held at most; nothing where all that was in
    /// it had been acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    seqs: Option<(u64, u64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readings_at_most: Option<u64>,
}

impl Lacks {
    /// By the fold's checkpoint, of a spool that would come so far.
    pub fn of(saved: &folding::Saved, extent: &spool::Extent) -> Option<Self> {
        let lacking = folding::Lacking::seen(saved, extent)?;
        let lost = lacking.lost;
        Some(Self {
            what: lacking.to_string(),
            seqs: lost.map(|lost| (lost.first, lost.last)),
            readings_at_most: lost.and_then(|lost| match lost.readings {
                spool::Readings::AtMost(readings) | spool::Readings::Exactly(readings) => Some(readings),
                spool::Readings::Unknown => None,
            }),
        })
    }
}

#[derive(Default, Serialize)]
struct SpoolReport {
    folder: String,
    segments: usize,
    bytes: u64,
    batches: u64,
    losses: u64,
    rows: u64,
    cursor: String,
    /// Its segments were removed: the newest of a spool always stays.
    bare: bool,
    /// Bytes at the end that are no whole record: being written, or torn off by a crash and never confirmed.
    unfinished_bytes: u64,
    /// Bytes behind the last record of segments before the last, where no record is missing.
    tails: Vec<Place>,
    /// Segments that can't be read at all.
    unreadable: Vec<Unread>,
    damage: Vec<Range>,
    places: Vec<Place>,
    /// Of those, the ones that nothing was kept of yet.
    to_be_copied: usize,
    bad_records: u64,
    bad: Vec<Bad>,
    /// Batches that opening reports as lost.
    lost_batches: usize,
    lost: serde_json::Value,
    quarantined: usize,
    /// What the fold's checkpoint says was in it, and isn't; no start has noted it yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    lacks: Option<Lacks>,
    #[serde(skip)]
    batched: Option<Batched>,
    #[serde(skip)]
    lost_counts: Counts,
    #[serde(skip)]
    lost_times: Option<(i64, i64)>,
}

#[derive(Default, Serialize)]
struct JournalReport {
    folder: String,
    segments: usize,
    bytes: u64,
    records: u64,
    /// Of each kind.
    kinds: BTreeMap<&'static str, u64>,
    readings: u64,
    /// What the records say was received, refused and so on, by cause.
    counts: serde_json::Value,
    #[serde(skip)]
    by_cause: Counts,
    unfinished_bytes: u64,
    /// Bytes behind the last record of segments before the last, where no record is missing.
    tails: Vec<Place>,
    /// Segments that can't be read at all.
    unreadable: Vec<Unread>,
    damage: Vec<Range>,
    places: Vec<Place>,
    /// Of those, the ones that nothing was kept of yet.
    to_be_copied: usize,
    /// There is no such folder.
    missing: bool,
    /// Why it can't be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    unusable: Option<String>,
    /// The last of `damage` are records that were confirmed, and are gone from the end; no start has counted them yet.
    cut_off: bool,
    /// Records that batches have, and that should be there: what came behind them and was in no batch is gone too.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<Range>,
}

/// Runs it.
///
/// # Errors
/// What `main` prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folders = args.whose.folders()?;
    // Known before anything is read, which may take long.
    let journal = match (args.journal, &folders.data) {
        (false, _) => None,
        (true, Some(data)) => Some(data.join("journal")),
        (true, None) => misused!(
            "{} is a spool's folder: to read the journal too name the data folder above it with --dir",
            folders.spool.display()
        ),
    };
    let saved = saved(&folders);
    let seen = saved.as_ref().map_or(0, |saved| saved.position);
    let (spool, position) = match verify_spool(&folders, saved.as_ref()) {
        Err(error) if seen > 0 && journal.as_ref().is_some_and(|dir| !dir.exists()) => {
            return Err(error.context(
                "the journal is gone too, and was there: what was received and is in no batch is lost with it",
            ));
        }
        found => found?,
    };
    let position = position.max(seen);
    let journal = journal.map(|dir| verify_journal(&dir, position, spool.batched.as_ref())).transpose()?;
    let damaged =
        !spool.damage.is_empty() || journal.as_ref().is_some_and(|journal| !journal.damage.is_empty());
    let ok = spool.ok() && journal.as_ref().is_none_or(JournalReport::ok);
    let report = Report { ok, settled: ok && damaged, spool, journal };
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", serde_json::to_string(&report)?)?,
        false => report.show(&mut out)?,
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(TROUBLE) })
}

/// What the fold's checkpoint says, where the data folder is known.
pub fn saved(folders: &Folders) -> Option<folding::Saved> {
    folders.data.as_deref().and_then(data_dir::saved)
}

/// The report, and the position in the journal that batches have all before; read before the journal is.
fn verify_spool(
    folders: &Folders,
    saved: Option<&folding::Saved>,
) -> anyhow::Result<(SpoolReport, Position)> {
    let dir = &folders.spool;
    let inspection = folders.look_at()?;
    let summary = inspection.summary()?;
    let (segments, bytes) = inspection.size();
    let mut report = SpoolReport {
        folder: dir.display().to_string(),
        segments,
        bytes,
        cursor: match inspection.cursor() {
            CursorState::Fine => "fine".into(),
            CursorState::Missing => "missing".into(),
            CursorState::Unusable(why) => why.clone(),
        },
        bare: inspection.is_bare(),
        quarantined: inspection.quarantined(),
        ..SpoolReport::default()
    };
    let mut progress = Progress::new("spool:", bytes);
    let mut defined = (0, HashSet::new());
    report.unfinished_bytes = inspection.walk(&mut |found| {
        match found {
            Found::Segment(_, bytes) => progress.advance(bytes),
            Found::Batch(batch) => {
                report.batches += 1;
                report.rows += batch.rows;
                if defined.0 != batch.segment {
                    defined = (batch.segment, HashSet::new());
                }
                for what in check(&batch, &summary, &mut defined.1) {
                    let (epoch, seq) = (Some(batch.key.epoch.to_string()), Some(batch.key.seq));
                    report.bad(Bad { record: batch.record, epoch, seq, what });
                }
            }
            Found::Loss(_) => report.losses += 1,
            Found::Relabel => {}
            Found::Unknown(record, what) => report.bad(Bad { record, epoch: None, seq: None, what }),
            Found::Damaged(gap) => report.damage.push(Range {
                first: gap.first,
                last: gap.last,
                bytes: gap.bytes,
                readings: None,
                lost: None,
            }),
        }
        ControlFlow::Continue(())
    })?;
    report.places = inspection.damage().iter().map(Place::from).collect();
    report.tails = inspection.tails().iter().map(Place::from).collect();
    report.unreadable = inspection.unreadable().iter().map(Unread::from).collect();
    report.to_be_copied =
        inspection.damage().iter().filter(|place| inspection.is_to_be_copied(place)).count();
    report.told(&inspection, saved);
    Ok((report, inspection.position().unwrap_or(0)))
}

/// What is wrong with an intact record's batch.
fn check(batch: &BatchRecord<'_>, summary: &Summary, defined: &mut HashSet<u32>) -> Vec<String> {
    let mut wrong = Vec::new();
    match wire::definitions::decode(batch.definitions) {
        Ok(definitions) => defined.extend(definitions.iter().map(|(number, _)| *number)),
        Err(error) => wrong.push(format!("its definitions can't be decoded: {error}")),
    }
    let undefined: Vec<u32> =
        batch.series.iter().copied().filter(|number| !summary.series.contains_key(number)).collect();
    if let Some(first) = undefined.first() {
        wrong.push(format!(
            "{} not defined, the first is number {first}",
            things(undefined.len() as u64, "series")
        ));
    } else if let Some(number) = batch.series.iter().find(|number| !defined.contains(number)) {
        wrong.push(format!("series number {number} is defined in another segment, and not in this one"));
    }
    if !wire::fits(&batch.checksum, batch.payload) {
        wrong.push("the payload doesn't fit its checksum".into());
    }
    let known: Vec<_> =
        batch.series.iter().filter_map(|number| Some((*number, summary.series.get(number)?))).collect();
    let digest = wire::definitions::digest(known.iter().map(|(number, def)| (*number, &***def)));
    if undefined.is_empty() && batch.checksum[12..] != digest {
        wrong.push("the series' definitions don't fit the batch's checksum".into());
    }
    match wire::payload::decode(batch.payload) {
        Ok(payload) => {
            let rows = payload.samples.values.len() + payload.windows.len() + payload.events.len();
            if rows as u64 != batch.rows {
                wrong.push(format!("it holds {rows} rows and says {}", batch.rows));
            }
            let ids =
                payload.samples.ids.iter().copied().chain(payload.windows.iter().map(|window| window.id));
            let unnamed = ids.filter(|id| batch.series.binary_search(id).is_err()).count();
            if unnamed > 0 {
                wrong.push(format!("{} not named in its head", things(unnamed as u64, "series")));
            }
        }
        Err(error) => wrong.push(format!("the payload can't be decoded: {error}")),
    }
    wrong
}

/// What the journal should have and hasn't, where batches or the fold have all up to `position`: that of one that is whole
/// otherwise (`None` = it isn't there).
pub fn gone(inspection: Option<&journal::inspect::Inspection>, position: Position) -> Option<Range> {
    let last = match inspection {
        None => 0,
        // The mark names what is gone more exactly.
        Some(journal) if journal.cut_off().is_some() => return None,
        // What was noted when the agent started without it has later numbers behind it.
        Some(journal) => journal.last()?,
    };
    (last < position).then_some(Range {
        first: last + 1,
        last: position,
        bytes: 0,
        readings: None,
        lost: None,
    })
}

/// `position` is of the last record that batches, or the fold, have.
fn verify_journal(
    dir: &Path,
    position: Position,
    batched: Option<&Batched>,
) -> anyhow::Result<JournalReport> {
    if std::fs::symlink_metadata(dir).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(JournalReport {
            folder: dir.display().to_string(),
            missing: true,
            gone: gone(None, position),
            ..JournalReport::default()
        });
    }
    if let Some(link) = lock::dead_link(dir) {
        let unusable = Some(link.to_string());
        return Ok(JournalReport { folder: dir.display().to_string(), unusable, ..JournalReport::default() });
    }
    let inspection = match journal::inspect::Inspection::open(Arc::new(seglog::Disk), dir) {
        Ok(inspection) => inspection,
        Err(error) => {
            let unusable = Some(error.to_string());
            return Ok(JournalReport {
                folder: dir.display().to_string(),
                unusable,
                ..JournalReport::default()
            });
        }
    };
    let (segments, bytes) = inspection.size();
    let mut report =
        JournalReport { folder: dir.display().to_string(), segments, bytes, ..JournalReport::default() };
    let mut progress = Progress::new("journal:", bytes);
    report.unfinished_bytes = inspection.walk(&mut |found| {
        match found {
            journal::inspect::Found::Segment(_, bytes) => progress.advance(bytes),
            journal::inspect::Found::Record(_, record) => {
                report.records += 1;
                *report.kinds.entry(kind(&record)).or_default() += 1;
                if let Record::Intake(intake) = *record {
                    report.readings += intake.len() as u64;
                    report.by_cause.merge(&intake.counts);
                }
            }
            journal::inspect::Found::Gap(gap, upto) => report.damage.push(range(gap, upto, batched)),
        }
        ControlFlow::Continue(())
    })?;
    report.places = inspection.damage().iter().map(Place::from).collect();
    report.tails = inspection.tails().iter().map(Place::from).collect();
    report.unreadable = inspection.unreadable().iter().map(Unread::from).collect();
    report.to_be_copied =
        inspection.damage().iter().filter(|place| inspection.is_to_be_copied(place)).count();
    report.counts = counts_json(&report.by_cause);
    report.cut_off = inspection.cut_off().is_some();
    report.gone = gone(Some(&inspection), position);
    Ok(report)
}

fn kind(record: &Record) -> &'static str {
    match record {
        Record::Intake(_) => "intake",
        Record::Tick(_) => "tick",
        Record::Config { .. } => "config",
        Record::Model { .. } => "model",
    }
}

impl SpoolReport {
    fn bad(&mut self, bad: Bad) {
        self.bad_records += 1;
        if self.bad.len() < LISTED {
            self.bad.push(bad);
        }
    }

    /// What opening will tell the collector.
    fn told(&mut self, inspection: &Inspection, saved: Option<&folding::Saved>) {
        let Opening { losses, extent } = inspection.opening(!self.damage.is_empty());
        self.lacks = saved.and_then(|saved| Lacks::of(saved, &extent));
        self.batched = saved.and_then(|saved| Batched::of(saved, &extent));
        self.lost_batches = losses.len();
        for loss in &losses {
            self.lost_counts.merge(&loss.counts);
            if loss.times != (0, 0) {
                let (from, to) = self.lost_times.unwrap_or(loss.times);
                self.lost_times = Some((from.min(loss.times.0), to.max(loss.times.1)));
            }
        }
        self.lost = counts_json(&self.lost_counts);
    }

    /// There is no cursor, though one is written before the first batch is.
    fn is_blind(&self) -> bool {
        self.cursor == "missing" && self.segments > 0
    }

    /// Nothing is damaged, or what is damaged was kept and is counted.
    fn ok(&self) -> bool {
        let cursor = matches!(self.cursor.as_str(), "fine" | "missing");
        self.to_be_copied == 0
            && self.unreadable.is_empty()
            && self.bad_records == 0
            && self.lost_batches == 0
            && self.lacks.is_none()
            && cursor
            && !self.bare
            && !self.is_blind()
    }
}

impl JournalReport {
    /// As of a spool; what was in it is counted when the agent comes there.
    fn ok(&self) -> bool {
        !self.is_repairable() && !self.cut_off && self.gone.is_none() && self.unusable.is_none()
    }

    /// There is something that a repair, or the agent's start, settles.
    fn is_repairable(&self) -> bool {
        self.to_be_copied > 0 || !self.unreadable.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_on_a_disk_that_is_not_mounted_is_neither_damaged_nor_lost() {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("journal");
        std::os::unix::fs::symlink(data.path().join("mnt/there"), &dir).unwrap();
        let journal = verify_journal(&dir, 7, None).unwrap();
        assert!(!journal.ok());
        let spool = SpoolReport { cursor: "fine".into(), ..SpoolReport::default() };
        let mut out = Vec::new();
        Report { ok: false, settled: false, spool, journal: Some(journal) }.show(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("mount that disk"), "{text}");
        assert!(!text.contains("DAMAGE") && !text.contains("as lost"), "{text}");
    }

    #[test]
    fn what_follows_from_several_faults_speaks_of_each_and_contradicts_none() {
        let concluded = |spool: SpoolReport, journal: JournalReport| {
            let spool = SpoolReport { cursor: "fine".into(), ..spool };
            Report { ok: false, settled: false, spool, journal: Some(journal) }.conclusion().join("\n")
        };
        let damaged = || SpoolReport { lost_batches: 1, ..SpoolReport::default() };
        let unusable = || JournalReport { unusable: Some("it is a link".into()), ..JournalReport::default() };
        let said = concluded(SpoolReport::default(), unusable());
        assert!(said.contains("nothing of it is lost") && !said.contains("beside the damage"), "{said}");
        let said = concluded(damaged(), unusable());
        assert!(said.contains("nothing of it is lost") && said.contains("spool repair"), "{said}");
        let gone = || JournalReport { cut_off: true, ..JournalReport::default() };
        let said = concluded(damaged(), gone());
        assert!(said.contains("put it back first") && said.contains("spool repair"), "{said}");
        let said = concluded(SpoolReport { bare: true, ..SpoolReport::default() }, JournalReport::default());
        assert!(said.contains("put it back") && !said.contains("spool repair"), "{said}");
    }

    #[test]
    fn a_journal_that_ends_before_the_checkpoint_is_damaged() {
        let gone = |position| gone(None, position).map(|gone| (gone.first, gone.last));
        assert_eq!((gone(0), gone(7)), (None, Some((1, 7))));
        let data = tempfile::tempdir().unwrap();
        let folders = Whose::data(data.path()).folders().unwrap();
        assert_eq!(saved(&folders), None);
        let path = data.path().join(data_dir::CHECKPOINT);
        let mut checkpoint = folding::Checkpoint::open(Arc::new(seglog::Disk), &path).unwrap();
        checkpoint.set(7, None, None, None, b"fold").unwrap();
        let position = saved(&folders).unwrap().position;
        assert!(!verify_journal(&data.path().join("journal"), position, None).unwrap().ok());
    }
}
