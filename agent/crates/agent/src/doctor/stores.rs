//! What the agent keeps: spool and journal, what is in quarantine, whether the model loads.

use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use spool::inspect::{CursorState, Inspection};
use telemetry::{Cause, Position, Record, Stamp};

use super::{Finding, ok, problem, warning};
use crate::config::Config;
use crate::data_dir;
use crate::human::{size, things};
use crate::lock::{self, DeadLink};
use crate::models;

/// Spool and journal, quickly: what listing them and reading the heads shows.
pub fn examine(data: &Path) -> Vec<Finding> {
    let checkpoint = data.join(data_dir::CHECKPOINT);
    let saved = data_dir::saved(data);
    let (mut findings, position) = spool(&data.join("spool"), saved.as_ref());
    let position = position.max(saved.as_ref().map_or(0, |saved| saved.position));
    findings.extend(journal(&data.join("journal"), position));
    findings.extend(unreadable_cursor(&data.join("spool")));
    if let Some(link) = lock::dead_link(&checkpoint) {
        findings.push(elsewhere("checkpoint", &link));
    } else if let Some(error) = ungiven(&checkpoint) {
        findings.push(not_given("checkpoint", &error, is_ours(data)));
    } else if saved.is_none() {
        findings.extend(no_checkpoint(&data.join("journal"), &checkpoint));
    }
    let copies = quarantined(data);
    if copies > 0 {
        findings.push(warning(
            "quarantine",
            format!("{} of damaged or refused data under {}", things(copies, "file"), data.display()),
            "look into the log for what happened (disk, power, a collector that refuses), then remove them",
        ));
    }
    findings
}

/// That the fold's checkpoint is damaged, or gone though the journal has let go of records; nothing where none was written yet.
fn no_checkpoint(journal: &Path, checkpoint: &Path) -> Option<Finding> {
    const CHECK: &str = "checkpoint";
    let damaged = match seglog::Cell::peek(&seglog::Disk, checkpoint) {
        Ok((value, damaged)) => value.is_some() || damaged,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => seglog::is_unreadable(&error),
    };
    let inspection = journal::inspect::Inspection::open(Arc::new(seglog::Disk), journal).ok();
    let first = inspection.map_or(1, |inspection| inspection.first());
    let how = if damaged { "damaged" } else { "gone" };
    if first > 1 {
        return Some(problem(
            CHECK,
            format!(
                "the fold's checkpoint {} is {how}: what open windows held of the journal's records before {first} is lost",
                checkpoint.display()
            ),
            "put it back while the agent is stopped, if there is a copy; else nothing: when it starts the agent counts that as far as the spool knows how many readings it were, and goes on. Check the disk (dmesg, smartctl)",
        ));
    }
    damaged.then(|| {
        warning(
            CHECK,
            format!("the fold's checkpoint {} is damaged: the journal has all that it says", checkpoint.display()),
            "nothing: the agent folds the journal again from its beginning, and nothing is lost. Check the disk, though",
        )
    })
}

/// That this user may not look into a folder: what is there isn't known, and nothing is said of it.
fn hidden(check: &'static str, dir: &Path) -> Option<Finding> {
    let error =
        fs::read_dir(dir).err().filter(|error| error.kind() == std::io::ErrorKind::PermissionDenied)?;
    Some(not_seen(check, dir, &error))
}

fn not_seen(check: &'static str, dir: &Path, error: &std::io::Error) -> Finding {
    warning(
        check,
        format!("this user may not look into {}: {error}", dir.display()),
        "run this command as the agent's user; if that is who runs it, give the folder to it",
    )
}

/// That something in a folder isn't given, which keeps whoever it belongs to from its work, and nobody else.
fn not_given(check: &'static str, error: &(dyn Error + 'static), ours: bool) -> Finding {
    let denied = |error: &(dyn Error + 'static)| {
        let error = error.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    match std::iter::successors(Some(error), |error| (*error).source()).any(denied) && !ours {
        true => warning(check, error.to_string(), "run this command as the agent's user"),
        false => problem(check, error.to_string(), "give the folder to the agent's user"),
    }
}

/// That a folder or file is on a disk that isn't there: what is on it isn't lost.
fn elsewhere(check: &'static str, link: &DeadLink) -> Finding {
    problem(check, link.stands(), link.remedy())
}

fn is_ours(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|dir| dir.uid() == rustix::process::geteuid().as_raw())
}

