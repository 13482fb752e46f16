//! What writer and readers share: which segments there are and how far each was written.
//!
//! It lives in memory only. On disk the names of the files and their content say the same.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Damaged places remembered for the quarantine; more than these are only counted.
const MAX_PLACES: usize = 4096;
const SUFFIX: &str = ".seg";

/// One segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// Number of its first record, the first part of its name.
    pub(crate) first: u64,
    /// What its checksums start from, the second part of its name.
    pub(crate) salt: u32,
    /// Bytes of it that a reader may read.
    pub(crate) end: u64,
}

/// A damaged place: bytes of a segment that are copied to quarantine before it is unlinked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// A segment as a reader needs it, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) salt: u32,
    pub(crate) end: u64,
    /// Of the last segment: one more than its last record. 0 where unknown.
    pub(crate) tail: u64,
    /// The segment behind it.
    pub(crate) following: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    segments: VecDeque<Segment>,
    tail: u64,
    damage: BTreeSet<Place>,
    /// Bytes behind the last record of a segment, where none is missing.
    tails: BTreeSet<Place>,
    /// Segments that the disk doesn't give, and that nobody waits for any more.
    passed_over: BTreeSet<u64>,
}

/// The shared index.
#[derive(Debug)]
pub(crate) struct Index {
    /// The salt of new segments.
    pub(crate) salt: u32,
    state: Mutex<State>,
}

impl Index {
    pub(crate) fn new(salt: u32, segments: VecDeque<Segment>, tail: u64) -> Self {
        Self { salt, state: Mutex::new(State { segments, tail, ..State::default() }) }
    }

    /// Enters a new, still empty segment; one of the same name is replaced.
    pub(crate) fn begin(&self, first: u64) {
        let mut state = self.state.lock();
        if state.segments.back().is_some_and(|last| last.first == first) {
            state.segments.pop_back();
        }
        state.segments.push_back(Segment { first, salt: self.salt, end: 0 });
    }

    /// The last segment was written up to `end`, and its last record is `tail - 1`.
    pub(crate) fn grow(&self, end: u64, tail: u64) {
        let mut state = self.state.lock();
        state.tail = tail;
        if let Some(last) = state.segments.back_mut() {
            last.end = end;
        }
    }

    /// A segment that wasn't given when the log was opened has so many bytes: before the last none is written any more.
    pub(crate) fn learn(&self, first: u64, end: u64) {
        let mut state = self.state.lock();
        if let Ok(at) = state.segments.binary_search_by_key(&first, |segment| segment.first) {
            state.segments[at].end = end;
        }
    }

    /// Takes out the oldest segment if all its records are at or below `upto`. The last one stays:
    /// it is what remembers the numbers.
    pub(crate) fn take_released(&self, upto: u64) -> Option<Segment> {
        let mut state = self.state.lock();
        let second = state.segments.get(1)?;
        if second.first > upto.saturating_add(1) {
            return None;
        }
        state.segments.pop_front()
    }

    /// Takes out the segment that begins with a number, wherever it lies; not the last one.
    pub(crate) fn take_segment(&self, first: u64) -> Option<Segment> {
        let mut state = self.state.lock();
        let at = state.segments.binary_search_by_key(&first, |segment| segment.first).ok()?;
        if at + 1 == state.segments.len() {
            return None;
        }
        state.segments.remove(at)
    }

    /// Puts back what [`Index::take_released`] or [`Index::take_segment`] took.
    pub(crate) fn put_back(&self, segment: Segment) {
        let mut state = self.state.lock();
        let at = state.segments.partition_point(|other| other.first < segment.first);
        state.segments.insert(at, segment);
    }

    pub(crate) fn view(&self, first: u64) -> Option<View> {
        let state = self.state.lock();
        let at = state.segments.binary_search_by_key(&first, |segment| segment.first).ok()?;
        let following = state.segments.get(at + 1).map(|segment| segment.first);
        let tail = if following.is_none() { state.tail } else { 0 };
        let Segment { salt, end, .. } = state.segments[at];
        Some(View { salt, end, tail, following })
    }

