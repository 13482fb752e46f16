//! Little-endian reading and writing of checkpoints, every length checked against what is there.

use telemetry::{SeriesDef, SeriesKey};

use crate::RestoreError;

/// Reads what the `put` functions wrote; claims of more than is there are refused.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Over all of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let (head, tail) = self.rest.split_first_chunk().ok_or(RestoreError::Damaged("it ends early"))?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, RestoreError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, RestoreError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, RestoreError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, RestoreError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Four bytes, signed.
    pub fn i32(&mut self) -> Result<i32, RestoreError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self) -> Result<i64, RestoreError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A number, bit for bit.
    pub fn f64(&mut self) -> Result<f64, RestoreError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A boot id.
    pub fn bytes16(&mut self) -> Result<[u8; 16], RestoreError> {
        self.array()
    }

    /// True or false.
    pub fn flag(&mut self) -> Result<bool, RestoreError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(RestoreError::Damaged("a flag is neither 0 nor 1")),
        }
    }

    /// A count of items of at least `size` bytes each.
    pub fn count(&mut self, size: usize) -> Result<usize, RestoreError> {
        let n = self.u32()? as usize;
        match n.checked_mul(size) {
            Some(bytes) if bytes <= self.rest.len() => Ok(n),
            _ => Err(RestoreError::Damaged("a count exceeds what is there")),
        }
    }

    /// Bytes with their length before them.
    pub fn blob(&mut self) -> Result<&'a [u8], RestoreError> {
        let n = self.count(1)?;
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }

    /// Text with its length before it.
    pub fn text(&mut self) -> Result<&'a str, RestoreError> {
        std::str::from_utf8(self.blob()?).map_err(|_| RestoreError::Damaged("text is not UTF-8"))
    }

    /// Text that may be absent.
    pub fn maybe_text(&mut self) -> Result<Option<String>, RestoreError> {
        Ok(if self.flag()? { Some(self.text()?.to_owned()) } else { None })
    }

    /// A series definition as [`telemetry::record::encode_def`] writes it.
    pub fn def(&mut self) -> Result<SeriesDef, RestoreError> {
        let (name, unit) = (self.text()?, self.text()?);
        let labels = (0..self.count(8)?)
            .map(|_| Ok((self.text()?, self.text()?)))
            .collect::<Result<Vec<_>, RestoreError>>()?;
        let key = SeriesKey::new(name, labels).map_err(|_| RestoreError::Damaged("a series is invalid"))?;
        Ok(SeriesDef { key, unit: unit.into() })
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), RestoreError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RestoreError::Damaged("bytes are left over")) }
    }
}

/// Appends bytes with their length before them.
pub fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends text that may be absent.
pub fn put_maybe_text(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_blob(out, text.as_bytes());
    }
}
