//! Fills an [`Intake`]: series are looked up in a cache by their raw bytes, values and times are
//! checked, what is refused is counted and kept.
//!
//! The cache ([`SeriesCache`]) outlives the intake: an input has one per connection or per worker.
//! It maps whatever bytes an input recognises a series by (a line's key, a topic) to a [`Slot`],
//! so that a known series costs one hash lookup and no lock.

use std::collections::HashMap;

use telemetry::{Cause, Counts, Event, Intake, Origin, SampleFlags, SeriesDef, SeriesKey, SeriesRef, Stamp};

use crate::door::Door;
use crate::lineproto::Dictionary;

/// Most raw keys a cache remembers; beyond them series are looked up in the shared table.
const MAX_KEYS: usize = 65_536;
/// Most bytes of raw keys a cache remembers.
const MAX_KEY_BYTES: usize = 8 << 20;
/// Most rejects of one intake that are kept as examples; all are counted.
const KEPT_PER_INTAKE: u32 = 20;
/// Most attributes of one event, and longest text in it.
const MAX_ATTRIBUTES: usize = 256;
const MAX_TEXT: usize = 256 << 10;

/// Why one reading is refused: the counted cause, and a text for its sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejection {
    /// What it is counted as.
    pub cause: Cause,
    /// What is wrong, with the value it is about.
    pub reason: String,
}

impl Rejection {
    /// A cause with its text.
    pub fn new(cause: Cause, reason: impl Into<String>) -> Self {
        Self { cause, reason: reason.into() }
    }
}

/// A series as one cache numbers it. Valid within one intake; beyond, only the cache itself keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

#[derive(Clone, Copy, Debug)]
struct Entry {
    series: SeriesRef,
    /// The intake it was last used in, and its index there.
    intake: u32,
    index: u32,
}

/// Raw key bytes → series, kept from one intake to the next.
#[derive(Debug, Default)]
pub struct SeriesCache {
    keys: HashMap<Box<[u8]>, Slot, ahash::RandomState>,
    key_bytes: usize,
    by_series: HashMap<SeriesRef, Slot, ahash::RandomState>,
    entries: Vec<Entry>,
    intake: u32,
    scratch: Vec<u8>,
    dictionary: Dictionary,
}

impl SeriesCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins an intake. Between intakes is the one moment at which the cache may start anew.
    fn begin(&mut self) {
        if self.keys.len() >= MAX_KEYS || self.key_bytes >= MAX_KEY_BYTES || self.intake == u32::MAX {
            self.keys.clear();
            self.by_series.clear();
            self.entries.clear();
            (self.key_bytes, self.intake) = (0, 0);
            self.dictionary.clear();
        }
        self.intake += 1;
    }

    fn remember(&mut self, key: &[u8], slot: Slot) {
        if self.keys.len() < MAX_KEYS && self.key_bytes < MAX_KEY_BYTES {
            self.key_bytes += key.len();
            self.keys.insert(key.into(), slot);
        }
    }

    fn slot(&mut self, series: SeriesRef) -> Slot {
        let entries = &mut self.entries;
        *self.by_series.entry(series).or_insert_with(|| {
            entries.push(Entry { series, intake: 0, index: 0 });
            Slot((entries.len() - 1) as u32)
        })
    }
}

/// Caches that many connections take turns with, so that their memory grows with the threads at
/// work and not with the connections.
#[derive(Debug, Default)]
pub struct CachePool(parking_lot::Mutex<Vec<SeriesCache>>);

impl CachePool {
    /// Most caches that are kept between uses.
    const KEPT: usize = 8;

    /// Lends a cache for as long as `work` runs.
    pub fn with<T>(&self, work: impl FnOnce(&mut SeriesCache) -> T) -> T {
        let mut cache = self.0.lock().pop().unwrap_or_default();
        let result = work(&mut cache);
        let mut kept = self.0.lock();
        if kept.len() < Self::KEPT {
            kept.push(cache);
        }
        result
    }
}

