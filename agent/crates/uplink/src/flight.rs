//! What is under way in this session: how much of which lane, and since when each batch.

use std::collections::BTreeMap;
use std::time::Duration;

use telemetry::{BatchKey, Lane};
use wire::v1;

/// One frame that waits for an ack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    /// Of the payload; 0 of a loss.
    pub(crate) bytes: u64,
    pub(crate) lane: Lane,
    pub(crate) sent: Duration,
    /// The backlog's bytes under way when it was sent, itself included.
    pub(crate) beside: u64,
}

/// Frames by epoch and seq. As many as the credit allows.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    all: BTreeMap<([u8; 16], u64), Flight>,
    live: u64,
    backlog: u64,
}

impl Flights {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Payload bytes of a lane that are under way.
    pub(crate) fn bytes(&self, lane: Lane) -> u64 {
        match lane {
            Lane::Live => self.live,
            Lane::Backlog => self.backlog,
        }
    }

    pub(crate) fn sent(&mut self, key: BatchKey, lane: Lane, bytes: u64, now: Duration) {
        self.gone(key);
        *self.sum(lane) += bytes;
        let flight = Flight { bytes, lane, sent: now, beside: self.backlog };
        self.all.insert((key.epoch.0, key.seq), flight);
    }

    /// It is answered otherwise than by an ack.
    pub(crate) fn gone(&mut self, key: BatchKey) {
        self.take((key.epoch.0, key.seq));
    }

    /// Takes out what the collector holds.
    pub(crate) fn acked(&mut self, holdings: &v1::Holdings) -> Vec<Flight> {
        let Ok(epoch) = <[u8; 16]>::try_from(holdings.epoch.as_slice()) else { return Vec::new() };
        let ranges = holdings.ranges.iter().map(|range| (range.first, range.last));
        let held = ranges.chain([(1, holdings.upto)]).filter(|(first, last)| first <= last);
        let named: Vec<_> = held
            .flat_map(|(first, last)| self.all.range((epoch, first)..=(epoch, last)).map(|(key, _)| *key))
            .collect();
        named.into_iter().filter_map(|key| self.take(key)).collect()
    }

    fn take(&mut self, key: ([u8; 16], u64)) -> Option<Flight> {
        let flight = self.all.remove(&key)?;
        *self.sum(flight.lane) -= flight.bytes;
        Some(flight)
    }

    fn sum(&mut self, lane: Lane) -> &mut u64 {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        }
    }
}

#[cfg(test)]
mod tests {
    use telemetry::Epoch;

    use super::*;

    fn key(seq: u64) -> BatchKey {
        BatchKey { epoch: Epoch([7; 16]), seq }
    }

    #[test]
    fn an_ack_takes_out_what_it_names_and_nothing_else() {
        let mut flights = Flights::default();
        for seq in 1..=6 {
            flights.sent(key(seq), if seq == 6 { Lane::Live } else { Lane::Backlog }, 10, Duration::ZERO);
        }
        let holdings =
            v1::Holdings { epoch: vec![7; 16], upto: 2, ranges: vec![v1::Range { first: 4, last: 4 }] };
        assert_eq!(flights.acked(&holdings).len(), 3);
        assert_eq!((flights.bytes(Lane::Backlog), flights.bytes(Lane::Live)), (20, 10));
        assert!(flights.acked(&v1::Holdings { epoch: vec![8; 16], upto: 9, ranges: vec![] }).is_empty());
        flights.gone(key(3));
        assert_eq!(flights.bytes(Lane::Backlog), 10);
    }
}
