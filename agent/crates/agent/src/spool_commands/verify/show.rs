//! What `spool verify` prints for a person.

use std::io::Write;

use telemetry::Cause;

use super::super::lost;
use super::{JournalReport, Lacks, Place, Range, Report, Unread};
use crate::human::{count, moment, size, things};

impl JournalReport {
    fn show(&self, out: &mut impl Write) -> std::io::Result<()> {
        if self.missing && self.gone.is_none() {
            return writeln!(out, "journal  {}: none yet", self.folder);
        }
        if self.missing {
            writeln!(out, "DAMAGE   the journal {} is gone, and was there", self.folder)?;
        } else if let Some(why) = &self.unusable {
            return writeln!(out, "UNKNOWN  the journal {} can't be looked at: {why}", self.folder);
        } else {
            writeln!(
                out,
                "journal  {}: {}, {}; {} with {}",
                self.folder,
                things(self.segments as u64, "segment"),
                size(self.bytes),
                things(self.records, "record"),
                things(self.readings, "reading")
            )?;
        }
        let kinds: Vec<String> = self.kinds.iter().map(|(kind, n)| things(*n, kind)).collect();
        if !kinds.is_empty() {
            writeln!(out, "         {}", kinds.join(", "))?;
        }
        let causes: Vec<String> =
            self.by_cause.iter().map(|(cause, n)| format!("{} {}", count(n), cause.name())).collect();
        if !causes.is_empty() {
            writeln!(out, "         {}", causes.join(", "))?;
        }
        unreadable(out, &self.unreadable)?;
        ranges(out, "position", &self.damage, &self.places)?;
        if self.cut_off {
            writeln!(
                out,
                "         the last of them were acknowledged, and are gone from the end: the agent counts what was received in them when it starts"
            )?;
        }
        if let Some(gone) = &self.gone {
            writeln!(
                out,
                "DAMAGE   positions {} to {} are gone: batches or the fold's checkpoint have what was in those; what was received behind them and was in no batch is lost, and nobody knows how much. The agent notes that when it starts",
                gone.first, gone.last
            )?;
        }
        tails(out, &self.tails)?;
        unfinished(out, self.unfinished_bytes)
    }
}

impl Report {
    pub(super) fn show(&self, out: &mut impl Write) -> std::io::Result<()> {
        let spool = &self.spool;
        writeln!(
            out,
            "spool    {}: {}, {}; {} with {}, {}",
            spool.folder,
            things(spool.segments as u64, "segment"),
            size(spool.bytes),
            things(spool.batches, "batch"),
            things(spool.rows, "row"),
            things(spool.losses, "loss")
        )?;
        if spool.bare {
            let left = match spool.lost_batches {
                0 => "; as far as the cursor knows nothing waited in them",
                _ => "",
            };
            writeln!(out, "DAMAGE   its segments are gone, and there were some{left}")?;
        }
        if spool.is_blind() {
            writeln!(
                out,
                "DAMAGE   the cursor is gone, and was there: what was acknowledged lately is asked for again"
            )?;
        }
        if !matches!(spool.cursor.as_str(), "fine" | "missing") {
            writeln!(
                out,
                "DAMAGE   the cursor: {}; what was acknowledged lately is asked for again",
                spool.cursor
            )?;
        }
        unreadable(out, &spool.unreadable)?;
        ranges(out, "record", &spool.damage, &spool.places)?;
        for bad in &spool.bad {
            let name = bad.seq.map_or(String::new(), |seq| format!(" (seq {seq})"));
            writeln!(out, "DAMAGE   record {}{name}: {}", bad.record, bad.what)?;
        }
        if spool.bad_records > spool.bad.len() as u64 {
            writeln!(out, "         … and {} more", count(spool.bad_records - spool.bad.len() as u64))?;
        }
        if spool.lost_batches > 0 {
            let (from, to) = spool.lost_times.map_or((None, None), |times| (Some(times.0), Some(times.1)));
            let damaged = spool.lost_counts.get(Cause::Damaged);
            writeln!(
                out,
                "         {} will be reported as lost, with {} between {} and {}: {}",
                things(spool.lost_batches as u64, "batch"),
                things(damaged, "row"),
                moment(from),
                moment(to),
                lost(&spool.lost_counts)
            )?;
        }
        if let Some(Lacks { what, .. }) = &spool.lacks {
            writeln!(
                out,
                "DAMAGE   {what}: put back what is gone while the agent is stopped, if there is a copy; else the agent notes that when it starts"
            )?;
        }
        tails(out, &spool.tails)?;
        unfinished(out, spool.unfinished_bytes)?;
        if spool.quarantined > 0 {
            writeln!(out, "         quarantine holds {}", things(spool.quarantined as u64, "copy"))?;
        }
        if let Some(journal) = &self.journal {
            journal.show(out)?;
        }
        self.conclusion().into_iter().try_for_each(|sentence| writeln!(out, "{sentence}"))
    }

