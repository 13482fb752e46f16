//! Sketches as a rollup's row keeps them: the same bins as a window's ([`crate::sketch`]), in a few bytes, or in none
//! where the row's own figures tell them all. The collector writes and reads them through `telemetryx._native`.
//!
//! ```text
//! no bytes   what the figures tell ([`told`]); where they tell nothing, all readings of the row are missing
//!
//! u8         check: CRC-8 (polynomial 0x07) of all that follows
//! varint     positive bins << 3 | 4: readings are missing | 2: there are negative bins | 1: there are zeros
//! varint     missing readings, if any: the row counts them, and nothing is known of how they lie
//! varint     zeros, if any
//! varint     negative bins, if any
//! each side, positive first:
//!   varint   its lowest key, zigzag
//!   u8 ...   for each bin (step - 1) << 4 | (count - 1): the step is that from the key before, 1 for the first. A nibble
//!            of 15 stands for 15 and more: a varint of what is beyond 15 follows, the step's before the count's
//! ```
//!
//! Varints are LEB128. One sketch has one form, so equal sketches of equal rows are equal bytes.
//!
//! A NaN is no reading to a sketch; the row counts it, and its sum says that there is one. An infinite one is counted as the
//! largest number: the row's extremes say that it was infinite.

use crate::Bins;
use crate::sketch::{MAX_BINS, SMALLEST, key};

/// What a row says of its readings beside the sketch.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Readings, NaN among them.
    pub count: u64,
    /// NaN when one of them is (or two are infinite, one of each sign).
    pub sum: f64,
    /// NaN when all of them are.
    pub min: f64,
    /// Likewise.
    pub max: f64,
}

/// A sketch, and how many readings of its row it knows nothing of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// The readings that are known.
    pub bins: Bins,
    /// The others.
    pub missing: u64,
}

/// Bytes that are no sketch: they were changed since they were written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Damaged;

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Zero,
    Positive(i32),
    Negative(i32),
}

fn place(value: f64) -> Place {
    let magnitude = value.abs();
    if magnitude < SMALLEST {
        return Place::Zero;
    }
    let key = key(magnitude.min(f64::MAX));
    if value > 0.0 { Place::Positive(key) } else { Place::Negative(key) }
}

/// The sketch of a row, where its figures leave only one: all readings in one bin, or two readings, or none but NaN.
pub fn told(figures: &Figures) -> Option<Bins> {
    let Figures { count, sum, min, max } = *figures;
    if count == 0 || min.is_nan() || max.is_nan() {
        return Some(Bins::default());
    }
    let (low, high) = (place(min), place(max));
    if sum.is_nan() || (low != high && count != 2) {
        return None;
    }
    let mut builder = Builder::default();
    builder.put(low, if low == high { count } else { 1 });
    if low != high {
        builder.put(high, 1);
    }
    let mut found = Known::default();
    builder.take(&mut found);
    Some(found.bins)
}

/// Collects readings and sketches in any order, one row after the other.
#[derive(Default)]
pub struct Builder {
    positive: Vec<(i32, u64)>,
    negative: Vec<(i32, u64)>,
    zero: u64,
    missing: u64,
    last: Option<(u64, Place)>,
    tally: Vec<u64>,
}

