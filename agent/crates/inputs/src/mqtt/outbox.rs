//! What one session has still to receive: a bounded queue, the window of messages in flight, and
//! their packet ids.
//!
//! A message's packet id follows from its number in the session (`number % 65,535 + 1`), so the
//! session store needs to keep numbers only and a resend after a restart carries the same id.
//! Invariant: the window holds the oldest sent and unacknowledged deliveries in the order of
//! sending; the queue holds what was never sent in this process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use telemetry::Position;

use super::message::Message;

/// One message for one session.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What.
    pub message: Arc<Message>,
    /// At this quality of service.
    pub qos: u8,
    /// With the retain flag.
    pub retain: bool,
    /// Subscription identifiers.
    pub ids: Vec<u32>,
    /// Not before the journal has this position on disk.
    pub gate: Position,
    /// Its number in the session; 0 with QoS 0.
    pub number: u64,
    /// It may have been sent before.
    pub dup: bool,
}

impl Delivery {
    fn weight(&self) -> usize {
        64 + self.message.weight()
    }

    /// The packet id that follows from its number.
    pub fn pkid(&self) -> u16 {
        pkid(self.number)
    }
}

/// The packet id of a delivery's number.
pub fn pkid(number: u64) -> u16 {
    (number % u64::from(u16::MAX)) as u16 + 1
}

#[derive(Debug)]
struct InFlight {
    delivery: Delivery,
    /// QoS 2: the client has it (PUBREC came); PUBREL is what is sent now.
    released: bool,
    /// To be sent again on this connection.
    resend: bool,
}

/// What to write next.
#[derive(Debug)]
pub enum Next {
    /// A PUBLISH.
    Publish(Delivery),
    /// A PUBREL.
    Release(u16),
}

/// Limits of one outbox.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most messages.
    pub messages: usize,
    /// Most bytes.
    pub bytes: usize,
    /// Most bytes of all outboxes of one gauge together.
    pub total: usize,
}

/// The bytes that all outboxes hold together.
pub type Gauge = Arc<AtomicUsize>;

/// The queue and the window.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Delivery>,
    window: VecDeque<InFlight>,
    /// Entries of the window still to be sent again.
    resends: usize,
    bytes: usize,
    gauge: Gauge,
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.gauge.fetch_sub(self.bytes, Relaxed);
    }
}

impl Outbox {
    /// An empty one whose bytes count into `gauge`.
    pub fn new(gauge: &Gauge) -> Self {
        let mut outbox = Self::default();
        outbox.gauge = Arc::clone(gauge);
        outbox
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.gauge.fetch_add(bytes, Relaxed);
    }

    fn shrink(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.gauge.fetch_sub(bytes, Relaxed);
    }

    /// Adds a delivery; returns what had to go for it: the oldest that were never sent, or itself
    /// when nothing else can go.
    pub fn push(&mut self, delivery: Delivery, limits: Limits) -> Vec<Delivery> {
        let weight = delivery.weight();
        let mut gone = Vec::new();
        while self.len() >= limits.messages
            || self.bytes + weight > limits.bytes
            || self.gauge.load(Relaxed) + weight > limits.total
        {
            match self.queue.pop_front() {
                Some(old) => {
                    self.shrink(old.weight());
                    gone.push(old);
                }
                None => {
                    gone.push(delivery);
                    return gone;
                }
            }
        }
        self.grow(weight);
        self.queue.push_back(delivery);
        gone
    }

    /// Adds without a limit: retained values at a subscription (they are held anyway) and what a
    /// restart brings back.
    pub fn push_unbounded(&mut self, delivery: Delivery) {
        self.grow(delivery.weight());
        self.queue.push_back(delivery);
    }

    /// Puts back a delivery whose PUBREC came before a restart.
    pub fn restore_released(&mut self, delivery: Delivery) {
        self.grow(delivery.weight());
        self.window.push_back(InFlight { delivery, released: true, resend: false });
    }

    /// A new connection: everything in flight is sent again first.
    pub fn resume(&mut self) {
        for flight in &mut self.window {
            flight.resend = true;
            flight.delivery.dup = true;
        }
        self.resends = self.window.len();
    }

