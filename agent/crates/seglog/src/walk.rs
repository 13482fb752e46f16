//! A walk through a log that is looked at: every segment, every record and all damage, in order. For commands that look
//! at a log without opening it; what a record means is the owner's to say.

use std::ops::ControlFlow;
use std::path::Path;

use crate::error::ReadError;
use crate::reader::{Entry, Readers};
use crate::recover::Gap;

/// What is met on the way.
#[derive(Debug)]
pub enum Met<'a> {
    /// A segment begins: its file, and its bytes.
    Segment(&'a Path, u64),
    /// The next record, after the damage before it; without a record that is all.
    Record {
        /// Damage that was passed. A segment that was freed since it was listed shows here too: see [`Readers::freed`].
        gaps: Vec<Gap>,
        /// What comes after it; `None` at the end.
        entry: Option<Entry<'a>>,
    },
}

impl Readers {
    /// Goes through all there is. Returns the bytes at the end that are no record: being written, or the last of a writer
    /// that died; 0 when `visit` ended it.
    ///
    /// # Errors
    /// [`ReadError`] when a segment can't be opened.
    pub fn walk(&self, visit: &mut dyn FnMut(Met<'_>) -> ControlFlow<()>) -> Result<u64, ReadError> {
        let segments = self.segments();
        let mut begun = 0;
        let mut reader = self.reader(self.first().max(1));
        loop {
            let (gaps, entry) = reader.next_with_gaps()?;
            let segment = entry.map_or(u64::MAX, |entry| entry.segment_first);
            while let Some(next) = segments.get(begun).filter(|next| next.1 <= segment) {
                begun += 1;
                if visit(Met::Segment(&next.0, next.2)).is_break() {
                    return Ok(0);
                }
            }
            let ended = entry.is_none();
            if visit(Met::Record { gaps, entry }).is_break() {
                return Ok(0);
            }
            if ended {
                return Ok(reader.torn_bytes());
            }
        }
    }
}
