//! zstd with a known content size: what a frame would unpack to is checked before it is allocated.

use zstd::zstd_safe;

use crate::error::DecodeError;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Unpacks exactly one frame that states its size and needs no dictionary.
///
/// The output buffer is the window, so a frame's own window size allocates nothing.
pub(crate) fn unpack(
    bytes: &[u8],
    what: &'static str,
    max_packed: usize,
    max_raw: usize,
) -> Result<Vec<u8>, DecodeError> {
    if bytes.len() > max_packed {
        return Err(DecodeError::TooLarge { what, size: bytes.len() as u64, max: max_packed as u64 });
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(DecodeError::Frame("it begins otherwise"));
    }
    let size = match zstd_safe::get_frame_content_size(bytes) {
        Ok(Some(size)) => size,
        Ok(None) => return Err(DecodeError::Frame("no content size")),
        Err(_) => return Err(DecodeError::Frame("the header is damaged")),
    };
    if size > max_raw as u64 {
        return Err(DecodeError::TooLarge { what, size, max: max_raw as u64 });
    }
    match zstd_safe::find_frame_compressed_size(bytes) {
        Ok(length) if length == bytes.len() => {}
        Ok(length) => return Err(DecodeError::Trailing(bytes.len().saturating_sub(length))),
        Err(_) => return Err(DecodeError::Truncated),
    }
    let raw = zstd::bulk::decompress(bytes, size as usize)
        .map_err(|_| DecodeError::Frame("its content is damaged"))?;
    if raw.len() as u64 == size { Ok(raw) } else { Err(DecodeError::Frame("its content has another size")) }
}

/// Packs into one frame that states its size. Keeps its tables between calls.
pub(crate) struct Packer {
    level: i32,
    // `None` where the tables couldn't be had; the one-shot call then tries again.
    context: Option<zstd::bulk::Compressor<'static>>,
}

impl Packer {
    pub(crate) fn new(level: i32) -> Self {
        let level = level.clamp(1, 19);
        Self { level, context: zstd::bulk::Compressor::new(level).ok() }
    }

    pub(crate) fn pack(&mut self, raw: &[u8]) -> Vec<u8> {
        if self.context.is_none() {
            self.context = zstd::bulk::Compressor::new(self.level).ok();
        }
        match self.context.as_mut().and_then(|context| context.compress(raw).ok()) {
            Some(packed) => packed,
            // No memory for the tables: a frame of raw blocks is a valid frame too.
            None => store(raw),
        }
    }
}

/// A zstd frame of stored blocks (RFC 8878 section 3.1.1), for when compression itself fails.
fn store(raw: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    let mut out = Vec::with_capacity(raw.len() + 16 + 3 * (raw.len() / BLOCK + 1));
    out.extend_from_slice(&MAGIC);
    out.push(0b1110_0000); // content size of 8 bytes, single segment, no checksum, no dictionary
    out.extend_from_slice(&(raw.len() as u64).to_le_bytes());
    let mut blocks = raw.chunks(BLOCK).peekable();
    if blocks.peek().is_none() {
        out.extend_from_slice(&[1, 0, 0]);
    }
    while let Some(block) = blocks.next() {
        let head = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
        unpack(bytes, "the test", 1 << 20, 1 << 20)
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same_bytes() {
        let mut packer = Packer::new(3);
        for n in [0usize, 1, 1000, 300_000] {
            let raw: Vec<u8> = (0..n).map(|i| (i * i / 7) as u8).collect();
            assert_eq!(open(&packer.pack(&raw)).unwrap(), raw);
            assert_eq!(open(&store(&raw)).unwrap(), raw);
        }
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused_by_its_header() {
        let bomb = zstd::bulk::compress(&vec![0; 2 << 20], 3).unwrap();
        assert!(bomb.len() < 1000);
        assert_eq!(open(&bomb), Err(DecodeError::TooLarge { what: "the test", size: 2 << 20, max: 1 << 20 }));
    }

    #[test]
    fn two_frames_a_cut_frame_and_other_bytes_are_refused() {
        let frame = Packer::new(1).pack(b"some bytes, some bytes, some bytes");
        let mut two = frame.clone();
        two.extend_from_slice(&frame);
        assert_eq!(open(&two), Err(DecodeError::Trailing(frame.len())));
        for n in 0..frame.len() {
            assert!(open(&frame[..n]).is_err(), "cut at {n}");
        }
        assert!(open(b"").is_err());
        assert!(open(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]).is_err(), "a skippable frame");
    }

    #[test]
    fn a_frame_without_its_content_size_is_refused() {
        let mut context = zstd::bulk::Compressor::new(1).unwrap();
        context.include_contentsize(false).unwrap();
        assert_eq!(open(&context.compress(&[1; 100]).unwrap()), Err(DecodeError::Frame("no content size")));
    }
}