impl Builder {
    /// Counts a reading.
    #[inline]
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        // Sensors repeat themselves, and a logarithm is what a reading costs.
        let bits = value.to_bits();
        let at = match self.last {
            Some((before, at)) if before == bits => at,
            _ => place(value),
        };
        self.last = Some((bits, at));
        self.put(at, 1);
    }

    #[inline]
    fn put(&mut self, at: Place, n: u64) {
        let (side, key) = match at {
            Place::Zero => {
                self.zero += n;
                return;
            }
            Place::Positive(key) => (&mut self.positive, key),
            Place::Negative(key) => (&mut self.negative, key),
        };
        match side.last_mut() {
            Some(bin) if bin.0 == key => bin.1 += n,
            _ => side.push((key, n)),
        }
    }

    /// Counts the readings of a sketch.
    pub fn add_bins(&mut self, bins: &Bins) {
        self.positive.extend(bins.positive.iter().filter(|bin| bin.1 > 0));
        self.negative.extend(bins.negative.iter().filter(|bin| bin.1 > 0));
        self.zero += bins.zero;
    }

    /// Counts the readings of a window from the sketch that it came with. One that can't be of these readings is as good as none.
    pub fn add_window(&mut self, bins: &Bins, figures: &Figures) {
        let sides = bins.positive.iter().chain(&bins.negative).map(|bin| bin.1);
        let held = sides.chain([bins.zero]).try_fold(0u64, |sum, n| sum.checked_add(n));
        let Some(missing) = held.and_then(|held| figures.count.checked_sub(held)) else {
            self.missing += figures.count;
            return;
        };
        let (mut apart, mut known) = (Self::default(), Known::default());
        apart.add_bins(bins);
        apart.missing = missing;
        apart.take(&mut known);
        if fits(&known, figures) {
            self.add_bins(&known.bins);
            self.missing += known.missing;
        } else {
            self.missing += figures.count;
        }
    }

    /// Counts readings of which nothing is known.
    pub fn add_missing(&mut self, n: u64) {
        self.missing += n;
    }

    /// How many readings were counted so far of which nothing is known.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Counts the readings of a row, from its packed sketch; none of a damaged one.
    pub fn add_packed(&mut self, bytes: &[u8], figures: &Figures) -> Result<(), Damaged> {
        let before = (self.positive.len(), self.negative.len(), self.zero, self.missing);
        let read = self.read(bytes, figures);
        if read.is_err() {
            self.positive.truncate(before.0);
            self.negative.truncate(before.1);
            (self.zero, self.missing) = (before.2, before.3);
        }
        read
    }

    fn read(&mut self, bytes: &[u8], figures: &Figures) -> Result<(), Damaged> {
        if bytes.is_empty() && figures.count == 1 {
            // A single reading stands for itself.
            self.add(figures.min);
            return Ok(());
        }
        if bytes.is_empty() {
            match told(figures) {
                Some(bins) => self.add_bins(&bins),
                None => self.missing += figures.count,
            }
            return Ok(());
        }
        let (check, mut rest) = bytes.split_first().ok_or(Damaged)?;
        if crc8(rest) != *check {
            return Err(Damaged);
        }
        let rest = &mut rest;
        // No sketch has more readings than its row: so sums of counts stay within 64 bits, whatever the bytes say.
        let mut left = figures.count;
        let left = &mut left;
        let head = varint(rest)?;
        if head & 4 != 0 {
            self.missing += counted(varint(rest)?, left)?;
        }
        if head & 1 != 0 {
            self.zero += counted(varint(rest)?, left)?;
        }
        let below = if head & 2 != 0 { varint(rest)? } else { 0 };
        side(rest, head >> 3, left, &mut self.positive)?;
        side(rest, below, left, &mut self.negative)?;
        if rest.is_empty() { Ok(()) } else { Err(Damaged) }
    }

    /// Gives what was counted, and begins anew.
    pub fn take(&mut self, into: &mut Known) {
        let Self { positive, negative, tally, .. } = self;
        gather(positive, tally, &mut into.bins.positive);
        gather(negative, tally, &mut into.bins.negative);
        into.bins.zero = std::mem::take(&mut self.zero);
        into.missing = std::mem::take(&mut self.missing);
        self.last = None;
    }
}

/// Adds up the counts of equal keys, ascending; beyond the cap the lowest run into the one above them, as one by one.
fn gather(some: &mut Vec<(i32, u64)>, tally: &mut Vec<u64>, into: &mut Vec<(i32, u64)>) {
    into.clear();
    let (low, high) =
        some.iter().fold((i32::MAX, i32::MIN), |(low, high), bin| (low.min(bin.0), high.max(bin.0)));
    let width = i64::from(high) - i64::from(low) + 1;
    if some.len() > 1 && width <= 4 * some.len() as i64 + 64 {
        tally.clear();
        tally.resize(width as usize, 0);
        some.iter().for_each(|(key, n)| tally[(key - low) as usize] += n);
        into.extend((low..=high).zip(tally.iter().copied()).filter(|bin| bin.1 > 0));
    } else {
        some.sort_unstable();
        for (key, n) in some.iter().copied() {
            match into.last_mut() {
                Some(bin) if bin.0 == key => bin.1 += n,
                _ => into.push((key, n)),
            }
        }
    }
    some.clear();
    if let Some(beyond) = into.len().checked_sub(MAX_BINS).filter(|beyond| *beyond > 0) {
        let lowest: u64 = into.drain(..beyond).map(|bin| bin.1).sum();
        into[0].1 += lowest;
    }
}

/// Appends a row's sketch: nothing, where its figures tell it, or as much as they do.
pub fn pack(known: &Known, figures: &Figures, out: &mut Vec<u8>) {
    let Known { bins, missing } = known;
    let none = bins.positive.is_empty() && bins.negative.is_empty() && bins.zero == 0;
    let implied = match told(figures) {
        // What the figures tell is right, also of readings that nothing else is known of.
        Some(told) => *missing > 0 || told == *bins,
        None => none && *missing == figures.count,
    };
    if implied {
        return;
    }
    let begun = out.len();
    out.push(0);
    let head = (bins.positive.len() as u64) << 3
        | u64::from(*missing > 0) << 2
        | u64::from(!bins.negative.is_empty()) << 1
        | u64::from(bins.zero > 0);
    put_varint(out, head);
    if *missing > 0 {
        put_varint(out, *missing);
    }
    if bins.zero > 0 {
        put_varint(out, bins.zero);
    }
    if !bins.negative.is_empty() {
        put_varint(out, bins.negative.len() as u64);
    }
    put_side(out, &bins.positive);
    put_side(out, &bins.negative);
    out[begun] = crc8(&out[begun + 1..]);
}

