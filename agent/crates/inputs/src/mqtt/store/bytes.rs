//! Little-endian fields in and out of byte strings, bounds-checked.

/// The bytes end early or say what no writer of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of the session store")]
pub struct BadEntry;

/// Appends a u32 length and the bytes.
pub(super) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads fields from the front.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], BadEntry> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(BadEntry)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadEntry> {
        self.take(N)?.try_into().map_err(|_| BadEntry)
    }

    pub(super) fn u8(&mut self) -> Result<u8, BadEntry> {
        Ok(self.array::<1>()?[0])
    }
    pub(super) fn u16(&mut self) -> Result<u16, BadEntry> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    pub(super) fn u32(&mut self) -> Result<u32, BadEntry> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub(super) fn u64(&mut self) -> Result<u64, BadEntry> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    pub(super) fn i64(&mut self) -> Result<i64, BadEntry> {
        Ok(i64::from_le_bytes(self.array()?))
    }
    pub(super) fn u128(&mut self) -> Result<u128, BadEntry> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// A count of items of at least `size` bytes: never more than could be there.
    pub(super) fn count(&mut self, size: usize) -> Result<usize, BadEntry> {
        let n = self.u32()? as usize;
        if n.checked_mul(size).is_none_or(|bytes| bytes > self.0.len()) { Err(BadEntry) } else { Ok(n) }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], BadEntry> {
        let n = self.count(1)?;
        self.take(n)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, BadEntry> {
        std::str::from_utf8(self.bytes()?).map_err(|_| BadEntry)
    }
}
