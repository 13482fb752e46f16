//! Decimals by segment (encoding 8): sensors print decimals, each series with digits of its own.
//!
//! A segment (one series' values in a batch) is turned into whole numbers by the smallest power of
//! ten that gives back every bit, and those into steps from the item before, or from the median
//! where the signal is noise around a level. What has no such power stays as it is.

use super::decode::{decimal, decode as column, decode_rest};
use super::encode::{encode as put_column, stored};
use super::{EXACT, Item, POWERS, RAW, SEGMENTS, cost::Cost, unzigzag, zigzag};
use crate::error::DecodeError;
use crate::msgpack::{Reader, put_array, put_unsigned};

/// Added to a scale: steps are from the base, not from the item before.
const PLAIN: u8 = 32;
/// The scale of a segment that is stored as it is.
const REST: u8 = 255;
/// Segments shorter than this aren't tried around a level.
const LEVEL_FROM: usize = 8;
/// 1.5·2^52: adding it rounds to a whole number that then stands in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// That works below this.
const LIMIT: f64 = (1i64 << 51) as f64 - 1.0;
/// Values tested at a time: enough for vector instructions, few enough to give up early.
const CHUNK: usize = 64;

/// Space and tables that encoding reuses.
pub(crate) struct Scratch {
    pub(super) cost: Cost,
    pub(super) first: Vec<u64>,
    pub(super) second: Vec<u64>,
    whole: Vec<i64>,
    sample: Vec<i64>,
    scales: Vec<u8>,
    bases: Vec<i64>,
    steps: Vec<u64>,
    rest: Vec<f64>,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            cost: Cost::new(),
            first: Vec::new(),
            second: Vec::new(),
            whole: Vec::new(),
            sample: Vec::new(),
            scales: Vec::new(),
            bases: Vec::new(),
            steps: Vec::new(),
            rest: Vec::new(),
        }
    }

    /// Bits an item of these takes as it is.
    pub(super) fn stored_bits<T: Item>(&mut self, items: &[T]) -> f32 {
        self.first.clear();
        self.first.extend(items.iter().map(|item| item.bits()));
        self.cost.bits(&self.first)
    }

    /// First and second differences, zigzagged. At least two items.
    pub(super) fn differ<T: Item>(&mut self, items: &[T]) {
        let step = |pair: &[T]| pair[1].wide().wrapping_sub(pair[0].wide());
        self.first.clear();
        self.first.extend(items.windows(2).map(|pair| zigzag(step(pair))));
        self.second.clear();
        let second = |three: &[T]| step(&three[1..]).wrapping_sub(step(&three[..2]));
        self.second.extend(items.windows(3).map(|three| zigzag(second(three))));
    }
}

/// Appends the values as decimals; false (and nothing appended) when no segment has a decimal form.
pub(super) fn encode(out: &mut Vec<u8>, values: &[f64], lengths: &[u32], scratch: &mut Scratch) -> bool {
    scratch.scales.clear();
    scratch.bases.clear();
    scratch.steps.clear();
    scratch.rest.clear();
    let mut rest = values;
    for length in lengths {
        let (segment, after) = rest.split_at(*length as usize);
        rest = after;
        segment_of(segment, scratch);
    }
    debug_assert!(rest.is_empty());
    if scratch.bases.is_empty() {
        return false;
    }
    put_array(out, 7);
    out.push(SEGMENTS);
    put_unsigned(out, values.len() as u64);
    put_column(out, lengths, scratch);
    let scales = std::mem::take(&mut scratch.scales);
    put_column(out, &scales, scratch);
    scratch.scales = scales;
    let bases = std::mem::take(&mut scratch.bases);
    put_column(out, &bases, scratch);
    scratch.bases = bases;
    put_all(out, &scratch.steps);
    put_all(out, &scratch.rest);
    true
}

/// Items that have been through a choice of form already.
fn put_all<T: Item>(out: &mut Vec<u8>, items: &[T]) {
    match items {
        [] => {
            put_array(out, 3);
            out.extend_from_slice(&[RAW, 0, 0xc4, 0]);
        }
        _ => stored(out, items),
    }
}

