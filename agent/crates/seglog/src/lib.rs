//! One segmented, checksummed, append-only log. Journal, spool and the MQTT session store are three
//! instances of it (docs/decisions/0002). This page is its specification.
//!
//! Floor 1: knows bytes and files, and nothing of what they mean.
//!
//! # What it is for
//! * Whatever [`Log::sync`] confirmed is there after a crash, a power cut or a `kill -9`, in order, and
//!   nothing is there that was never appended.
//! * Damage costs the records whose bytes it hit. What lies before and after them is read, the numbers
//!   of those lost are reported, and the damaged bytes are kept. Opening never fails for it.
//! * A full disk passes: nothing is lost while it lasts, and releasing works on it.
//! * A number names one record for ever, also after everything was released or the tail was torn.
//! * Opening costs the same with 10 GB in the log as with none.
//!
//! One writer ([`Log`], which holds a lock on the directory), any number of [`Reader`]s beside it.
//!
//! # On disk
//! A directory holds `lock`, the segments and, after damage, `quarantine/`; beside them `mark`, where the owner keeps one
//! (`mark.rs`). No file beside the data is needed to read it, or could change what is read. All integers are little-endian.
//! ```text
//! segment's name   <first, 20 digits>-<salt, 8 hex digits>.seg
//! segment          header 64 B, record*
//! header           copy 32 B, the same copy again
//! copy             magic 8 ("TXSEG" 0 0 1; the last byte is the version)
//!                  first u64       number of its first record, as in the name
//!                  follows u64     one more than the last record before this segment
//!                  reserved u32    0
//!                  crc u32         CRC32C of the 28 bytes before
//! record           len u32         of the payload
//!                  crc u32         CRC32C of len, number and payload, begun with the log's salt
//!                  number u64
//!                  payload
//! quarantine/      <first>-<offset, 10 digits>.bin    bytes of that segment from that offset on
//! ```
//! `first` is larger than `follows` where numbers were skipped: those in between never named a record.
//! The salt is random and the same for all segments of a log. It is in the name, where no damaged sector
//! loses it; since senders don't know it, no payload can hold bytes that pass for a record.
//!
//! # Invariants
//! 1. Records of a segment have consecutive numbers, from its `first` on. Segments don't overlap.
//! 2. Only the newest segment can be torn: one is durable, name included, before the next is created.
//! 3. A file that holds records is never written again, but for appending by the [`Log`] that created
//!    it. Opening begins a new segment with its first record; reading never writes.
//! 4. The newest segment is never unlinked, and the name of the newest is durable before an older one is
//!    unlinked: so the numbers used are always on the disk.
//! 5. [`Log::durable`] moves only after the fsync of the data and, for a new segment, of the directory.
//!
//! # Operations
//! **Append** copies the record into a buffer and gives it the next number. It writes, without fsync,
//! when more than 1 MiB waits, and begins a segment when the current one is full (which first makes that
//! one durable). **Sync** writes the buffer, fdatasyncs the file and, once for each segment, fsyncs the
//! directory. **Release** unlinks, oldest first, the segments whose records are all released, after
//! copying to quarantine what a reader found damaged in them, and fsyncs the directory. (An owner who has
//! copied what it needs may release any one segment but the newest.) **Read** looks up
//! in memory which segments there are and how far the newest was written, checks every record, and goes
//! on in the next segment when its own was released.
//!
//! When the disk has no space, a write fails as a whole: its bytes stay in the buffer and go to the same
//! place when it is tried again. Any other failed write, and any failed fsync, **poisons** the log: what
//! is on the disk is not known then, and a second fsync that succeeds would prove nothing, since the
//! kernel may have dropped the pages. A poisoned log takes nothing; opening it anew looks.
//!
//! # Recovery
//! [`Log::open`] lists the segments and reads only the newest. It first fsyncs it and the directory, then
//! drops the file from the page cache, and reads what the disk really has: what it finds intact is
//! durable. Where it meets a bad record it looks, byte by byte, for the next intact one.
//! * *There is one*: the bytes between are **damage**. They are reported as a [`Gap`] and copied to
//!   quarantine. (Records in a torn write that reached the disk out of order look the same. They were
//!   never confirmed: the report errs on the side of telling.)
//! * *There is none*: the bytes are the **torn tail**, never confirmed, and no gap. They stay where they
//!   are, and a copy goes to quarantine, for it may be that the last record rotted. For the same reason
//!   each number that they can hold is skipped.
//!
//! NOTE: a write that was torn and a confirmed last record whose bytes rotted, or were cut off, are the same bytes. What tells
//! them apart is the **mark** of an owner who calls [`Log::confirm`]: records up to it were durable, so what is missing up to there is
//! damage ([`Recovery::cut_off`]), also where all segments are gone. It is not synced, and lags behind after a power cut: then, and
//! without one, rot of the last records is the one damage that is not told. What it costs is the owner's
//! matter: the spool cuts the rows again, by what the bytes still say ([`Recovery::torn_at`]), and has in its
//! cursor what the journal has let go of.
//!
//! A segment that the disk doesn't give at all (EIO when it is opened, or something else stands in its place: a folder, a
//! pipe, a link that leads nowhere) is moved to quarantine, and is a gap. Of the newest nobody knows then which numbers were
//! used: so many are skipped that none is given twice, and an empty segment remembers that before the other goes.
//!
//! One that the disk stops giving while the log is in use is an error to its reader, who tries again. What doesn't pass, the
//! owner passes over ([`Reader::pass_over`]): then it is a gap, and goes to quarantine instead of being unlinked.
//!
//! Older segments are checked by whoever reads them: at the end of one, the next one's `follows` tells
//! whether records are missing or the tail was torn. Damage in the newest is so reported twice, by
//! [`Recovery`] for the operator's log and by the reader, which is the one to count.
//!
//! # What is assumed of the disk
//! * fsync and fdatasync return after the data is where a power cut can't reach it. A disk that lies about
//!   that loses what it lied about.
//! * Sectors that were not written don't change. Those being written may hold anything afterwards, and
//!   may reach the disk in any order.
//! * A file's name is durable after an fsync of its directory. The order of directory changes is not
//!   relied on before that.
//! * `flock` works. (On a network file system that ignores it, two writers would destroy each other.)
//! * For [`Cell`]: writing over bytes of a file needs no new space. Copy-on-write file systems don't keep
//!   that; there a full disk can stop a cursor.

mod cell;
mod disk;
mod error;
mod format;
mod index;
mod log;
mod mark;
mod quarantine;
mod reader;
mod recover;
pub mod regular;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod storage;
mod walk;

pub use cell::Cell;
pub use disk::Disk;
pub use error::{AppendError, CellError, OpenError, ReadError, ReleaseError, SyncError, remedy};
pub use log::{Log, Options, inspect};
pub use mark::Mark;
pub use reader::{Damage, Entry, Reader, Readers, Unreadable};
pub use recover::{Gap, Recovery};
pub use regular::NotRegular;
pub use storage::{File, Guard, Mode, Storage, is_full, is_unreadable};
pub use walk::Met;
