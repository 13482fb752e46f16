//! Just enough msgpack for known shapes: containers are opened one by one, never by recursion, so
//! depth is a property of this code and not of the bytes, and a claimed length allocates nothing.

use telemetry::Attribute;

use crate::error::DecodeError;

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    fn marker(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// A big-endian number of `n` bytes, n <= 8.
    fn big(&mut self, n: usize) -> Result<u64, DecodeError> {
        Ok(self.take(n)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A length whose items take at least `each` bytes: refused when they can't be there.
    fn length(&mut self, n: usize, each: usize) -> Result<usize, DecodeError> {
        let length = self.big(n)? as usize;
        self.bounded(length, each)
    }

    fn bounded(&self, length: usize, each: usize) -> Result<usize, DecodeError> {
        match length.checked_mul(each) {
            Some(bytes) if bytes <= self.rest.len() => Ok(length),
            _ => Err(DecodeError::Truncated),
        }
    }

    /// Opens an array.
    pub(crate) fn array(&mut self) -> Result<usize, DecodeError> {
        match self.marker()? {
            marker @ 0x90..=0x9f => self.bounded(usize::from(marker & 0x0f), 1),
            0xdc => self.length(2, 1),
            0xdd => self.length(4, 1),
            found => Err(DecodeError::Type { expected: "an array", found }),
        }
    }

    /// Opens a map.
    pub(crate) fn map(&mut self) -> Result<usize, DecodeError> {
        match self.marker()? {
            marker @ 0x80..=0x8f => self.bounded(usize::from(marker & 0x0f), 2),
            0xde => self.length(2, 2),
            0xdf => self.length(4, 2),
            found => Err(DecodeError::Type { expected: "a map", found }),
        }
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = match self.marker()? {
            marker @ 0xa0..=0xbf => usize::from(marker & 0x1f),
            0xd9 => self.length(1, 1)?,
            0xda => self.length(2, 1)?,
            0xdb => self.length(4, 1)?,
            found => return Err(DecodeError::Type { expected: "text", found }),
        };
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::NotText)
    }

    pub(crate) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = match self.marker()? {
            0xc4 => self.length(1, 1)?,
            0xc5 => self.length(2, 1)?,
            0xc6 => self.length(4, 1)?,
            found => return Err(DecodeError::Type { expected: "bytes", found }),
        };
        self.take(length)
    }

    /// A whole number of any sign and width.
    pub(crate) fn integer(&mut self) -> Result<i128, DecodeError> {
        let marker = self.marker()?;
        self.integer_of(marker)?.ok_or(DecodeError::Type { expected: "a whole number", found: marker })
    }

    fn integer_of(&mut self, marker: u8) -> Result<Option<i128>, DecodeError> {
        Ok(Some(match marker {
            0x00..=0x7f => i128::from(marker),
            0xe0..=0xff => i128::from(marker as i8),
            0xcc..=0xcf => i128::from(self.big(1 << (marker - 0xcc))?),
            0xd0..=0xd3 => {
                let width = 1usize << (marker - 0xd0);
                let shift = 64 - 8 * width as u32;
                i128::from((self.big(width)? << shift) as i64 >> shift)
            }
            _ => return Ok(None),
        }))
    }

    /// A whole number from 0 to `max`.
    pub(crate) fn number(&mut self, what: &'static str, max: u64) -> Result<u64, DecodeError> {
        let number = self.integer()?;
        match u64::try_from(number) {
            Ok(number) if number <= max => Ok(number),
            Ok(size) => Err(DecodeError::TooLarge { what, size, max }),
            Err(_) => Err(DecodeError::Unknown { what, number }),
        }
    }

    /// Takes a nil if one is next, and says so.
    pub(crate) fn nil(&mut self) -> bool {
        match self.rest.split_first() {
            Some((0xc0, rest)) => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// An event's attribute: bool, int, float or text.
    pub(crate) fn attribute(&mut self) -> Result<Attribute, DecodeError> {
        let before = self.rest;
        Ok(match self.marker()? {
            0xc2 => Attribute::Bool(false),
            0xc3 => Attribute::Bool(true),
            0xca => Attribute::Float(f64::from(f32::from_bits(self.big(4)? as u32))),
            0xcb => Attribute::Float(f64::from_bits(self.big(8)?)),
            0xa0..=0xbf | 0xd9..=0xdb => {
                self.rest = before;
                Attribute::Text(self.text()?.to_owned())
            }
            marker => match self.integer_of(marker)? {
                Some(number) => Attribute::Int(
                    i64::try_from(number)
                        .map_err(|_| DecodeError::Unknown { what: "attribute value", number })?,
                ),
                None => {
                    return Err(DecodeError::Type { expected: "a bool, a number or text", found: marker });
                }
            },
        })
    }

    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }
}

pub(crate) fn put_array(out: &mut Vec<u8>, n: usize) {
    match n {
        0..=15 => out.push(0x90 | n as u8),
        16..=0xffff => put_head(out, 0xdc, n, 2),
        _ => put_head(out, 0xdd, n, 4),
    }
}

pub(crate) fn put_map(out: &mut Vec<u8>, n: usize) {
    match n {
        0..=15 => out.push(0x80 | n as u8),
        16..=0xffff => put_head(out, 0xde, n, 2),
        _ => put_head(out, 0xdf, n, 4),
    }
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        n @ 0..=31 => out.push(0xa0 | n as u8),
        n @ 32..=0xff => put_head(out, 0xd9, n, 1),
        n @ 0x100..=0xffff => put_head(out, 0xda, n, 2),
        n => put_head(out, 0xdb, n, 4),
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    put_binary_head(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// The head of a byte string whose `n` bytes the caller appends.
pub(crate) fn put_binary_head(out: &mut Vec<u8>, n: usize) {
    match n {
        0..=0xff => put_head(out, 0xc4, n, 1),
        0x100..=0xffff => put_head(out, 0xc5, n, 2),
        _ => put_head(out, 0xc6, n, 4),
    }
}

pub(crate) fn put_unsigned(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x7f => out.push(number as u8),
        0x80..=0xff => put_head(out, 0xcc, number as usize, 1),
        0x100..=0xffff => put_head(out, 0xcd, number as usize, 2),
        0x1_0000..=0xffff_ffff => put_head(out, 0xce, number as usize, 4),
        _ => {
            out.push(0xcf);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    match number {
        0.. => put_unsigned(out, number as u64),
        -32..0 => out.push(number as u8),
        -0x80..-32 => out.extend_from_slice(&[0xd0, number as u8]),
        -0x8000..-0x80 => {
            out.push(0xd1);
            out.extend_from_slice(&(number as i16).to_be_bytes());
        }
        -0x8000_0000..-0x8000 => {
            out.push(0xd2);
            out.extend_from_slice(&(number as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

pub(crate) fn put_nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

pub(crate) fn put_attribute(out: &mut Vec<u8>, value: &Attribute) {
    match value {
        Attribute::Bool(value) => out.push(0xc2 | u8::from(*value)),
        Attribute::Int(value) => put_signed(out, *value),
        Attribute::Float(value) => {
            out.push(0xcb);
            out.extend_from_slice(&value.to_bits().to_be_bytes());
        }
        Attribute::Text(value) => put_text(out, value),
    }
}

fn put_head(out: &mut Vec<u8>, marker: u8, n: usize, width: usize) {
    out.push(marker);
    out.extend_from_slice(&(n as u64).to_be_bytes()[8 - width..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_of_any_size_come_back(signed in any::<i64>(), unsigned in any::<u64>(), shift in 0u32..64) {
            let (signed, unsigned) = (signed >> shift, unsigned >> shift);
            let mut bytes = Vec::new();
            put_signed(&mut bytes, signed);
            put_unsigned(&mut bytes, unsigned);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.integer()?, i128::from(signed));
            prop_assert_eq!(reader.integer()?, i128::from(unsigned));
            prop_assert!(reader.end().is_ok());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), calls in proptest::collection::vec(0u8..7, 0..20)) {
            let mut reader = Reader::new(&bytes);
            for call in calls {
                match call {
                    0 => drop(reader.array()),
                    1 => drop(reader.map()),
                    2 => drop(reader.text()),
                    3 => drop(reader.binary()),
                    4 => drop(reader.integer()),
                    5 => drop(reader.attribute()),
                    _ => drop(reader.nil()),
                }
            }
        }
    }

    #[test]
    fn lengths_on_both_sides_of_every_head_come_back() {
        for n in [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
            let mut bytes = Vec::new();
            put_text(&mut bytes, &"x".repeat(n));
            put_binary(&mut bytes, &vec![7; n]);
            put_array(&mut bytes, n);
            bytes.resize(bytes.len() + n, 0);
            put_map(&mut bytes, n);
            bytes.resize(bytes.len() + 2 * n, 0);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.text().unwrap().len(), n);
            assert_eq!(reader.binary().unwrap(), vec![7; n]);
            assert_eq!(reader.array(), Ok(n));
            reader.take(n).unwrap();
            assert_eq!(reader.map(), Ok(n));
        }
    }

    #[test]
    fn a_length_that_cannot_be_there_is_refused_before_anything_is_allocated() {
        assert_eq!(Reader::new(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1]).array(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[0xdf, 0, 0, 0, 2, 1, 1, 1]).map(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[0xc6, 0x7f, 0xff, 0xff, 0xff]).binary(), Err(DecodeError::Truncated));
    }
}
