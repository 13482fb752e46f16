//! What stands in a file's place on a real disk: a pipe, a socket, a folder, a device, a link that leads nowhere. Nothing waits
//! for it, it is kept beside, and what is beside it is read. A test here that would wait is ended after a while, and fails.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end so")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use seglog::{Cell, Disk, Log, Mode, Options, Storage, is_unreadable, regular};

/// Beyond any machine's slowness.
const AT_LAST: Duration = Duration::from_secs(60);
const OPTIONS: Options = Options { segment_bytes: 300, max_record: 1000 };

/// Ends a test that waits for ever.
fn within<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, over) = sync_channel(1);
    std::thread::spawn(move || _ = done.send(what()));
    over.recv_timeout(AT_LAST).unwrap_or_else(|error| panic!("it waits, or panicked: {error}"))
}

fn pipe(path: &Path) {
    let made = rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0);
    made.unwrap();
}

/// What it is called, and how it is put there.
type Kind = (&'static str, fn(&Path));

/// Each thing that may stand there.
const KINDS: [Kind; 6] = [
    ("a pipe", pipe),
    ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("a folder", |path| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("with"), "content").unwrap();
    }),
    ("a device", |path| symlink("/dev/zero", path).unwrap()),
    ("a link that leads nowhere", |path| symlink(path, path).unwrap()),
    ("a link that leads nowhere", |path| symlink("gone/nowhere", path).unwrap()),
];

/// Once more for each, with one in place of a file in a folder of its own.
fn each(name: &str, test: impl Fn(&'static str, PathBuf) + Send + Clone + 'static) {
    for (what, put) in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let test = test.clone();
        put(&path);
        within(move || test(what, path));
    }
}

/// A log of several segments in a folder, and those.
fn filled(dir: &Path) -> Vec<PathBuf> {
    let (mut log, _) = Log::open(Arc::new(Disk), dir, OPTIONS).unwrap();
    for number in 1..=12_u8 {
        log.append(&[number; 100]).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|is| is == "seg")).collect();
    segments.sort();
    assert!(segments.len() > 4);
    segments
}

fn first_of(segment: &Path) -> u64 {
    segment.file_name().unwrap().to_str().unwrap()[..20].parse().unwrap()
}

fn read(readers: &seglog::Readers) -> Vec<u8> {
    let mut reader = readers.reader(1);
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        found.push(entry.payload[0]);
    }
    found
}

#[test]
fn it_is_refused_at_once_and_said_to_be_what_it_is() {
    each("file", |what, path| {
        for mode in [Mode::Read, Mode::Write] {
            let error = Disk.open(&path, mode).err().unwrap();
            assert!(is_unreadable(&error), "{what}: {error}");
            assert_eq!(error.to_string(), format!("it is {what}, and not a file"));
        }
        assert!(regular::read(&path, 10).is_err());
    });
}

#[test]
fn a_new_file_takes_its_name_and_it_is_kept_beside() {
    each("file", |what, path| {
        let file = Disk.open(&path, Mode::Create).unwrap();
        file.write_at(b"new", 0).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new", "{what}");
        let aside = path.with_extension("unreadable");
        assert!(fs::symlink_metadata(&aside).is_ok_and(|there| !there.is_file()), "{what}");
    });
}

#[test]
fn what_a_link_leads_to_is_not_emptied_for_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let (other, path) = (folder.path().join("other"), folder.path().join("file"));
    fs::write(&other, "of somebody").unwrap();
    symlink(&other, &path).unwrap();
    Disk.open(&path, Mode::Create).unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"of somebody");
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn a_lock_is_taken_in_its_place() {
    each("lock", |what, path| {
        let held = Disk.lock(&path).unwrap();
        assert!(held.is_some() && Disk.lock(&path).unwrap().is_none(), "{what}");
    });
}

#[test]
fn a_folder_is_made_in_the_place_of_what_is_none_and_a_disk_that_is_not_mounted_is_waited_for() {
    each("folder", |what, path| {
        let dir = path.join("below");
        let made = Disk.create_dir_all(&dir);
        let link_to_nowhere = fs::read_link(&path).is_ok_and(|to| to == Path::new("gone/nowhere"));
        assert_eq!(made.is_err(), link_to_nowhere, "{what}: {made:?}");
        assert_eq!(dir.is_dir(), !link_to_nowhere, "{what}");
        if let Err(error) = made {
            assert!(error.to_string().contains("a link to gone/nowhere, which isn't there"), "{error}");
        }
    });
}

#[test]
fn a_cell_is_damaged_and_takes_values_again_however_often_that_happens() {
    each("cell", |what, path| {
        for value in [b"first", b"other"] {
            let mut cell = Cell::open(Arc::new(Disk), &path, 100).unwrap();
            assert!(cell.damaged() && cell.get().is_none(), "{what}");
            cell.set(value).unwrap();
            assert_eq!(Cell::peek(&Disk, &path).unwrap(), (Some(value.to_vec()), false));
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }
        assert!(path.with_extension("unreadable.2").is_dir(), "{what}");
    });
}

