//! Any column back to its items. A count is held against the bytes that came, or against `cap`,
//! before anything is allocated: constant and run length are the two that make much from little.

use super::{
    CONSTANT, DECIMAL, DELTA, DELTA_OF_DELTA, EXACT, Item, NARROW, PLANES, POWERS, RAW, RUN_LENGTH, SEGMENTS,
    ZIGZAG, segments, unzigzag,
};
use crate::error::DecodeError;
use crate::msgpack::Reader;

/// Reads a column of at most `cap` items.
pub(crate) fn decode<T: Item>(reader: &mut Reader<'_>, cap: usize) -> Result<Vec<T>, DecodeError> {
    let head = Head::read(reader, cap)?;
    head.items(reader)
}

/// Reads a column of floats: those have two encodings of their own.
pub(crate) fn decode_floats(reader: &mut Reader<'_>, cap: usize) -> Result<Vec<f64>, DecodeError> {
    let head = Head::read(reader, cap)?;
    match head.encoding {
        DECIMAL if head.count > 0 => head.decimals(reader),
        SEGMENTS if head.count > 0 => {
            head.entries(7)?;
            head.only(head.marks == 0)?;
            segments::decode(reader, head.count)
        }
        _ => head.items(reader),
    }
}

/// A column of floats within another: not cut into segments again, so nothing nests.
pub(super) fn decode_rest(reader: &mut Reader<'_>, cap: usize) -> Result<Vec<f64>, DecodeError> {
    let head = Head::read(reader, cap)?;
    if head.encoding == DECIMAL && head.count > 0 { head.decimals(reader) } else { head.items(reader) }
}

/// What stands before the parameters.
struct Head {
    entries: usize,
    encoding: u8,
    marks: u8,
    count: usize,
}

impl Head {
    fn read(reader: &mut Reader<'_>, cap: usize) -> Result<Self, DecodeError> {
        let entries = reader.array()?;
        let number = reader.integer()?;
        let marked = u8::try_from(number).ok().filter(|number| *number < 4 * PLANES);
        let marked = marked.ok_or(DecodeError::Unknown { what: "column encoding", number })?;
        let count = reader.number("a column's count", cap as u64)? as usize;
        Ok(Self { entries, encoding: marked % PLANES, marks: marked - marked % PLANES, count })
    }

    fn unknown(&self) -> DecodeError {
        DecodeError::Unknown { what: "column encoding", number: i128::from(self.encoding + self.marks) }
    }

    /// Refuses the encoding unless it is one here.
    fn only(&self, allowed: bool) -> Result<(), DecodeError> {
        if allowed { Ok(()) } else { Err(self.unknown()) }
    }

    fn entries(&self, entries: usize) -> Result<(), DecodeError> {
        if self.entries == entries {
            return Ok(());
        }
        Err(DecodeError::Inconsistent("a column has other parameters than its encoding takes"))
    }

    fn planes(&self) -> bool {
        self.marks & PLANES != 0
    }

    fn items<T: Item>(&self, reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        if self.count == 0 {
            self.entries(3)?;
            return match (self.encoding, self.marks, reader.binary()?) {
                (RAW, 0, []) => Ok(Vec::new()),
                _ => Err(DecodeError::Inconsistent("an empty column is written as encoding 0 without data")),
            };
        }
        match self.encoding {
            RAW => {
                self.only(self.marks & ZIGZAG == 0)?;
                self.entries(3)?;
                stored(reader.binary()?, self.count, T::WIDTH, self.planes(), T::from_bits)
            }
            CONSTANT => {
                self.only(self.marks == 0)?;
                self.entries(3)?;
                let item = stored(reader.binary()?, 1, T::WIDTH, false, T::from_bits)?;
                Ok(vec![item[0]; self.count])
            }
            DELTA => {
                of_type(T::DELTA)?;
                self.entries(5)?;
                let width = width(reader, &[1, 2, 4, 8])?;
                let first = wrapped(reader)?;
                let steps = self.differences(reader.binary()?, self.count - 1, width)?;
                collect(self.count, first, steps)
            }
            DELTA_OF_DELTA => {
                of_type(T::DELTA)?;
                self.entries(6)?;
                let width = width(reader, &[1, 2, 4, 8])?;
                let first = wrapped(reader)?;
                let start = wrapped(reader)?;
                let mut step = start;
                if self.count < 2 {
                    return Err(DecodeError::Inconsistent(
                        "a delta-of-delta column has fewer than two items",
                    ));
                }
                let seconds = self.differences(reader.binary()?, self.count - 2, width)?;
                let steps = seconds.map(|second| {
                    step = step.wrapping_add(second);
                    step
                });
                collect(self.count, first, std::iter::once(start).chain(steps))
            }
            RUN_LENGTH => {
                self.only(self.marks == 0)?;
                self.entries(4)?;
                self.runs(reader)
            }
            NARROW => {
                self.only(self.marks & ZIGZAG == 0)?;
                of_type(T::NARROW)?;
                self.entries(4)?;
                let width = width(reader, &[1, 2, 4])?;
                if width > T::WIDTH {
                    return Err(DecodeError::Inconsistent("narrow items are wider than their column's type"));
                }
                stored(reader.binary()?, self.count, width, self.planes(), T::from_bits)
            }
            DECIMAL | SEGMENTS => {
                of_type(false)?;
                Ok(Vec::new())
            }
            _ => Err(self.unknown()),
        }
    }

