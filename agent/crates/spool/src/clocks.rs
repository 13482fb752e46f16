//! When a boot was: offsets that turn the time since a boot whose clock was not set into time of day.
//!
//! Batches of such a boot wait in the spool until its offset is known, and travel with it; payload and name stay.
//! Where an offset comes from, best first:
//!
//! - **set**: the clock was set later in that boot. What it then said counts, also if it is set once more.
//! - **told**: it still isn't, and the collector's greeting said what time it is. Right to half the round trip.
//! - **guessed**: the boot ended and its clock was never set. It ended before the next boot began, and is placed so that
//!   it ended just then: never too early, and in order. The collector marks what was timed so as uncertain.
//!
//! The file `clocks` (a cell) keeps the offsets of boots that batches wait for, so that a restart sends them alike:
//! ```text
//! clocks := version u8 (1), n v * (boot 16 bytes, offset i64 ns, error u64 ns, how u8 (1 set, 2 told, 3 guessed))
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use seglog::{Cell, Mode, Storage};
use telemetry::{Boot, Stamp, clock};

use crate::age::AgeClock;
use crate::entry::Entry;
use crate::record::{BadRecord, Cursor, put_number};
use crate::state::{Order, State};

const VERSION: u8 = 1;
/// Room for some hundred boots; of more the oldest are guessed anew.
const BYTES: usize = 8 << 10;
const MAX_BOOTS: usize = 200;
/// A clock that says so much else than before was set anew.
const SET_ANEW: u64 = 5_000_000_000;

/// How an offset came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum How {
    Set = 1,
    Told = 2,
    Guessed = 3,
}

/// What to add to the time since a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset {
    pub(crate) ns: i64,
    /// How far off it may be, as far as that is known.
    pub(crate) error_ns: u64,
    pub(crate) how: How,
}

impl Offset {
    /// Nobody knows how long the host was down.
    pub(crate) fn is_uncertain(self) -> bool {
        self.how == How::Guessed
    }
}

/// What is known of boots.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    /// This one.
    now: Option<Boot>,
    /// The time when the clock was looked at last, as far as it is known.
    pub(crate) wall: Option<i64>,
    known: BTreeMap<Boot, Offset>,
    /// By which what waits is too old.
    pub(crate) age: AgeClock,
}

impl Clocks {
    pub(crate) fn offset(&self, boot: Boot) -> Option<Offset> {
        self.known.get(&boot).copied()
    }

    /// What this host's clocks say. True when an offset became known or changed.
    fn look(&mut self, boot: Boot, at: Stamp) -> bool {
        let other = self.now.replace(boot) != Some(boot);
        let told = self.offset(boot).map(|offset| offset.ns.saturating_add(since_boot(at)));
        self.wall = if at.is_set() { Some(at.wall) } else { told };
        if !at.is_set() {
            return other;
        }
        let ns = at.wall.saturating_sub(since_boot(at));
        let known = self.offset(boot).filter(|offset| offset.how == How::Set);
        if known.is_some_and(|offset| offset.ns.abs_diff(ns) <= SET_ANEW) {
            return other;
        }
        self.known.insert(boot, Offset { ns, error_ns: 0, how: How::Set });
        true
    }

    /// What the collector's clock said while ours isn't set. True when the offset became known, or more exact.
    fn told(&mut self, boot: Boot, at: Stamp, collector: i64, round_trip: Duration) -> bool {
        self.now = Some(boot);
        let error_ns = u64::try_from(round_trip.as_nanos() / 2).unwrap_or(u64::MAX);
        let exact = |offset: Offset| offset.how == How::Set || offset.error_ns <= error_ns;
        if at.is_set() || collector < clock::SET_AFTER || self.offset(boot).is_some_and(exact) {
            return false;
        }
        let now = collector.saturating_add_unsigned(error_ns);
        let ns = now.saturating_sub(since_boot(at));
        self.known.insert(boot, Offset { ns, error_ns, how: How::Told });
        true
    }

    /// Places boots that ended unset before the ones that followed them. `boots` come in order, each with the last time
    /// since it that is known.
    fn guess(&mut self, boots: &[(Boot, i64)]) {
        let Some(now) = self.now else { return };
        let Some(mut next) = self.offset(now) else { return };
        for &(boot, last) in boots.iter().rev().filter(|(boot, _)| *boot != now) {
            let guessed =
                || Offset { ns: next.ns.saturating_sub(last), error_ns: u64::MAX, how: How::Guessed };
            next = *self.known.entry(boot).or_insert_with(guessed);
        }
    }