fn segment_of(segment: &[f64], scratch: &mut Scratch) {
    let Some(scale) = scale_of(segment, &mut scratch.whole) else {
        scratch.scales.push(REST);
        scratch.rest.extend_from_slice(segment);
        return;
    };
    let whole = &scratch.whole;
    scratch.first.clear();
    scratch.first.extend(whole.windows(2).map(|pair| zigzag(pair[1] - pair[0])));
    if whole.len() >= LEVEL_FROM {
        let level = median(whole, &mut scratch.sample);
        scratch.second.clear();
        scratch.second.extend(whole.iter().map(|item| zigzag(item - level)));
        let steps = scratch.cost.bits(&scratch.first) * scratch.first.len() as f32;
        let around = scratch.cost.bits(&scratch.second) * scratch.second.len() as f32 + 16.0;
        if around < steps * 0.98 {
            scratch.scales.push(PLAIN + scale);
            scratch.bases.push(level);
            scratch.steps.extend_from_slice(&scratch.second);
            return;
        }
    }
    scratch.scales.push(scale);
    scratch.bases.push(whole[0]);
    scratch.steps.extend_from_slice(&scratch.first);
}

/// The smallest power of ten that makes whole numbers of all values which give back every bit; fills `whole`.
fn scale_of(values: &[f64], whole: &mut Vec<i64>) -> Option<u8> {
    let mut scale = 0;
    'again: loop {
        let power = *POWERS.get(scale)?;
        for chunk in values.chunks(CHUNK) {
            if !exact(chunk, power) {
                // The next scale that this chunk allows; then all chunks again, since it was the first to ask for it.
                scale += 1 + POWERS[scale + 1..].iter().position(|power| exact(chunk, *power))?;
                continue 'again;
            }
        }
        whole.clear();
        whole.extend(values.iter().map(|value| rounded(value * power)));
        return u8::try_from(scale).ok();
    }
}

fn exact(values: &[f64], power: f64) -> bool {
    let mut wrong = 0;
    for value in values {
        let scaled = value * power;
        let back = ((scaled + MAGIC) - MAGIC) / power;
        // Written so that a NaN, which no comparison holds for, is wrong too.
        let inside = scaled.abs() <= LIMIT;
        wrong |= (back.to_bits() ^ value.to_bits()) | u64::from(!inside);
    }
    wrong == 0
}

/// The whole number nearest to `scaled`, |scaled| <= LIMIT.
fn rounded(scaled: f64) -> i64 {
    (scaled + MAGIC).to_bits() as i64 - MAGIC.to_bits() as i64
}

/// The median of at most 256 of them.
fn median(items: &[i64], sample: &mut Vec<i64>) -> i64 {
    sample.clear();
    sample.extend(items.iter().step_by(items.len().div_ceil(256)));
    let middle = sample.len() / 2;
    *sample.select_nth_unstable(middle).1
}

/// Reads the five columns and puts the segments together.
pub(super) fn decode(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, DecodeError> {
    const USED_UP: DecodeError =
        DecodeError::Inconsistent("the parts of a decimal column differ from its segments");
    let lengths: Vec<u32> = column(reader, count)?;
    let scales: Vec<u8> = column(reader, count)?;
    let bases: Vec<i64> = column(reader, count)?;
    let steps: Vec<u64> = column(reader, count)?;
    let rest = decode_rest(reader, count)?;
    let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    if lengths.len() != scales.len() || total != count as u64 || lengths.contains(&0) {
        return Err(DecodeError::Inconsistent("a decimal column's segments don't add up to its count"));
    }
    let (mut bases, mut steps, mut rest) = (bases.into_iter(), steps.into_iter(), rest.into_iter());
    let mut out = Vec::with_capacity(count);
    for (length, scale) in lengths.into_iter().zip(scales) {
        let length = length as usize;
        if scale == REST {
            out.extend(rest.by_ref().take(length));
            continue;
        }
        let power = POWERS.get(usize::from(scale % PLAIN)).filter(|_| scale < 2 * PLAIN);
        let power =
            *power.ok_or(DecodeError::Unknown { what: "decimal scale", number: i128::from(scale) })?;
        let base = bases.next().ok_or(USED_UP)?;
        if base <= -EXACT || base >= EXACT {
            return Err(DecodeError::Inconsistent(
                "a segment's base is outside the whole numbers that f64 holds exactly",
            ));
        }
        if scale < PLAIN {
            let mut whole = base;
            out.push(decimal(whole, power)?);
            for step in steps.by_ref().take(length - 1) {
                whole = whole.wrapping_add(unzigzag(step));
                out.push(decimal(whole, power)?);
            }
        } else {
            for step in steps.by_ref().take(length) {
                out.push(decimal(base.wrapping_add(unzigzag(step)), power)?);
            }
        }
    }
    // Short parts leave `out` short, long ones leave something over.
    if out.len() == count && bases.next().is_none() && steps.next().is_none() && rest.next().is_none() {
        Ok(out)
    } else {
        Err(USED_UP)
    }
}