/// Whether a row's sketch can be one of its readings: as many, and none outside of its extremes.
pub fn fits(known: &Known, figures: &Figures) -> bool {
    let Known { bins, missing } = known;
    let held = crate::sketch::count(bins) + missing;
    let counted = if figures.sum.is_nan() { held <= figures.count } else { held == figures.count };
    let lowest = match (bins.negative.last(), bins.zero, bins.positive.first()) {
        (Some((key, _)), ..) => Some(Place::Negative(*key)),
        (None, 0, first) => first.map(|bin| Place::Positive(bin.0)),
        (None, ..) => Some(Place::Zero),
    };
    let highest = match (bins.positive.last(), bins.zero, bins.negative.first()) {
        (Some((key, _)), ..) => Some(Place::Positive(*key)),
        (None, 0, first) => first.map(|bin| Place::Negative(bin.0)),
        (None, ..) => Some(Place::Zero),
    };
    let (Some(lowest), Some(highest)) = (lowest, highest) else { return counted };
    let within = if *missing == 0 && bins.positive.len() < MAX_BINS && bins.negative.len() < MAX_BINS {
        lowest == place(figures.min) && highest == place(figures.max)
    } else {
        rank(lowest) >= rank(place(figures.min)) && rank(highest) <= rank(place(figures.max))
    };
    counted && within
}

fn rank(place: Place) -> (i8, i32) {
    match place {
        // Turned round as a negation does, which the least key has none of.
        Place::Negative(key) => (-1, !key),
        Place::Zero => (0, 0),
        Place::Positive(key) => (1, key),
    }
}

fn counted(n: u64, left: &mut u64) -> Result<u64, Damaged> {
    *left = left.checked_sub(n).ok_or(Damaged)?;
    Ok(n)
}

fn side(rest: &mut &[u8], bins: u64, left: &mut u64, into: &mut Vec<(i32, u64)>) -> Result<(), Damaged> {
    if bins == 0 {
        return Ok(());
    }
    if bins > MAX_BINS as u64 {
        return Err(Damaged);
    }
    let first = varint(rest)?;
    let first = (first >> 1) as i64 ^ -((first & 1) as i64);
    let mut key = first.checked_sub(1).ok_or(Damaged)?;
    into.reserve(bins as usize);
    for at in 0..bins {
        let (both, after) = rest.split_first().ok_or(Damaged)?;
        *rest = after;
        let step = nibble(rest, both >> 4)?;
        let n = counted(nibble(rest, both & 15)?, left)?;
        if at == 0 && step != 1 {
            return Err(Damaged);
        }
        key = i64::try_from(step).ok().and_then(|step| key.checked_add(step)).ok_or(Damaged)?;
        into.push((i32::try_from(key).map_err(|_| Damaged)?, n));
    }
    Ok(())
}

fn nibble(rest: &mut &[u8], half: u8) -> Result<u64, Damaged> {
    let more = if half == 15 { varint(rest)? } else { 0 };
    more.checked_add(u64::from(half) + 1).ok_or(Damaged)
}

fn put_side(out: &mut Vec<u8>, bins: &[(i32, u64)]) {
    let Some((first, _)) = bins.first() else { return };
    let first = i64::from(*first);
    put_varint(out, (first << 1 ^ first >> 63) as u64);
    let mut before = first - 1;
    for (key, n) in bins {
        let (step, n) = ((i64::from(*key) - before - 1) as u64, n - 1);
        before = i64::from(*key);
        out.push((step.min(15) as u8) << 4 | n.min(15) as u8);
        for half in [step, n] {
            if half >= 15 {
                put_varint(out, half - 15);
            }
        }
    }
}

fn varint(rest: &mut &[u8]) -> Result<u64, Damaged> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(Damaged)?;
        *rest = after;
        let part = u64::from(byte & 127);
        if shift == 63 && part > 1 {
            return Err(Damaged);
        }
        value |= part << shift;
        if byte & 128 == 0 {
            return Ok(value);
        }
    }
    Err(Damaged)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

const CRC8: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 128 != 0 { crc << 1 ^ 0x07 } else { crc << 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

/// Finds every change within eight bits in a row, so every changed byte.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| CRC8[usize::from(crc ^ byte)])
}

#[cfg(test)]
mod tests;