/// Fills one intake.
pub struct IntakeBuilder<'a> {
    door: &'a Door,
    cache: &'a mut SeriesCache,
    intake: Intake,
    refused: Counts,
    kept: u32,
    /// The latest time that is taken.
    latest: i64,
}

impl<'a> IntakeBuilder<'a> {
    /// An empty intake of this door's input.
    pub fn new(door: &'a Door, cache: &'a mut SeriesCache, at: Stamp) -> Self {
        cache.begin();
        let latest = door.latest(at);
        Self { intake: Intake::new(door.input, at), door, cache, refused: Counts::new(), kept: 0, latest }
    }

    /// When it arrived.
    pub fn at(&self) -> Stamp {
        self.intake.stamp
    }

    /// Readings taken so far.
    pub fn len(&self) -> usize {
        self.intake.len()
    }

    /// True before the first reading that was taken.
    pub fn is_empty(&self) -> bool {
        self.intake.len() == 0
    }

    /// Readings refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.iter().map(|(_, n)| n).sum()
    }

    /// Line protocol's own part of the cache, taken out while a body is parsed.
    pub(crate) fn take_dictionary(&mut self) -> Dictionary {
        std::mem::take(&mut self.cache.dictionary)
    }

    /// Puts it back.
    pub(crate) fn put_dictionary(&mut self, dictionary: Dictionary) {
        self.cache.dictionary = dictionary;
    }

    /// Makes room for about this many samples.
    pub fn reserve(&mut self, samples: usize) {
        self.intake.index.reserve(samples);
        self.intake.times.reserve(samples);
        self.intake.values.reserve(samples);
    }

    /// The slot that an input's own key was [remembered](Self::remember) with.
    #[inline]
    pub fn known(&self, key: &[u8]) -> Option<Slot> {
        self.cache.keys.get(key).copied()
    }

    /// Remembers a slot by an input's own key. The key's first byte must be 0xFE, so that it never
    /// meets those of [`Self::series`].
    pub fn remember(&mut self, key: &[u8], slot: Slot) {
        debug_assert_eq!(key.first(), Some(&0xfe));
        self.cache.remember(key, slot);
    }

    /// The slot of a series by name and labels (in any order; empty values are left out).
    ///
    /// # Errors
    /// [`Rejection`]: a bad name or label, or a new series beyond the limit.
    pub fn series(&mut self, name: &str, labels: &[(&str, &str)], unit: &str) -> Result<Slot, Rejection> {
        let mut key = std::mem::take(&mut self.cache.scratch);
        key.clear();
        key.extend_from_slice(name.as_bytes());
        for (label, value) in labels {
            // 0xFF and 0xFD are in no UTF-8 text, so different series never share a key.
            key.push(0xff);
            key.extend_from_slice(label.as_bytes());
            key.push(0xfd);
            key.extend_from_slice(value.as_bytes());
        }
        let found = match self.cache.keys.get(&key[..]) {
            Some(slot) => Ok(*slot),
            None => self.intern(name, labels, unit).inspect(|slot| self.cache.remember(&key, *slot)),
        };
        self.cache.scratch = key;
        found
    }

    fn intern(&mut self, name: &str, labels: &[(&str, &str)], unit: &str) -> Result<Slot, Rejection> {
        let key = SeriesKey::new(name, labels.iter().copied()).map_err(|error| {
            let cause = match error {
                telemetry::InvalidSeries::TooLong { .. } | telemetry::InvalidSeries::TooManyLabels(_) => {
                    Cause::RejectedLimit
                }
                _ => Cause::RejectedSyntax,
            };
            Rejection::new(cause, error.to_string())
        })?;
        let series = self
            .door
            .table
            .intern(SeriesDef { key, unit: unit.into() })
            .map_err(|error| Rejection::new(Cause::RejectedSeriesLimit, error.to_string()))?;
        Ok(self.cache.slot(series))
    }

    /// Adds a sample. Without a time of its own it gets that of arrival, and is marked so.
    ///
    /// # Errors
    /// [`Rejection`]: a value that isn't finite, or a time too far ahead.
    #[inline]
    pub fn push(&mut self, slot: Slot, time: Option<i64>, value: f64, flags: u8) -> Result<(), Rejection> {
        if !value.is_finite() {
            return Err(not_finite(value));
        }
        let now = self.intake.stamp.wall;
        let (time, flags) = match time {
            Some(time) if time > self.latest => return Err(future(time, self.door)),
            Some(time) => (time, flags),
            None => (now, flags | SampleFlags::ARRIVAL_TIME),
        };
        let entry = &mut self.cache.entries[slot.0 as usize];
        if entry.intake != self.cache.intake {
            entry.intake = self.cache.intake;
            entry.index = self.intake.series.len() as u32;
            self.intake.series.push(entry.series);
        }
        self.intake.push(entry.index, time, value, flags);
        Ok(())
    }

    /// [`Self::series`] and [`Self::push`] in one.
    ///
    /// # Errors
    /// As those two.
    pub fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        unit: &str,
        time: Option<i64>,
        value: f64,
        flags: u8,
    ) -> Result<(), Rejection> {
        let slot = self.series(name, labels, unit)?;
        self.push(slot, time, value, flags)
    }

    /// Adds an event. Its time must be set: [`Self::at`] where it has none of its own.
    ///
    /// # Errors
    /// [`Rejection`]: a time too far ahead, a text or a number of attributes over the limit.
    pub fn event(&mut self, event: Event) -> Result<(), Rejection> {
        if event.time > self.latest {
            return Err(future(event.time, self.door));
        }
        if event.attributes.len() > MAX_ATTRIBUTES {
            return Err(Rejection::new(
                Cause::RejectedLimit,
                format!(
                    "{} attributes on one event; at most {MAX_ATTRIBUTES} are taken",
                    event.attributes.len()
                ),
            ));
        }
        let mut size = event.source.len() + event.body.len();
        for (name, value) in &event.attributes {
            size += name.len() + if let telemetry::Attribute::Text(text) = value { text.len() } else { 8 };
        }
        if size > MAX_TEXT {
            return Err(Rejection::new(
                Cause::RejectedLimit,
                format!("an event of {size} bytes; at most {MAX_TEXT} are taken"),
            ));
        }
        self.intake.events.push(event);
        Ok(())
    }

    /// Counts one refused reading and keeps its beginning for [`crate::Rejects`].
    pub fn rejected(&mut self, cause: Cause, reason: &str, excerpt: &[u8]) {
        self.refused.add(cause, 1);
        if self.kept < KEPT_PER_INTAKE {
            self.kept += 1;
            self.door.rejects.keep(&self.door.name, self.intake.stamp.wall, cause, reason, excerpt);
        }
    }

    /// Counts readings that are a resend of what was already taken ([`Cause::Deduplicated`] or
    /// [`Cause::DeduplicatedRetained`]), or known not to be readings ([`Cause::ReducedDrop`]).
    pub fn deduplicated(&mut self, cause: Cause, n: u64) {
        self.refused.add(cause, n);
    }

    /// Marks what a resend of this intake can be recognised by.
    pub fn origin(&mut self, origin: Origin) {
        self.intake.origin = Some(origin);
    }

    /// The intake, with everything counted.
    pub fn finish(mut self) -> Intake {
        let received = self.intake.len() as u64 + self.refused();
        self.intake.counts.add(Cause::Received, received);
        self.intake.counts.merge(&self.refused);
        self.intake
    }
}

#[cold]
fn not_finite(value: f64) -> Rejection {
    Rejection::new(Cause::RejectedNotFinite, format!("{value} is not a finite number"))
}

#[cold]
fn future(time: i64, door: &Door) -> Rejection {
    Rejection::new(
        Cause::RejectedTime,
        format!("time {time} ns is more than {} s ahead of this host's clock", door.limits.future.as_secs()),
    )
}
