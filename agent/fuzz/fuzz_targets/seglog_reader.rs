//! Any bytes in the place of segments: opening and reading never panic, what is read is in order and
//! never beyond `next`, and the log takes records afterwards.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use seglog::sim::SimDisk;
use seglog::{Log, Options};

const OPTIONS: Options = Options { segment_bytes: 512, max_record: 1024 };

/// A small log to damage: two segments with records.
fn intact() -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let sim = SimDisk::new(1);
    let (mut log, _) = Log::open(sim.storage(), Path::new("/log"), OPTIONS).unwrap();
    for number in 0..12u8 {
        log.append(&vec![number; usize::from(number) * 9]).unwrap();
    }
    log.sync().unwrap();
    sim.paths().into_iter().map(|path| (path.clone(), sim.read(&path).unwrap())).collect()
}

fuzz_target!(|data: &[u8]| {
    let sim = SimDisk::new(1);
    match data.split_first() {
        // Edits of an intact log: (offset u16, byte) each.
        Some((mode, edits)) if mode & 1 == 1 => {
            let mut files = intact();
            for edit in edits.chunks_exact(3) {
                let total: usize = files.iter().map(|(_, content)| content.len()).sum();
                let mut at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % total.max(1);
                for (_, content) in &mut files {
                    if at < content.len() {
                        if mode & 2 == 2 { content[at] = edit[2] } else { content.truncate(at.max(1)) }
                        break;
                    }
                    at -= content.len();
                }
            }
            files.iter().for_each(|(path, content)| sim.put(path, content));
        }
        Some((_, bytes)) => {
            let (one, two) = bytes.split_at(bytes.len() / 2);
            sim.put(Path::new("/log/00000000000000000001-00000000.seg"), one);
            sim.put(Path::new("/log/00000000000000000007-00000000.seg"), two);
        }
        None => {}
    }
    let (mut log, recovery) = Log::open(sim.storage(), Path::new("/log"), OPTIONS).unwrap();
    assert!(recovery.unverified.is_none());
    let mut reader = log.reader(0);
    let mut last = 0;
    while let Some(entry) = reader.next().unwrap() {
        assert!(entry.number > last && entry.number < log.next());
        last = entry.number;
    }
    for gap in reader.take_gaps() {
        assert!(gap.first <= gap.last + 1 && gap.last < log.next());
    }
    let number = log.append(b"goes on").unwrap();
    assert!(number > last);
    log.sync().unwrap();
    drop(log);
    let (log, _) = Log::open(sim.storage(), Path::new("/log"), OPTIONS).unwrap();
    assert_eq!(log.reader(number).next().unwrap().unwrap().payload, b"goes on");
});
