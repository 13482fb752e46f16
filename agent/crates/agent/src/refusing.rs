//! Why readings are refused, and the way out: one sentence each, the same in `status`, `top`, `doctor`, the health check and
//! the line for the service manager.
//!
//! What refuses is the journal; what keeps it full may lie further down the flow, and is what a person has to change.

use journal::{Fullness, Usage};
use serde::Serialize;

use crate::human::size;

/// A disk that has so much free and takes nothing lacks something else: one record and a segment's head are far less.
const PLENTY: u64 = 16 << 20;

/// Inputs push back: HTTP answers 503 with Retry-After, MQTT and TCP aren't read, and senders keep what they have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusing {
    /// `broken`, `disk`, `floor`, `cap` or `behind`.
    pub cause: &'static str,
    /// What keeps readings out.
    pub why: String,
    /// What ends it.
    pub remedy: String,
}

impl Refusing {
    /// By what the journal says, why rows can't be spooled (where they can't), and whether a collector is connected.
    pub fn now(journal: &Usage, blocked: Option<&str>, connected: bool) -> Option<Self> {
        if let Some(reason) = &journal.poisoned {
            return Some(Self {
                cause: "broken",
                why: format!("nothing can be acknowledged: {reason}"),
                remedy: "check the disk (dmesg, smartctl) and that it is mounted writable: the journal is tried again by itself"
                    .into(),
            });
        }
        let what = journal.refusing?;
        let leaves = if connected {
            "what the collector acknowledges makes room too, as long as something waits for it"
        } else {
            "or bring the link to the collector back: what is acknowledged makes room"
        };
        Some(match what {
            Fullness::Disk => Self {
                cause: "disk",
                why: match journal.free_bytes {
                    Some(bytes) if bytes >= PLENTY => format!(
                        "the disk of the data folder takes no more files or data, though {} are free: its inodes (df -i) or a quota are used up",
                        size(bytes)
                    ),
                    _ => format!("no space is left on the disk of the data folder{}", free(journal)),
                },
                remedy: format!(
                    "{}: it goes on by itself once there is; {leaves}",
                    match journal.free_bytes {
                        Some(bytes) if bytes >= PLENTY => "remove files, or raise the quota",
                        _ => "free some space",
                    }
                ),
            },
            Fullness::Floor => Self {
                cause: "floor",
                why: format!("the disk of the data folder has too little free for spool.min_free{}", free(journal)),
                remedy: format!("free some space, or lower spool.min_free; {leaves}"),
            },
            Fullness::Cap => Self {
                cause: "cap",
                why: match blocked {
                    Some(reason) => {
                        format!("the journal is at journal.max_bytes ({}), and its records wait: {reason}", size(journal.max_bytes))
                    }
                    None => format!("the journal is at journal.max_bytes ({})", size(journal.max_bytes)),
                },
                remedy: match blocked {
                    Some(_) => format!("end that, or raise journal.max_bytes; {leaves}"),
                    None => "readings come faster than this host folds them: send less, or raise journal.max_bytes if that passes"
                        .into(),
                },
            },
            Fullness::Behind => Self {
                cause: "behind",
                why: "more readings wait for the disk than are kept in memory".into(),
                remedy: "it passes by itself; if it lasts, the disk is too slow for what is sent: see `doctor`".into(),
            },
        })
    }
}

fn free(journal: &Usage) -> String {
    journal.free_bytes.map_or_else(String::new, |free| format!(" ({} free)", size(free)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(refusing: Option<Fullness>) -> Usage {
        Usage { max_bytes: 8 << 20, free_bytes: Some(3 << 20), refusing, ..Usage::default() }
    }

    #[test]
    fn each_cause_is_told_with_its_figures_and_a_way_out() {
        assert_eq!(Refusing::now(&usage(None), Some("rows wait"), false), None, "readings are taken");
        for (what, cause, said) in [
            (Fullness::Disk, "disk", "no space is left on the disk of the data folder (3.0 MiB free)"),
            (Fullness::Floor, "floor", "spool.min_free (3.0 MiB free)"),
            (Fullness::Cap, "cap", "journal.max_bytes (8.0 MiB), and its records wait: blocked by its class"),
            (Fullness::Behind, "behind", "more readings wait for the disk"),
        ] {
            let refusing = Refusing::now(&usage(Some(what)), Some("blocked by its class"), false).unwrap();
            assert_eq!(refusing.cause, cause);
            assert!(refusing.why.contains(said), "{refusing:?}");
            assert!(!refusing.remedy.is_empty());
        }
        let inodes = Usage { free_bytes: Some(52 << 20), ..usage(Some(Fullness::Disk)) };
        let inodes = Refusing::now(&inodes, None, false).unwrap();
        assert!(inodes.why.contains("52.0 MiB are free: its inodes (df -i)"), "{inodes:?}");
        assert!(inodes.remedy.starts_with("remove files"), "{inodes:?}");
        let broken = Usage { poisoned: Some("fsync: I/O error".into()), ..usage(Some(Fullness::Cap)) };
        let broken = Refusing::now(&broken, None, true).unwrap();
        assert!(broken.cause == "broken" && broken.why.contains("fsync: I/O error"), "{broken:?}");
    }

    #[test]
    fn the_way_out_depends_on_the_link() {
        let remedy =
            |connected| Refusing::now(&usage(Some(Fullness::Floor)), None, connected).unwrap().remedy;
        assert!(remedy(false).contains("bring the link to the collector back"));
        assert!(remedy(true).contains("what the collector acknowledges makes room too"));
    }
}
