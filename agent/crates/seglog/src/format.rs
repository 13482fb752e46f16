//! The bytes of a segment: header, frames, and the search for the next intact record. The crate's
//! documentation has the diagram.

/// What each segment begins with; the last byte is the version.
const MAGIC: [u8; 8] = *b"TXSEG\0\0\x01";
const COPY: usize = 32;
/// Bytes of the header: two equal copies, so that one damaged sector or byte costs nothing.
pub(crate) const HEADER: usize = 2 * COPY;
/// Bytes before a payload.
pub(crate) const FRAME: usize = 16;
/// How many bytes one search for an intact record may check. Only someone who fills the log with
/// imitations of records and then damages it gets there; without a bound that would take minutes.
const SEARCH_BUDGET: usize = 1 << 30;

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Number of its first record.
    pub(crate) first: u64,
    /// One more than the last record before it. Lower than `first` where numbers were skipped on
    /// purpose: those in between never named a record.
    pub(crate) follows: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut copy = [0; COPY];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..16].copy_from_slice(&self.first.to_le_bytes());
        copy[16..24].copy_from_slice(&self.follows.to_le_bytes());
        let crc = crc32c::crc32c(&copy[..28]);
        copy[28..].copy_from_slice(&crc.to_le_bytes());
        let mut out = [0; HEADER];
        out[..COPY].copy_from_slice(&copy);
        out[COPY..].copy_from_slice(&copy);
        out
    }

    /// From the first bytes of a segment; `None` when both copies are damaged, or when another
    /// version wrote them.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let copy = bytes
            .chunks_exact(COPY)
            .take(2)
            .find(|copy| copy[..8] == MAGIC && crc32c::crc32c(&copy[..28]).to_le_bytes() == copy[28..])?;
        Some(Self { first: u64_at(copy, 8), follows: u64_at(copy, 16) })
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

/// The checksum covers length, number and payload. It starts from the log's salt, so that nobody who
/// doesn't know that can send a payload that holds bytes which pass for a record.
fn checksum(salt: u32, len: u32, number: u64, payload: &[u8]) -> u32 {
    let mut head = [0; 12];
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4..].copy_from_slice(&number.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(salt, &head), payload)
}

/// Appends one record. The caller has checked that the length fits.
pub(crate) fn put_record(out: &mut Vec<u8>, salt: u32, number: u64, payload: &[u8]) {
    let len = payload.len() as u32;
    out.reserve(FRAME + payload.len());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&checksum(salt, len, number, payload).to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(payload);
}

/// What a record's first bytes claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) len: u32,
    pub(crate) crc: u32,
    pub(crate) number: u64,
}

impl Frame {
    /// `None` when fewer bytes are there than a frame has.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FRAME)?;
        Some(Self { len: u32_at(bytes, 0), crc: u32_at(bytes, 4), number: u64_at(bytes, 8) })
    }

    /// Bytes of frame and payload.
    pub(crate) fn size(&self) -> usize {
        FRAME + self.len as usize
    }

    /// True when these are its bytes.
    pub(crate) fn fits(&self, salt: u32, payload: &[u8]) -> bool {
        payload.len() == self.len as usize && checksum(salt, self.len, self.number, payload) == self.crc
    }
}

/// Looks for the next intact record behind a damaged one: at every byte, since a damaged length
/// says nothing about where the next begins. Its number must lie in `numbers` and be one that the
/// bytes before it can have led to. Returns where it begins, and its number.
pub(crate) fn find_intact(bytes: &[u8], salt: u32, numbers: std::ops::Range<u64>) -> Option<(usize, u64)> {
    let mut budget = SEARCH_BUDGET;
    for at in 0..bytes.len().saturating_sub(FRAME - 1) {
        let frame = Frame::decode(&bytes[at..])?;
        // At most one record in each FRAME bytes that were passed.
        let most = numbers.start.saturating_add((at / FRAME) as u64 + 1);
        if !numbers.contains(&frame.number) || frame.number > most {
            continue;
        }
        let Some(payload) = bytes.get(at + FRAME..at + frame.size()) else { continue };
        budget = budget.checked_sub(payload.len())?;
        if frame.fits(salt, payload) {
            return Some((at, frame.number));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_one_damaged_byte_anywhere() {
        let header = Header { first: 7, follows: 5 };
        for at in 0..HEADER {
            let mut bytes = header.encode();
            bytes[at] ^= 0x5a;
            assert_eq!(Header::decode(&bytes), Some(header), "byte {at}");
        }
        assert_eq!(Header::decode(&header.encode()[..COPY]), Some(header));
        assert_eq!(Header::decode(&header.encode()[..COPY - 1]), None);
    }

    #[test]
    fn a_header_of_another_version_is_not_guessed() {
        let mut bytes = Header { first: 7, follows: 5 }.encode();
        for copy in bytes.chunks_exact_mut(COPY) {
            copy[7] = 2;
            let crc = crc32c::crc32c(&copy[..28]);
            copy[28..].copy_from_slice(&crc.to_le_bytes());
        }
        assert_eq!(Header::decode(&bytes), None);
    }

    #[test]
    fn a_record_within_a_payload_is_not_found_without_the_salt() {
        let mut forged = Vec::new();
        put_record(&mut forged, 1, 6, b"forged");
        let mut bytes = Vec::new();
        put_record(&mut bytes, 2, 5, &forged);
        let start = bytes.len();
        put_record(&mut bytes, 2, 6, b"real");
        bytes[0] ^= 1;
        assert_eq!(find_intact(&bytes, 2, 5..u64::MAX), Some((start, 6)));
    }
}