    /// What to write next, with at most `window` in flight and nothing whose gate is behind
    /// `durable`.
    pub fn next(&mut self, window: usize, durable: Position) -> Option<Next> {
        if self.resends > 0 {
            let flight = self.window.iter_mut().find(|flight| flight.resend)?;
            flight.resend = false;
            self.resends -= 1;
            return Some(match flight.released {
                true => Next::Release(flight.delivery.pkid()),
                false => Next::Publish(flight.delivery.clone()),
            });
        }
        let head = self.queue.front()?;
        if head.gate > durable {
            return None;
        }
        if head.qos > 0 {
            let pkid = head.pkid();
            // An id that is still in flight: a client that never acknowledged it stalls itself.
            // After a restart the window may begin with a later number than the queue: received, but not in order.
            let far = |flight: &InFlight| head.number.abs_diff(flight.delivery.number) >= 30_000;
            let taken = (self.window.front().is_some_and(far) || self.window.back().is_some_and(far))
                && self.window.iter().any(|flight| flight.delivery.pkid() == pkid);
            if self.window.len() >= window || taken {
                return None;
            }
        }
        let delivery = self.queue.pop_front()?;
        if delivery.qos == 0 {
            self.shrink(delivery.weight());
        } else {
            self.window.push_back(InFlight { delivery: delivery.clone(), released: false, resend: false });
        }
        Some(Next::Publish(delivery))
    }

    /// The gate that the head of the queue waits for, if that is what it waits for.
    pub fn waits_for(&self, durable: Position) -> Option<Position> {
        if self.resends > 0 {
            return None;
        }
        self.queue.front().map(|head| head.gate).filter(|gate| *gate > durable)
    }

    fn take(&mut self, pkid: u16, matches: impl Fn(&InFlight) -> bool) -> Option<Delivery> {
        let at = self.window.iter().position(|flight| flight.delivery.pkid() == pkid && matches(flight))?;
        let flight = self.window.remove(at)?;
        self.resends -= usize::from(flight.resend);
        self.shrink(flight.delivery.weight());
        Some(flight.delivery)
    }

    /// PUBACK: the delivery that is done.
    pub fn acknowledged(&mut self, pkid: u16) -> Option<Delivery> {
        self.take(pkid, |flight| flight.delivery.qos == 1)
    }

    /// PUBREC with success: the number, when the id is known.
    pub fn received(&mut self, pkid: u16) -> Option<u64> {
        let flight = self
            .window
            .iter_mut()
            .find(|flight| flight.delivery.pkid() == pkid && flight.delivery.qos == 2)?;
        flight.released = true;
        Some(flight.delivery.number)
    }

    /// PUBREC with a failure: the delivery that is done.
    pub fn refused(&mut self, pkid: u16) -> Option<Delivery> {
        self.take(pkid, |flight| flight.delivery.qos == 2)
    }

    /// PUBCOMP: the delivery that is done.
    pub fn completed(&mut self, pkid: u16) -> Option<Delivery> {
        self.take(pkid, |flight| flight.released)
    }

    /// Takes out of the queue what `keep` says no to, and returns it. What is in flight was sent already; it is
    /// judged when it would be sent again.
    pub fn retain(&mut self, keep: impl Fn(&Message) -> bool) -> Vec<Delivery> {
        let mut gone = Vec::new();
        for delivery in std::mem::take(&mut self.queue) {
            if keep(&delivery.message) {
                self.queue.push_back(delivery);
            } else {
                self.shrink(delivery.weight());
                gone.push(delivery);
            }
        }
        gone
    }

    /// Drops what nobody can get any more: QoS 0 of a client that left.
    pub fn drop_qos_0(&mut self) {
        let mut bytes = 0;
        self.queue.retain(|delivery| {
            bytes += if delivery.qos == 0 { delivery.weight() } else { 0 };
            delivery.qos > 0
        });
        self.shrink(bytes);
    }

    /// Memory held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages held.
    pub fn len(&self) -> usize {
        self.queue.len() + self.window.len()
    }