    fn encode(&self, boots: &[(Boot, i64)]) -> Vec<u8> {
        let kept = &boots[boots.len().saturating_sub(MAX_BOOTS)..];
        let known = kept.iter().filter_map(|(boot, _)| Some((boot, self.known.get(boot)?)));
        let known: Vec<_> = known.collect();
        let mut out = vec![VERSION];
        put_number(&mut out, known.len() as u64);
        for (boot, offset) in known {
            out.extend_from_slice(boot);
            out.extend_from_slice(&offset.ns.to_le_bytes());
            out.extend_from_slice(&offset.error_ns.to_le_bytes());
            out.push(offset.how as u8);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut cursor = Cursor(bytes);
        if cursor.array()? != [VERSION] {
            return Err(BadRecord::Unknown("version"));
        }
        let mut clocks = Self::default();
        for _ in 0..cursor.count(33)? {
            let boot = cursor.array()?;
            let offset = Offset {
                ns: i64::from_le_bytes(cursor.array()?),
                error_ns: u64::from_le_bytes(cursor.array()?),
                how: match cursor.array()? {
                    [1] => How::Set,
                    [2] => How::Told,
                    [3] => How::Guessed,
                    _ => return Err(BadRecord::Unknown("source of an offset")),
                },
            };
            clocks.known.insert(boot, offset);
        }
        Ok(clocks)
    }
}

fn since_boot(at: Stamp) -> i64 {
    i64::try_from(at.mono).unwrap_or(i64::MAX)
}

impl State {
    /// Boots that batches wait in the log for, in order, each with the last time since it.
    fn boots(&self) -> Vec<(Boot, i64)> {
        let mut boots: Vec<(u64, Boot, i64)> = Vec::new();
        if self.unset.is_empty() {
            return Vec::new();
        }
        for (_, entry) in self.entries().filter(|(_, entry)| !entry.loss) {
            let Some(boot) = entry.group.clock else { continue };
            match boots.iter_mut().find(|(_, known, _)| *known == boot) {
                Some(known) => (known.0, known.2) = (known.0.min(entry.record), known.2.max(entry.t1)),
                None => boots.push((entry.record, boot, entry.t1)),
            }
        }
        boots.sort_unstable();
        boots.into_iter().map(|(_, boot, last)| (boot, last)).collect()
    }

    /// What this host's clocks say now: batches may be set free by it.
    pub(crate) fn look_at_clock(&mut self, boot: Boot, at: Stamp) {
        if self.clocks.look(boot, at) {
            self.clocks_changed = true;
            self.set_free();
        }
        self.age_look(at);
    }

    /// What the collector's clock says now.
    pub(crate) fn told_time(&mut self, boot: Boot, at: Stamp, collector: i64, round_trip: Duration) {
        self.age_told(at, collector);
        if self.clocks.told(boot, at, collector, round_trip) {
            self.clocks_changed = true;
            self.set_free();
        }
    }

    /// Batches whose boot is known now may be sent.
    pub(crate) fn set_free(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let boots = self.boots();
        self.clocks.guess(&boots);
        self.clocks_changed = true;
        for order in self.held.take() {
            self.wait(order, false);
        }
        self.news = true;
    }

    /// Whether a batch's times mean nothing yet.
    pub(crate) fn is_held(&self, entry: &Entry) -> bool {
        !entry.loss && entry.group.clock.is_some_and(|boot| self.clocks.offset(boot).is_none())
    }

    /// Earliest and latest event time of an entry, as far as they are known.
    pub(crate) fn times(&self, entry: &Entry) -> Option<(i64, i64)> {
        let offset = match entry.group.clock {
            Some(boot) => self.clocks.offset(boot)?.ns,
            None => 0,
        };
        Some((entry.t0.saturating_add(offset), entry.t1.saturating_add(offset)))
    }

    /// What the ledger says of a lost batch's times: 0 is unknown.
    pub(crate) fn times_of(&self, order: Order) -> Option<(i64, i64)> {
        let entry = self.entry(order).filter(|entry| entry.group.clock.is_some())?;
        Some(self.times(entry).unwrap_or_default())
    }
}

/// The offsets on disk.
#[derive(Default)]
pub(crate) struct ClockFile {
    cell: Option<Cell>,
    saved: Vec<u8>,
}

impl ClockFile {
    /// What is there. No file is made before there is something to keep.
    pub(crate) fn open(storage: &Arc<dyn Storage>, path: &Path) -> (Self, Clocks) {
        if storage.open(path, Mode::Read).is_err() {
            return (Self::default(), Clocks::default());
        }
        let cell = Cell::open(Arc::clone(storage), path, BYTES);
        let cell =
            cell.inspect_err(|error| tracing::warn!(%error, "the spool's clocks can't be opened")).ok();
        let saved = cell.as_ref().and_then(Cell::get).unwrap_or_default();
        let clocks = Clocks::decode(&saved).unwrap_or_default();
        (Self { cell, saved }, clocks)
    }