/// That the system doesn't give a file that is there, for want of rights or file handles: the agent waits for it.
fn ungiven(path: &Path) -> Option<seglog::OpenError> {
    let source = seglog::regular::open(path).err()?;
    let withheld = source.kind() != std::io::ErrorKind::NotFound && !seglog::is_unreadable(&source);
    withheld.then(|| seglog::OpenError::Io { doing: "read", path: path.to_owned(), source })
}

/// Cursors that were set aside: the disk didn't give one, or something else stood in its place.
fn unreadable_cursor(spool: &Path) -> Option<Finding> {
    let names =
        fs::read_dir(spool).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut aside: Vec<String> = names.filter(|name| name.starts_with("cursor.unreadable")).collect();
    aside.sort();
    let newest = aside.pop()?;
    Some(warning(
        "spool",
        format!(
            "{} stood in the cursor's place and couldn't be read; the agent has made a new one, and asked the collector again for what was acknowledged",
            spool.join(newest).display()
        ),
        "check the disk (dmesg, smartctl), and remove the file when nobody needs it any more",
    ))
}

/// What is found of it, the worst first, and the position in the journal up to which batches have all.
fn spool(dir: &Path, saved: Option<&folding::Saved>) -> (Vec<Finding>, Position) {
    const CHECK: &str = "spool";
    let inspection = match listed_spool(dir) {
        Ok(inspection) => inspection,
        Err(finding) => return (vec![*finding], 0),
    };
    let (segments, bytes) = inspection.size();
    let found = format!("{}, {}", things(segments as u64, "segment"), size(bytes));
    let opening = inspection.opening(false);
    let mut findings: Vec<Finding> = unreadable(CHECK, inspection.unreadable()).into_iter().collect();
    // What the disk doesn't give isn't known to be gone, and a spool without segments and cursor has a word of its own.
    let looked = findings.is_empty() && (segments > 0 || *inspection.cursor() != CursorState::Missing);
    let lacking = saved.and_then(|saved| folding::Lacking::seen(saved, &opening.extent));
    if let Some(lacking) = lacking.filter(|_| looked) {
        findings.push(problem(
            CHECK,
            format!("{found}; {lacking}"),
            "put back what is gone while the agent is stopped, if there is a copy; else nothing: when it starts the agent notes it in `status`. Check the disk (dmesg, smartctl)",
        ));
    }
    let rows: u64 = opening.losses.iter().map(|loss| loss.counts.get(Cause::Damaged)).sum();
    if !opening.losses.is_empty() {
        findings.push(problem(
            CHECK,
            format!(
                "{found}; {} damaged or gone, with {}",
                things(opening.losses.len() as u64, "batch"),
                things(rows, "row")
            ),
            "`telemetryx-agent spool verify` says what exactly; check the disk (smartctl)",
        ));
    }
    match inspection.cursor() {
        CursorState::Unusable(why) => findings.push(warning(
            CHECK,
            format!("{found}; the cursor can't be used: {why}"),
            "nothing: what was acknowledged is asked for again. Check the disk, though",
        )),
        CursorState::Missing if was_at_work(dir) => {
            let gone = match segments {
                0 => "its segments and its cursor are gone, and were there: what waited in it is lost",
                _ => "the cursor is gone, and was there: what was acknowledged lately is asked for again",
            };
            let report = if segments == 0 { problem } else { warning };
            findings.push(report(
                CHECK,
                format!("{found}; {gone}"),
                "put back what was removed while the agent is stopped, if there is a copy; else the agent makes it anew",
            ));
        }
        CursorState::Fine | CursorState::Missing => {}
    }
    if inspection.is_bare() && findings.is_empty() {
        findings.push(warning(
            CHECK,
            format!(
                "{found}; there were some, and they are gone: as far as the cursor knows nothing waited in them"
            ),
            "put them back while the agent is stopped, if there is a copy; else the agent goes on behind them",
        ));
    }
    if findings.is_empty() {
        findings.push(ok(CHECK, format!("{found}; quickly looked at, `spool verify` reads it all")));
    }
    (findings, inspection.position().unwrap_or(0))
}