    /// True when nothing waits and nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const LIMITS: Limits = Limits { messages: 3, bytes: 1 << 20, total: 1 << 20 };

    fn delivery(number: u64, qos: u8) -> Delivery {
        let message = Message {
            topic: "t".into(),
            payload: Bytes::from_static(b"1"),
            qos,
            retain: false,
            expires: None,
            properties: None,
            publisher: "p".into(),
        };
        Delivery { message: Arc::new(message), qos, retain: false, ids: vec![], gate: 0, number, dup: false }
    }

    fn numbers(outbox: &mut Outbox, window: usize) -> Vec<u64> {
        std::iter::from_fn(|| outbox.next(window, 0))
            .map(|next| match next {
                Next::Publish(delivery) => delivery.number,
                Next::Release(pkid) => u64::from(pkid) + 1_000,
            })
            .collect()
    }

    #[test]
    fn the_oldest_that_was_never_sent_goes_first() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(delivery(1, 1), LIMITS).is_empty());
        assert_eq!(numbers(&mut outbox, 1), [1]);
        outbox.push(delivery(2, 1), LIMITS);
        outbox.push(delivery(3, 1), LIMITS);
        let gone = outbox.push(delivery(4, 1), LIMITS);
        assert_eq!(gone.iter().map(|d| d.number).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn memory_is_given_back_whatever_way_a_delivery_leaves() {
        let mut outbox = Outbox::default();
        for (number, qos) in [(0, 0), (1, 1), (2, 2)] {
            outbox.push(delivery(number, qos), LIMITS);
        }
        numbers(&mut outbox, 10);
        assert!(outbox.acknowledged(pkid(1)).is_some());
        assert_eq!(outbox.received(pkid(2)), Some(2));
        assert!(outbox.completed(pkid(2)).is_some());
        assert_eq!((outbox.bytes(), outbox.len()), (0, 0));
    }

    #[test]
    fn a_resumed_session_sends_again_in_order_and_releases_what_was_received() {
        let mut outbox = Outbox::default();
        for number in 1..=3 {
            outbox.push(delivery(number, 2), LIMITS);
        }
        assert_eq!(numbers(&mut outbox, 2), [1, 2]);
        outbox.received(pkid(1));
        outbox.resume();
        assert_eq!(numbers(&mut outbox, 2), [u64::from(pkid(1)) + 1_000, 2]);
        outbox.completed(pkid(1));
        assert_eq!(numbers(&mut outbox, 2), [3]);
    }

    #[test]
    fn after_a_restart_what_was_received_out_of_order_is_released_and_the_rest_sent() {
        let mut outbox = Outbox::default();
        outbox.restore_released(delivery(2, 2));
        outbox.push_unbounded(delivery(1, 2));
        outbox.resume();
        assert_eq!(numbers(&mut outbox, 5), [u64::from(pkid(2)) + 1_000, 1]);
    }

    #[test]
    fn an_id_that_is_still_in_flight_is_not_given_out_again() {
        let mut outbox = Outbox::default();
        outbox.push_unbounded(delivery(1, 1));
        outbox.push_unbounded(delivery(1 + 65_535, 1));
        assert_eq!(numbers(&mut outbox, 5), [1]);
        outbox.acknowledged(pkid(1));
        assert_eq!(numbers(&mut outbox, 5), [65_536]);
    }

    #[test]
    fn nothing_passes_its_gate() {
        let mut outbox = Outbox::default();
        outbox.push(Delivery { gate: 5, ..delivery(1, 0) }, LIMITS);
        assert!(outbox.next(10, 4).is_none());
        assert_eq!(outbox.waits_for(4), Some(5));
        assert!(outbox.next(10, 5).is_some());
    }

    #[test]
    fn acks_of_the_wrong_kind_change_nothing() {
        let mut outbox = Outbox::default();
        outbox.push(delivery(1, 2), LIMITS);
        numbers(&mut outbox, 10);
        assert!(outbox.acknowledged(pkid(1)).is_none());
        assert!(outbox.completed(pkid(1)).is_none());
        assert!(outbox.received(99).is_none());
        assert_eq!(outbox.len(), 1);
    }
}