    /// Keeps what batches in the log depend on; nothing is written while nothing changes.
    pub(crate) fn save(
        &mut self,
        storage: &Arc<dyn Storage>,
        path: &Path,
        state: &parking_lot::Mutex<State>,
    ) {
        let bytes = {
            let mut state = state.lock();
            // Looking which boots there are takes a while where a long backlog is of them.
            if !std::mem::take(&mut state.clocks_changed) {
                return;
            }
            if state.unset.is_empty() && self.saved.is_empty() {
                return;
            }
            state.clocks.encode(&state.boots())
        };
        if bytes == self.saved || (self.cell.is_none() && bytes.len() == Clocks::default().encode(&[]).len())
        {
            return;
        }
        if self.cell.is_none() {
            self.cell = Cell::open(Arc::clone(storage), path, BYTES).ok();
        }
        match self.cell.as_mut().map(|cell| cell.set(&bytes)) {
            Some(Ok(())) => self.saved = bytes,
            // The next call tries again; without it a restart guesses where this process knew.
            failed => {
                tracing::debug!(?failed, "the spool's clocks can't be written yet");
                self.cell = None;
                state.lock().clocks_changed = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: i64 = 1_000_000_000;
    const T0: i64 = clock::SET_AFTER + 1_000_000 * S;
    const BOOTS: [Boot; 4] = [[1; 16], [2; 16], [3; 16], [4; 16]];

    fn unset(mono: i64) -> Stamp {
        Stamp { wall: mono, mono: mono as u64 }
    }

    #[test]
    fn the_clock_of_the_host_counts_more_than_the_collectors_and_the_newest_setting_most() {
        let mut clocks = Clocks::default();
        assert!(clocks.told(BOOTS[0], unset(10 * S), T0, Duration::from_secs(2)));
        assert_eq!(
            clocks.offset(BOOTS[0]),
            Some(Offset { ns: T0 - 9 * S, error_ns: S as u64, how: How::Told })
        );
        assert!(!clocks.told(BOOTS[0], unset(20 * S), T0, Duration::from_secs(3)), "less exact");
        assert!(clocks.told(BOOTS[0], unset(20 * S), T0 + 11 * S, Duration::ZERO), "more exact");
        let set = Stamp { wall: T0 + 30 * S, mono: 30 * S as u64 };
        assert!(clocks.look(BOOTS[0], set));
        assert!(!clocks.told(BOOTS[0], unset(40 * S), T0, Duration::ZERO));
        assert!(!clocks.look(BOOTS[0], Stamp { wall: T0 + 34 * S, ..set }), "slewed");
        assert!(clocks.look(BOOTS[0], Stamp { wall: T0 + 36 * S, ..set }), "set anew");
        assert_eq!(clocks.offset(BOOTS[0]).map(|offset| offset.ns), Some(T0 + 6 * S));
    }

    #[test]
    fn a_collector_without_a_clock_tells_nothing() {
        let mut clocks = Clocks::default();
        assert!(!clocks.told(BOOTS[0], unset(S), 5 * S, Duration::ZERO));
        assert_eq!(clocks.offset(BOOTS[0]), None);
    }

    #[test]
    fn boots_that_ended_unset_are_placed_one_before_the_other_and_never_before_one_that_is_known() {
        let mut clocks = Clocks::default();
        clocks.look(BOOTS[1], Stamp { wall: T0, mono: 0 });
        let boots = [(BOOTS[0], 100 * S), (BOOTS[1], 50 * S), (BOOTS[2], 200 * S), (BOOTS[3], 5 * S)];
        clocks.look(BOOTS[3], unset(S));
        clocks.guess(&boots);
        assert_eq!(clocks.offset(BOOTS[2]), None, "nothing to place it by yet");
        clocks.look(BOOTS[3], Stamp { wall: T0 + 1_000 * S, mono: 10 * S as u64 });
        clocks.guess(&boots);
        let at = |boot: usize| clocks.offset(BOOTS[boot]).map(|offset| ((offset.ns - T0) / S, offset.how));
        assert_eq!(at(3), Some((990, How::Set)));
        assert_eq!(at(2), Some((790, How::Guessed)), "it ended when the fourth began");
        assert_eq!(at(1), Some((0, How::Set)));
        assert_eq!(at(0), Some((-100, How::Guessed)), "it ended when the second began");
    }

    proptest! {
        #[test]
        fn what_is_known_comes_back_as_it_was(list in prop::collection::btree_map(any::<Boot>(), (any::<i64>(), any::<u64>(), 0usize..3), 0..9)) {
            let how = [How::Set, How::Told, How::Guessed];
            let known: BTreeMap<_, _> = list.into_iter().map(|(boot, (ns, error_ns, at))| (boot, Offset { ns, error_ns, how: how[at] })).collect();
            let boots: Vec<_> = known.keys().map(|boot| (*boot, 0)).collect();
            let clocks = Clocks { known: known.clone(), ..Clocks::default() };
            prop_assert_eq!(Clocks::decode(&clocks.encode(&boots)).unwrap().known, known);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Clocks::decode(&bytes));
            drop(Clocks::decode(&[&[VERSION], &bytes[..]].concat()));
        }
    }
}