/// A spool that can be looked at; else why not, or that there is none.
fn listed_spool(dir: &Path) -> Result<Inspection, Box<Finding>> {
    const CHECK: &str = "spool";
    if let Some(hidden) = hidden(CHECK, dir) {
        return Err(Box::new(hidden));
    }
    let log = dir.join("log");
    if let Some(link) = lock::dead_link(&log) {
        return Err(Box::new(elsewhere(CHECK, &link)));
    }
    if !log.is_dir() && (dir.join("cursor").exists() || was_at_work(dir)) {
        return Err(Box::new(problem(
            CHECK,
            format!("{} is gone, and was there: what waited in it is lost", log.display()),
            "put it back while the agent is stopped, if there is a copy; else the agent makes a new one, and counts as damaged what the cursor knows of",
        )));
    }
    if !log.is_dir() {
        return Err(Box::new(ok(CHECK, "none yet: the agent makes it")));
    }
    let inspection = Inspection::open(Arc::new(seglog::Disk), dir)
        .map_err(|error| Box::new(not_given(CHECK, &error, is_ours(dir))))?;
    match ungiven(&dir.join("cursor")) {
        Some(error) => Err(Box::new(not_given(CHECK, &error, is_ours(dir)))),
        None => Ok(inspection),
    }
}

/// Whether an agent has worked in the data folder that a log lies in: it has both logs before it has a checkpoint.
fn was_at_work(log: &Path) -> bool {
    log.parent().is_some_and(|data| data.join(data_dir::CHECKPOINT).exists())
}

/// `position` is of the last record that batches have.
fn journal(dir: &Path, position: Position) -> Vec<Finding> {
    const CHECK: &str = "journal";
    if let Some(hidden) = hidden(CHECK, dir) {
        return vec![hidden];
    }
    if let Some(link) = lock::dead_link(dir) {
        return vec![elsewhere(CHECK, &link)];
    }
    if !dir.is_dir() && was_at_work(dir) {
        return vec![problem(
            CHECK,
            format!(
                "{} is gone, and was there: acknowledged readings in it that were in no batch yet are lost",
                dir.display()
            ),
            "put it back while the agent is stopped, if there is a copy; else the agent makes a new one, and notes that it was gone",
        )];
    }
    if !dir.is_dir() {
        return vec![ok(CHECK, "none yet: the agent makes it")];
    }
    let inspection = match journal::inspect::Inspection::open(Arc::new(seglog::Disk), dir) {
        Ok(inspection) => inspection,
        Err(error) => return vec![not_given(CHECK, &error, is_ours(dir))],
    };
    let (segments, bytes) = inspection.size();
    let found = format!("{}, {}", things(segments as u64, "segment"), size(bytes));
    let mut findings: Vec<Finding> = unreadable(CHECK, inspection.unreadable()).into_iter().collect();
    findings.extend(ends_early(&inspection, position, was_at_work(dir)).map(|gone| {
        problem(
            CHECK,
            format!("{found}; {gone}"),
            "put back what was removed while the agent is stopped, if there is a copy; else nothing: when it starts the agent counts what is gone, as far as anybody knows how much that was, and notes it in `status`. Check the disk (dmesg, smartctl)",
        )
    }));
    if findings.is_empty() {
        findings.push(ok(CHECK, found));
    }
    findings
}

/// What is gone from the journal's end, by what its mark or the spool know of it: a sentence's end.
fn ends_early(
    inspection: &journal::inspect::Inspection,
    position: Position,
    was_at_work: bool,
) -> Option<String> {
    if let Some(gap) = inspection.cut_off() {
        return Some(format!(
            "positions {} to {} are gone from its end ({}): they were acknowledged",
            gap.first,
            gap.last,
            things(gap.records(), "record")
        ));
    }
    let last = inspection.last()?;
    if last < position {
        return Some(format!(
            "positions {} to {position} are gone from its end: batches or the fold's checkpoint have what was in those, but what was acknowledged behind them and was in no batch yet is lost",
            last + 1
        ));
    }
    (inspection.size().0 == 0 && was_at_work).then(|| {
        "there were some, and they are gone: acknowledged readings in them that were in no batch yet are lost".to_owned()
    })
}

/// That segments can't be read, whoever asks.
fn unreadable(check: &'static str, segments: &[seglog::Unreadable]) -> Option<Finding> {
    let first = segments.first()?;
    let others = match segments.len() - 1 {
        0 => String::new(),
        n => format!("; {} more", things(n as u64, "segment")),
    };
    Some(problem(
        check,
        format!("{} can't be read: {}{others}", first.file.display(), first.why),
        "put the segment back while the agent is stopped, if there is a copy; else its next start, or `telemetryx-agent spool repair`, moves to quarantine what stands there. Check the disk (dmesg, smartctl)",
    ))
}

/// Files in any folder named `quarantine`.
fn quarantined(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| match entry.file_name() == "quarantine" {
            true => fs::read_dir(entry.path()).map_or(0, |files| files.count() as u64),
            false => quarantined(&entry.path()),
        })
        .sum()
}