    /// What follows from it all: of a spool and a journal in which several things are wrong, each is to be read with the others.
    pub(super) fn conclusion(&self) -> Vec<&'static str> {
        let (spool, journal) = (&self.spool, self.journal.as_ref());
        match (self.ok, self.settled) {
            (true, false) => return vec!["all is intact"],
            (true, true) => {
                return vec![
                    "the damage is settled: what could be read of it is in quarantine, and what waited in it is counted as lost. Nothing needs doing; the damaged files go when all that is beside the damage has been sent",
                ];
            }
            (false, _) => {}
        }
        let mut sentences = Vec::new();
        if journal.is_some_and(|journal| journal.unusable.is_some()) {
            sentences.push(
                "what is in the journal isn't known, and nothing of it is lost by that: make it readable, and look again",
            );
        }
        if spool.ok() && journal.is_none_or(|journal| journal.unusable.is_some() || journal.ok()) {
            return sentences;
        }
        let repairable = spool.lost_batches > 0
            || spool.to_be_copied > 0
            || !spool.unreadable.is_empty()
            || journal.is_some_and(JournalReport::is_repairable);
        sentences.push(match (self.lacks_something(), repairable) {
            (false, true) => {
                "what is intact beside the damage is kept; stop the agent and run `telemetryx-agent spool repair` to settle it now, else the agent does so by itself"
            }
            (false, false) => {
                "what is intact beside the damage is kept. Nothing needs doing: the agent counts each as lost when its turn comes, and makes a new cursor where that is damaged"
            }
            (true, true) => {
                "what is intact is kept. If there is a copy of what is gone, stop the agent and put it back first; then run `telemetryx-agent spool repair` to settle the damage now, else the agent does so by itself. It notes what stays gone when it starts, and counts it where anybody knows how much it was"
            }
            (true, false) => {
                "what is intact is kept. If there is a copy of what is gone, stop the agent and put it back; else nothing needs doing: the agent notes what is gone when it starts, and counts it where anybody knows how much it was"
            }
        });
        sentences
    }

    /// Whether somebody took something away that could be put back.
    fn lacks_something(&self) -> bool {
        let Self { spool, journal, .. } = self;
        let journal = journal.as_ref().is_some_and(|journal| journal.gone.is_some() || journal.cut_off);
        spool.lacks.is_some() || spool.bare || spool.is_blind() || journal
    }
}

fn unfinished(out: &mut impl Write, bytes: u64) -> std::io::Result<()> {
    match bytes {
        0 => Ok(()),
        bytes => writeln!(
            out,
            "         the last {} are no whole record: being written, torn off by a crash before it was confirmed, or damaged since",
            things(bytes, "byte")
        ),
    }
}

fn tails(out: &mut impl Write, tails: &[Place]) -> std::io::Result<()> {
    for tail in tails {
        writeln!(
            out,
            "         at {} offset {}, {} behind the last record are no record: torn off by a crash before they were confirmed, written there by something else, or a last record that rotted. No record before them is missing",
            tail.file,
            tail.offset,
            things(tail.bytes, "byte")
        )?;
    }
    Ok(())
}

/// Segments that can't be read at all.
pub fn unreadable(out: &mut impl Write, segments: &[Unread]) -> std::io::Result<()> {
    for segment in segments {
        writeln!(out, "DAMAGE   {} can't be read: {}", segment.file, segment.why)?;
    }
    Ok(())
}

/// Damaged ranges, and where they are.
pub fn ranges(out: &mut impl Write, what: &str, ranges: &[Range], places: &[Place]) -> std::io::Result<()> {
    for range in ranges {
        let numbers = match range.last {
            last if last < range.first => "no record".to_owned(),
            last if last == range.first => format!("{what} {last}"),
            last => format!("{what}s {} to {last} ({})", range.first, count(last - range.first + 1)),
        };
        let mut readings = range.readings.map_or(String::new(), |n| format!(", {}", things(n, "reading")));
        if let Some(lost) = range.lost {
            let none = if readings.is_empty() {
                things(lost, "reading")
            } else {
                format!("{} of them", count(lost))
            };
            readings += &format!(", {none} in no batch");
        }
        let bytes = if range.bytes == 0 { "missing".to_owned() } else { things(range.bytes, "byte") };
        writeln!(out, "DAMAGE   {numbers}: {bytes}{readings}")?;
    }
    for place in places {
        writeln!(out, "         at {} offset {}, {}", place.file, place.offset, things(place.bytes, "byte"))?;
    }
    Ok(())
}
