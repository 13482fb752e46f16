//! A large batch goes in parts, so that fresh ones pass between them.
//!
//! Frames keep their order, and a batch of 60 kB takes three seconds on a link of 20 kB/s: whatever is fresh would wait
//! behind it. So its bytes go in pieces that the pace allows, and the collector says of each that it has arrived, which also
//! tells the pace how fast the link is. One batch is in parts at a time.

use std::collections::VecDeque;
use std::time::Duration;

use prost::Message;
use prost::bytes::Bytes;
use wire::v1;

/// A part that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartFlight {
    /// Bytes of all parts of the session up to its end.
    upto: u64,
    pub(crate) bytes: u64,
    pub(crate) sent: Duration,
    /// The backlog's bytes under way when it was sent, itself included.
    pub(crate) beside: u64,
}

/// Of one session.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// The batch, and how much of it was sent.
    open: Option<(Bytes, usize)>,
    sent: u64,
    flying: VecDeque<PartFlight>,
}

impl Parts {
    /// Whether a batch has parts that were not sent.
    pub(crate) fn unsent(&self) -> bool {
        self.open.is_some()
    }

    /// Bytes of parts that are under way.
    pub(crate) fn bytes(&self) -> u64 {
        self.flying.iter().map(|part| part.bytes).sum()
    }

    /// A batch begins; none may be unsent.
    pub(crate) fn begin(&mut self, batch: &v1::Batch) {
        self.open = Some((batch.encode_to_vec().into(), 0));
    }

    /// What was not sent of a batch never is: it begins anew.
    pub(crate) fn give_up(&mut self) {
        self.open = None;
    }

    /// The next part, of at most so many bytes; `backlog` are those of whole batches that are under way beside it.
    pub(crate) fn next(&mut self, most: usize, backlog: u64, now: Duration) -> Option<v1::Part> {
        let (batch, offset) = self.open.take()?;
        let end = batch.len().min(offset + most.max(1));
        let data = batch.slice(offset..end);
        let part = v1::Part { offset: offset as u32, size: batch.len() as u32, data };
        self.sent += part.data.len() as u64;
        let bytes = part.data.len() as u64;
        let beside = backlog + self.bytes() + bytes;
        self.flying.push_back(PartFlight { upto: self.sent, bytes, sent: now, beside });
        self.open = (end < batch.len()).then_some((batch, end));
        Some(part)
    }

    /// So many bytes of parts have arrived: gives those that were not known to have.
    pub(crate) fn taken(&mut self, bytes: u64) -> Vec<PartFlight> {
        let arrived = self.flying.partition_point(|part| part.upto <= bytes);
        self.flying.drain(..arrived).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: usize) -> v1::Batch {
        v1::Batch { seq: 7, payload: vec![1; bytes].into(), ..v1::Batch::default() }
    }

    #[test]
    fn the_parts_of_a_batch_are_its_bytes_in_order() {
        let (mut parts, whole) = (Parts::default(), batch(10_000));
        parts.begin(&whole);
        let mut bytes = Vec::new();
        while let Some(part) = parts.next(4_096, 0, Duration::ZERO) {
            assert_eq!((part.offset as usize, part.size as usize), (bytes.len(), whole.encoded_len()));
            bytes.extend_from_slice(&part.data);
        }
        assert_eq!(v1::Batch::decode(bytes.as_slice()).unwrap(), whole);
        assert!(!parts.unsent());
        assert_eq!(parts.bytes(), bytes.len() as u64);
    }

    #[test]
    fn parts_are_under_way_until_their_last_byte_has_arrived() {
        let mut parts = Parts::default();
        parts.begin(&batch(10_000));
        let now = Duration::from_secs(1);
        let lengths: Vec<u64> =
            (0..3).filter_map(|_| parts.next(2_000, 500, now)).map(|part| part.data.len() as u64).collect();
        assert_eq!(lengths, [2_000; 3]);
        assert!(parts.taken(1_999).is_empty());
        let arrived = parts.taken(4_000);
        assert_eq!(arrived.iter().map(|part| part.beside).collect::<Vec<_>>(), [2_500, 4_500]);
        assert_eq!(parts.bytes(), 2_000);
        // What is given up was under way all the same.
        parts.give_up();
        assert_eq!(parts.bytes(), 2_000);
        parts.begin(&batch(100));
        assert_eq!(parts.next(2_000, 0, now).map(|part| part.offset), Some(0));
    }
}