#[test]
fn of_a_log_with_one_in_place_of_any_segment_the_rest_is_read_and_opening_settles_it() {
    for (what, put) in KINDS {
        for at in [0, 2, usize::MAX] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().to_owned();
            within(move || {
                let segments = filled(&dir);
                let bad = &segments[at.min(segments.len() - 1)];
                fs::remove_file(bad).unwrap();
                put(bad);
                let end = segments.iter().map(|path| first_of(path)).find(|first| *first > first_of(bad));
                let range = first_of(bad)..end.unwrap_or(13);
                let rest: Vec<u8> = (1..=12).filter(|number| !range.contains(&u64::from(*number))).collect();

                let looked = seglog::inspect(Arc::new(Disk), &dir).unwrap();
                assert_eq!(read(&looked), rest, "{what}");
                let [named] = looked.unreadable() else { panic!("{what} isn't named") };
                assert_eq!((&named.file, named.first), (bad, first_of(bad)));
                assert!(named.why.contains(what), "{named:?}");

                let (log, recovery) = Log::open(Arc::new(Disk), &dir, OPTIONS).unwrap();
                let [moved] = &recovery.set_aside[..] else { panic!("{what}: {recovery:?}") };
                assert!(fs::symlink_metadata(moved).is_ok() && fs::symlink_metadata(bad).is_err());
                assert_eq!((read(&log.readers()), recovery.unverified), (rest.clone(), None), "{what}");
                drop(log);
                let looked = seglog::inspect(Arc::new(Disk), &dir).unwrap();
                assert_eq!((looked.unreadable().len(), read(&looked)), (0, rest), "{what}");
            });
        }
    }
}

/// Once the numbers began again where the process ended before it had written a record.
#[test]
fn numbers_of_a_newest_segment_that_is_gone_are_not_given_again_after_an_opening_that_wrote_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let newest = filled(folder.path()).pop().unwrap();
    fs::remove_file(&newest).unwrap();
    fs::create_dir(&newest).unwrap();
    let open = || Log::open(Arc::new(Disk), folder.path(), OPTIONS).unwrap();
    drop(open());
    let (mut log, recovery) = open();
    assert!(recovery.set_aside.is_empty() && recovery.records < 12, "{recovery:?}");
    assert!(log.append(b"next").unwrap() > 12);
    log.sync().unwrap();
    let mut reader = log.reader(1);
    while reader.next().unwrap().is_some() {}
    let gaps = reader.take_gaps();
    assert_eq!(gaps.iter().map(|gap| gap.first).collect::<Vec<_>>(), [first_of(&newest)]);
}

#[test]
fn the_quarantine_may_be_none_itself() {
    for (what, put) in KINDS.into_iter().filter(|(what, _)| !what.contains("nowhere")) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_owned();
        within(move || {
            let bad = filled(&dir).remove(1);
            fs::remove_file(&bad).unwrap();
            put(&bad);
            put(&dir.join("quarantine"));
            let (_, recovery) = Log::open(Arc::new(Disk), &dir, OPTIONS).unwrap();
            assert_eq!(recovery.set_aside.len(), 1, "{what}");
        });
    }
}

#[test]
fn bytes_behind_the_last_record_of_an_older_segment_are_named_and_are_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let older = filled(folder.path()).remove(1);
    let offset = fs::metadata(&older).unwrap().len();
    fs::OpenOptions::new().append(true).open(&older).unwrap().write_all(b"garbage behind").unwrap();
    let looked = seglog::inspect(Arc::new(Disk), folder.path()).unwrap();
    assert_eq!(read(&looked), (1..=12).collect::<Vec<u8>>());
    assert_eq!(looked.damage(), []);
    let [tail] = &looked.tails()[..] else { panic!("not named") };
    assert_eq!((&tail.file, tail.offset, tail.bytes), (&older, offset, 14));
}

#[test]
fn a_pipe_that_is_given_is_read_to_its_end_and_has_an_end_in_time_and_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    pipe(&path);
    within(move || {
        let late = path.clone();
        let writer = std::thread::spawn(move || fs::write(late, "a secret\n").unwrap());
        assert_eq!(regular::read_given_text(&path, 100).unwrap(), "a secret\n");
        writer.join().unwrap();
        let file = regular::given(&path).unwrap();
        let nobody = regular::read_within(&file, 100, Duration::from_millis(1)).unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::TimedOut);
        // Somebody who never ends.
        let held = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        (&held).write_all(&[b'x'; 1000]).unwrap();
        assert_eq!(regular::read_within(&file, 100, AT_LAST).unwrap().len(), 101);
        assert_eq!(
            regular::read_given(Path::new("/dev/zero"), 100).unwrap_err().kind(),
            std::io::ErrorKind::FileTooLarge
        );
        assert_eq!(regular::read_given(Path::new("/dev/null"), 100).unwrap(), b"");
    });
}
