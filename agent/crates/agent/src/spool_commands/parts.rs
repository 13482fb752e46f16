//! Files that don't have their name yet (`.NAME.part`), of this process: what ends it takes them away.
//!
//! A part is made and noted, or given its name and struck off, under one lock. Whoever is told to end (SIGTERM, SIGINT, SIGHUP)
//! takes the lock for good, removes what is noted, and is gone: so nothing is made behind it, and files that are named together
//! are all named or none.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use parking_lot::{Mutex, MutexGuard};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that are there.
pub type Parts = BTreeSet<PathBuf>;

static PARTS: Mutex<Parts> = Mutex::new(Parts::new());

const ENDING: [(SignalKind, &str); 3] = [
    (SignalKind::terminate(), "SIGTERM"),
    (SignalKind::interrupt(), "SIGINT"),
    (SignalKind::hangup(), "SIGHUP"),
];

/// The parts, which nobody else makes, names or removes meanwhile.
pub fn all() -> MutexGuard<'static, Parts> {
    PARTS.lock()
}

/// From now on a signal that ends this process removes the parts first. One that is ignored, as under nohup, stays so.
///
/// # Errors
/// When the system doesn't let us listen for signals.
pub fn removed_at_the_end() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ignored = ignored();
    let mut signals = Vec::new();
    {
        let _in = runtime.enter();
        for (kind, name) in ENDING {
            let number = kind.as_raw_value();
            if ignored & (1 << (number - 1)) == 0 {
                signals.push((signal(kind)?, number, name));
            }
        }
    }
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let (number, name) = runtime.block_on(first(&mut signals));
        let parts = all();
        let removed = parts.iter().filter(|part| std::fs::remove_file(part).is_ok()).count();
        // Nothing can be said when standard error is closed.
        let _ = match removed {
            0 => Ok(()),
            _ => writeln!(
                std::io::stderr(),
                "telemetryx-agent: ended by {name}: what was written is removed, since it isn't whole"
            ),
        };
        // As a shell says of whom a signal ended. The lock is never let go.
        std::process::exit(128 + number)
    })?;
    Ok(())
}

async fn first(signals: &mut [(Signal, i32, &'static str)]) -> (i32, &'static str) {
    std::future::poll_fn(|context| {
        for (signal, number, name) in signals.iter_mut() {
            if signal.poll_recv(context).is_ready() {
                return std::task::Poll::Ready((*number, *name));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// The signals that this process ignores, a bit each; none where that can't be known.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Command, Stdio};

    use rustix::process::{Pid, Signal, kill_process};

    use super::super::target::{Pieces, Target, Whole};
    use super::*;

    const FOLDER: &str = "TELEMETRYX_TEST_PARTS";

    /// What the test below runs in a process of its own, which a signal ends.
    fn export(folder: &Path) -> ! {
        removed_at_the_end().unwrap();
        let mut whole = Target::File(Whole::create(&folder.join("whole"), false).unwrap());
        whole.record(b"123\n").unwrap();
        let mut pieces = Target::Pieces(Pieces::create(&folder.join("pieces"), 4, false).unwrap());
        for _ in 0..3 {
            pieces.record(b"123\n").unwrap();
        }
        let mut named = Target::File(Whole::create(&folder.join("named"), false).unwrap());
        named.record(b"123\n").unwrap();
        named.finish().unwrap();
        writeln!(std::io::stdout(), "\nready").unwrap();
        loop {
            std::thread::park();
        }
    }

    /// Once each left its hidden parts, which could be as many as records.
    #[test]
    fn an_export_that_is_told_to_end_leaves_nothing_but_what_is_whole() {
        if let Some(folder) = std::env::var_os(FOLDER) {
            export(Path::new(&folder));
        }
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let folder = tempfile::tempdir().unwrap();
            // Whoever runs the tests may ignore signals (nohup, a background job), and its children would too.
            let mut child = Command::new("env")
                .arg("--default-signal")
                .arg(std::env::current_exe().unwrap())
                .args(["an_export_that_is_told_to_end_leaves_nothing_but_what_is_whole", "--nocapture"])
                .env(FOLDER, folder.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap() == "ready"));
            let names = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
            assert_eq!(names().count(), 6, "a whole file, a part, three pieces and what claims their name");
            kill_process(Pid::from_child(&child), signal).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(128 + signal.as_raw()));
            assert_eq!(names().collect::<Vec<_>>(), ["named"]);
        }
    }
}