    /// The segment that holds or would hold a number; the first for a lower one.
    pub(crate) fn containing(&self, number: u64) -> Option<u64> {
        let state = self.state.lock();
        let after = state.segments.partition_point(|segment| segment.first <= number);
        state.segments.get(after.saturating_sub(1)).map(|segment| segment.first)
    }

    /// The first segment behind a name that may itself be gone.
    pub(crate) fn following(&self, first: u64) -> Option<u64> {
        let state = self.state.lock();
        let after = state.segments.partition_point(|segment| segment.first <= first);
        state.segments.get(after).map(|segment| segment.first)
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.state.lock().segments.front().map(|segment| segment.first)
    }

    pub(crate) fn tail(&self) -> u64 {
        self.state.lock().tail
    }

    pub(crate) fn segments(&self) -> Vec<Segment> {
        self.state.lock().segments.iter().copied().collect()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().segments.iter().map(|segment| segment.end).sum()
    }

    pub(crate) fn note_damage(&self, place: Place) {
        let mut state = self.state.lock();
        if state.damage.len() < MAX_PLACES && place.bytes > 0 {
            state.damage.insert(place);
        }
    }

    /// Bytes behind a segment's last record that are none, while no record is missing.
    pub(crate) fn note_tail(&self, place: Place) {
        let mut state = self.state.lock();
        if state.tails.len() < MAX_PLACES && place.bytes > 0 {
            state.tails.insert(place);
        }
    }

    /// Those that readers have met so far.
    pub(crate) fn tails(&self) -> Vec<Place> {
        self.state.lock().tails.iter().copied().collect()
    }

    /// The damaged places that readers have met so far.
    pub(crate) fn damage(&self) -> Vec<Place> {
        self.state.lock().damage.iter().copied().collect()
    }

    /// Nobody waits any more for the disk to give a segment.
    pub(crate) fn pass_over(&self, first: u64) {
        self.state.lock().passed_over.insert(first);
    }

    pub(crate) fn is_passed_over(&self, first: u64) -> bool {
        self.state.lock().passed_over.contains(&first)
    }

    /// Takes out the damaged places of one segment.
    pub(crate) fn take_damage(&self, segment: u64) -> Vec<Place> {
        let mut state = self.state.lock();
        let (taken, kept) = std::mem::take(&mut state.damage).into_iter().partition(|p| p.segment == segment);
        state.damage = kept;
        state.tails.retain(|place| place.segment != segment);
        let taken: BTreeSet<Place> = taken;
        taken.into_iter().collect()
    }
}

/// Where the segment that begins with a number is.
pub(crate) fn path(dir: &Path, first: u64, salt: u32) -> PathBuf {
    dir.join(format!("{first:020}-{salt:08x}{SUFFIX}"))
}

/// Number and salt in a segment's file name; `None` for other files.
pub(crate) fn parse(name: &str) -> Option<(u64, u32)> {
    let (number, salt) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    if number.len() != 20 || salt.len() != 8 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (number, salt) = (number.parse().ok()?, u32::from_str_radix(salt, 16).ok()?);
    // Numbers count up from 1: one beyond this was not made by us, and adding to it must not overflow.
    (1..1 << 62).contains(&number).then_some((number, salt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_log_gives_are_segments() {
        assert_eq!(parse("00000000000000000042-0000beef.seg"), Some((42, 0xbeef)));
        for number in ["42", "0000000000000000004x", "00000000000000000000", "18446744073709551615", "é"] {
            assert_eq!(parse(&format!("{number}-00000001.seg")), None, "{number}");
        }
        for other in ["lock", "00000000000000000042.seg", "00000000000000000042-1.seg", ".seg", "-.seg"] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(path(Path::new("j"), 42, 0xbeef), Path::new("j/00000000000000000042-0000beef.seg"));
    }

    #[test]
    fn the_last_segment_is_never_released() {
        let index = Index::new(0, [1, 5].map(|first| Segment { first, salt: 0, end: 100 }).into(), 9);
        assert!(index.take_released(3).is_none());
        assert_eq!(index.take_released(u64::MAX).map(|segment| segment.first), Some(1));
        assert!(index.take_released(u64::MAX).is_none());
        assert_eq!(index.containing(1), Some(5));
    }
}