    fn runs<T: Item>(&self, reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        let runs = reader.number("a column's runs", self.count as u64)? as usize;
        let data = reader.binary()?;
        if data.len() != runs * (4 + T::WIDTH) {
            return Err(DecodeError::Inconsistent("a column's runs have other bytes than they need"));
        }
        let (lengths, items) = data.split_at(4 * runs);
        let lengths: Vec<usize> = stored(lengths, runs, 4, false, |bits| bits as usize)?;
        if lengths.iter().map(|length| *length as u64).sum::<u64>() != self.count as u64 {
            return Err(DecodeError::Inconsistent("a column's runs don't add up to its count"));
        }
        let items = stored(items, runs, T::WIDTH, false, T::from_bits)?;
        let mut out = Vec::with_capacity(self.count);
        for (item, length) in items.into_iter().zip(lengths) {
            out.resize(out.len() + length, item);
        }
        Ok(out)
    }

    /// Encoding 4: one scale for the whole column.
    fn decimals(&self, reader: &mut Reader<'_>) -> Result<Vec<f64>, DecodeError> {
        self.entries(6)?;
        let scale = reader.integer()?;
        let power = usize::try_from(scale).ok().and_then(|scale| POWERS.get(scale));
        let power = *power.ok_or(DecodeError::Unknown { what: "decimal scale", number: scale })?;
        let width = width(reader, &[1, 2, 4, 8])?;
        let mut whole = wrapped(reader)?;
        let steps = self.differences(reader.binary()?, self.count - 1, width)?;
        std::iter::once(0)
            .chain(steps)
            .map(|step| {
                whole = whole.wrapping_add(step);
                decimal(whole, power)
            })
            .collect()
    }

    fn differences(
        &self,
        data: &[u8],
        count: usize,
        width: usize,
    ) -> Result<impl Iterator<Item = i64>, DecodeError> {
        let signed = self.marks & ZIGZAG == 0;
        let shift = 64 - 8 * width as u32;
        let stored = stored(data, count, width, self.planes(), |bits| bits)?;
        Ok(stored.into_iter().map(move |bits| match signed {
            true => (bits << shift) as i64 >> shift,
            false => unzigzag(bits),
        }))
    }
}

/// A decimal's value; refused outside the whole numbers that f64 holds exactly.
pub(super) fn decimal(whole: i64, power: f64) -> Result<f64, DecodeError> {
    if whole <= -EXACT || whole >= EXACT {
        return Err(DecodeError::Inconsistent("a decimal leaves the whole numbers that f64 holds exactly"));
    }
    Ok(whole as f64 / power)
}

/// `first` and its running sums with the steps.
fn collect<T: Item>(
    count: usize,
    first: i64,
    steps: impl Iterator<Item = i64>,
) -> Result<Vec<T>, DecodeError> {
    const OUTSIDE: DecodeError = DecodeError::Inconsistent("a column holds a value outside its type");
    let mut out = Vec::with_capacity(count);
    let mut value = first;
    out.push(T::from_wide(value).ok_or(OUTSIDE)?);
    for step in steps {
        value = value.wrapping_add(step);
        out.push(T::from_wide(value).ok_or(OUTSIDE)?);
    }
    Ok(out)
}

/// An encoding that other types have.
fn of_type(allowed: bool) -> Result<(), DecodeError> {
    if allowed {
        Ok(())
    } else {
        Err(DecodeError::Inconsistent("an encoding that isn't for this column's type"))
    }
}

fn width(reader: &mut Reader<'_>, known: &[usize]) -> Result<usize, DecodeError> {
    let number = reader.integer()?;
    let width = known.iter().find(|known| **known as i128 == number);
    width.copied().ok_or(DecodeError::Unknown { what: "item width", number })
}

/// A whole number of the wire as 64 bits, as its writer's arithmetic had it.
fn wrapped(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    let number = reader.integer()?;
    match (i64::try_from(number), u64::try_from(number)) {
        (Ok(signed), _) => Ok(signed),
        (_, Ok(unsigned)) => Ok(unsigned as i64),
        _ => Err(DecodeError::Unknown { what: "first item", number }),
    }
}

/// Exactly `count` items of `width` bytes; with byte planes, their bytes are put together again.
fn stored<T>(
    data: &[u8],
    count: usize,
    width: usize,
    planes: bool,
    from: impl Fn(u64) -> T,
) -> Result<Vec<T>, DecodeError> {
    if Some(data.len()) != count.checked_mul(width) {
        return Err(DecodeError::Inconsistent("a column has other bytes than its count needs"));
    }
    let mut out = Vec::with_capacity(count);
    if planes && count > 0 {
        let planes: Vec<&[u8]> = data.chunks_exact(count).collect();
        out.extend(
            (0..count)
                .map(|at| from(planes.iter().rev().fold(0, |bits, plane| bits << 8 | u64::from(plane[at])))),
        );
        return Ok(out);
    }
    out.extend(data.chunks_exact(width).map(|item| {
        let mut bits = [0; 8];
        bits[..width].copy_from_slice(item);
        from(u64::from_le_bytes(bits))
    }));
    Ok(out)
}
