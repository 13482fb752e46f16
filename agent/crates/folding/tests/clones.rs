//! The thread between journal and spool, on a real disk: what two copies of one disk make of what they share.
#![allow(clippy::unwrap_used, reason = "a test may end so")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fold::NoScorer;
use folding::{Checkpoint, Folding, start};
use journal::{Journal, JournalConfig};
use seglog::Disk;
use spool::{Spool, SpoolConfig};
use telemetry::{DeviceClock, Intake, Record, SeriesDef, SeriesKey, SeriesTable, Stamp};

/// Opens what lies in a folder, appends `readings`, and folds all of it if asked to; ends with no word of goodbye otherwise.
fn start_in(dir: &Path, readings: std::ops::Range<i64>, folding: bool) -> Option<Spool> {
    let table = SeriesTable::new(100);
    let (spool, _) =
        Spool::open(SpoolConfig::new(dir.join("spool")), Arc::new(Disk), Arc::clone(&table), "edge").unwrap();
    let config = JournalConfig::new(dir.join("journal"));
    let (journal, _) = Journal::open(config, Arc::new(Disk), Arc::clone(&table)).unwrap();
    let key = SeriesKey::new("temperature", [("device", "pump")]).unwrap();
    let series = table.intern(SeriesDef::bare(key)).unwrap();
    for id in readings {
        let mut intake = Intake::new(1, Stamp { wall: id, mono: 0 });
        intake.series.push(series);
        intake.push(0, id, id as f64, 0);
        journal.append(&Record::Intake(intake)).unwrap();
    }
    journal.wait_blocking(journal.last(), Duration::from_secs(30)).unwrap();
    if !folding {
        return None;
    }
    let checkpoint = Checkpoint::open(Arc::new(Disk), &dir.join("checkpoint")).unwrap();
    let clock = |at| DeviceClock { at, boot: [1; 16], synced: true };
    let work =
        Folding::restore(journal.clone(), spool.clone(), checkpoint, &table, || Box::new(NoScorer), clock);
    let (journal, spool) = (work.journal.clone(), work.spool.clone());
    let mut work = Some(work);
    let running = start(&journal, &spool, move || Ok(work.take().unwrap()), Stamp::default).unwrap();
    journal.close();
    running.finish();
    assert_eq!(spool.position(), journal.last());
    Some(spool)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Name and checksum of each batch, in order.
fn held(spool: &Spool) -> Vec<(u64, Vec<u8>)> {
    spool.hello().unacked.into_iter().map(|held| (held.seq, held.checksum)).collect()
}

#[test]
fn two_copies_of_a_disk_cut_what_they_share_alike_though_one_crashed_again_before_it_folded() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    start_in(&one, 0..10, false);
    start_in(&one, 10..20, false);
    copy(&one, &two);

    let first = held(&start_in(&one, 0..0, true).unwrap());
    start_in(&two, 100..110, false);
    let second = held(&start_in(&two, 0..0, true).unwrap());

    assert_eq!(first, second[..first.len()], "a batch of shared readings has one name and one content");
    assert_eq!(second.len(), first.len() + 1, "what only the second has lies in a batch of its own");
}