/// Whether the model that is configured can be used.
pub fn model(config: &Config) -> Finding {
    const CHECK: &str = "model";
    let remedy = "set model.host_dir to a folder with manifest.json and model.onnx of one model, or leave it out for the agent's own";
    let record = match models::host_record(&config.model, Stamp::default()) {
        Ok(record) => record,
        Err(error) => return problem(CHECK, format!("{error:#}"), remedy),
    };
    let Record::Model { slot, model: Some((manifest, onnx)), .. } = record else {
        return ok(CHECK, "switched off");
    };
    match models::scorer().set_model(&slot, Some((&manifest, &onnx))) {
        Ok(Some((id, version))) => ok(CHECK, format!("{id} {version} loads")),
        Ok(None) => ok(CHECK, "switched off"),
        Err(error) => problem(CHECK, error.to_string(), remedy),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn what_is_not_given_is_a_problem_of_the_agents_user_and_tells_another_who_should_look() {
        let denied = |kind: std::io::ErrorKind| seglog::OpenError::Io {
            doing: "read",
            path: "/data/1.seg".into(),
            source: kind.into(),
        };
        let error = spool::inspect::InspectError::List(denied(std::io::ErrorKind::PermissionDenied));
        let others = not_given("spool", &error, false);
        assert_eq!(others.level, Level::Warning);
        assert!(others.found.contains("/data/1.seg") && others.remedy.contains("as the agent's user"));
        assert_eq!(not_given("spool", &error, true).level, Level::Problem);
        let error = journal::OpenError::Log(denied(std::io::ErrorKind::Other));
        assert_eq!(not_given("journal", &error, false).level, Level::Problem, "that is so for everybody");
    }

    #[test]
    fn what_is_on_a_disk_that_is_not_mounted_is_not_called_gone() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir_all(data.path().join("spool/log")).unwrap();
        fs::create_dir_all(data.path().join("journal")).unwrap();
        fs::write(data.path().join(data_dir::CHECKPOINT), b"").unwrap();
        for (name, check) in
            [("spool", "spool"), ("journal", "journal"), (data_dir::CHECKPOINT, "checkpoint")]
        {
            let (path, aside) = (data.path().join(name), data.path().join("aside"));
            fs::rename(&path, &aside).unwrap();
            std::os::unix::fs::symlink(data.path().join("mnt/there"), &path).unwrap();
            let findings = examine(data.path());
            let finding = findings.iter().find(|finding| finding.check == check).unwrap();
            assert_eq!(finding.level, Level::Problem, "{finding:?}");
            assert!(finding.found.contains("is a link to") && !finding.found.contains("lost"), "{finding:?}");
            assert!(finding.remedy.contains("mount that disk"), "{finding:?}");
            fs::remove_file(&path).unwrap();
            fs::rename(&aside, &path).unwrap();
        }
    }

    #[test]
    fn a_checkpoint_that_is_damaged_or_gone_is_told_with_what_that_takes() {
        let data = tempfile::tempdir().unwrap();
        let (checkpoint, journal) = (data.path().join(data_dir::CHECKPOINT), data.path().join("journal"));
        fs::create_dir_all(&journal).unwrap();
        let told = || {
            let found = examine(data.path()).into_iter().find(|finding| finding.check == "checkpoint");
            found.map(|finding| (finding.level, finding.found))
        };
        assert_eq!(told(), None, "none was written yet");
        fs::write(&checkpoint, vec![0; 8192]).unwrap();
        assert_eq!(told(), None, "none was set yet");
        fs::write(&checkpoint, vec![0x55; 8192]).unwrap();
        let (level, found) = told().unwrap();
        assert!(level == Level::Warning && found.contains("is damaged: the journal has all"), "{found}");
        let (mut log, _) =
            seglog::Log::open(Arc::new(seglog::Disk), &journal, seglog::Options::default()).unwrap();
        for _ in 0..2 {
            log.append(b"x").unwrap();
            log.roll().unwrap();
        }
        drop(log);
        let oldest = fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path());
        fs::remove_file(oldest.filter(|path| path.extension().is_some()).min().unwrap()).unwrap();
        for how in ["damaged", "gone"] {
            let (level, found) = told().unwrap();
            assert_eq!(level, Level::Problem);
            assert!(found.contains(&format!("is {how}: what open windows held")), "{found}");
            assert!(found.ends_with("records before 2 is lost"), "{found}");
            _ = fs::remove_file(&checkpoint);
        }
    }

    #[test]
    fn a_cursor_or_a_segment_that_cannot_be_opened_is_named_and_never_called_sound() {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("spool");
        fs::create_dir_all(dir.join("log")).unwrap();
        assert_eq!(spool(&dir, None).0[0].level, Level::Ok);
        // Nobody may open a link whose name the system refuses, root neither.
        let refused = "x".repeat(300);
        for name in ["cursor", "log/00000000000000000001-00000001.seg"] {
            let path = dir.join(name);
            std::os::unix::fs::symlink(&refused, &path).unwrap();
            let finding = spool(&dir, None).0.remove(0);
            assert_eq!(finding.level, Level::Problem, "{finding:?}");
            assert!(finding.found.contains(path.to_str().unwrap()), "{finding:?}");
            assert!(finding.remedy.contains("agent's user"), "{finding:?}");
            fs::remove_file(&path).unwrap();
        }
        for log in ["spool/log", "journal"] {
            let path = data.path().join(log).join("00000000000000000001-00000001.seg");
            fs::create_dir_all(&path).unwrap();
            let findings = examine(data.path());
            let finding = findings.iter().find(|finding| finding.level == Level::Problem).unwrap();
            assert!(finding.found.contains("it is a folder"), "{finding:?}");
            assert!(finding.remedy.contains("spool repair"), "{finding:?}");
            fs::remove_dir(&path).unwrap();
        }
        assert_eq!(spool(&dir, None).0[0].level, Level::Ok);
    }

    #[test]
    fn one_thing_that_is_wrong_hides_no_other() {
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("spool");
        // A segment that can't be read, and a cursor that can't be used.
        fs::create_dir_all(dir.join("log/00000000000000000001-00000001.seg")).unwrap();
        fs::write(dir.join("cursor"), vec![255; 8192]).unwrap();
        fs::create_dir_all(data.path().join("journal")).unwrap();
        let mut checkpoint =
            folding::Checkpoint::open(Arc::new(seglog::Disk), &data.path().join(data_dir::CHECKPOINT))
                .unwrap();
        checkpoint.set(7, Some(5), None, None, b"fold").unwrap();
        let said = |found: &[Finding]| {
            found.iter().map(|finding| format!("{:?} {}", finding.level, finding.found)).collect::<Vec<_>>()
        };
        let found = said(&spool(&dir, data_dir::saved(data.path()).as_ref()).0);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("Problem") && found[0].contains("it is a folder"), "{found:?}");
        assert!(found[1].contains("Warning") && found[1].contains("the cursor can't be used"), "{found:?}");
        // Without that segment all that was in the spool is gone, whatever became of the cursor.
        fs::remove_dir(dir.join("log/00000000000000000001-00000001.seg")).unwrap();
        let found = said(&spool(&dir, data_dir::saved(data.path()).as_ref()).0);
        assert!(found[0].contains("Problem") && found[0].contains("the spool is gone"), "{found:?}");
        assert!(found[1].contains("the cursor can't be used"), "{found:?}");
    }

    #[test]
    fn a_checkpoint_that_is_there_and_is_not_given_is_named() {
        let folder = tempfile::tempdir().unwrap();
        // Refused to everybody, as wrong rights refuse a file to all but root.
        std::os::unix::fs::symlink("x".repeat(300), folder.path().join(data_dir::CHECKPOINT)).unwrap();
        let findings = examine(folder.path());
        let finding = findings.iter().find(|finding| finding.check == "checkpoint").unwrap();
        assert_eq!(finding.level, Level::Problem, "{finding:?}");
        assert!(finding.found.contains(data_dir::CHECKPOINT), "{finding:?}");
    }

    #[test]
    fn the_model_that_comes_with_the_agent_loads_and_a_missing_one_is_named() {
        let mut config = Config::default();
        assert_eq!(model(&config).level, Level::Ok);
        config.model.host_dir = Some("/nope".into());
        let finding = model(&config);
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.found.contains("/nope"), "{finding:?}");
    }

    #[test]
    fn files_in_any_quarantine_are_counted_and_nothing_at_all_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        assert!(examine(folder.path()).iter().all(|finding| finding.level == Level::Ok));
        fs::create_dir(folder.path().join("spool")).unwrap();
        fs::write(folder.path().join("spool/cursor"), b"x").unwrap();
        assert_eq!(examine(folder.path())[0].level, Level::Problem, "its segments were removed");
        let quarantine = folder.path().join("spool/log/quarantine");
        fs::create_dir_all(&quarantine).unwrap();
        fs::write(quarantine.join("1.bin"), b"x").unwrap();
        assert_eq!(quarantined(folder.path()), 1);
        assert_eq!(examine(folder.path()).last().unwrap().level, Level::Warning);
    }
}
