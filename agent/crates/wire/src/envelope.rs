//! Envelopes: frames on a site's broker, which ends TLS and may drop, repeat or forge what passes through it.
//!
//! `signature = HMAC-SHA256(token, "telemetryx-link-1" ‖ direction ‖ name length (u16) ‖ name ‖ session ‖ counter (u64) ‖ frame)`,
//! numbers little-endian. Session and counter make a replay and a gap visible: a counter that was seen is a
//! redelivery and passed over, one that skips ends the session. Both directions are signed: a forged ack would
//! make an agent delete data. Without a token, which is possible on loopback only, nothing is signed or checked.
//! `proto/vectors/envelope.json` has signatures that both languages must find.

use prost::Message;
use ring::hmac;

use crate::v1;

const LABEL: &[u8] = b"telemetryx-link-1";

/// Which way an envelope travels: one of the other direction can't be played back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the agent.
    Up = 1,
    /// From the collector.
    Down = 2,
}

/// What both ends sign with: the agent's token.
#[derive(Clone, Debug)]
pub struct Key(hmac::Key);

impl Key {
    /// The key that a token is.
    pub fn of_token(token: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()))
    }

    /// The signature of an envelope.
    pub fn sign(
        &self,
        direction: Direction,
        agent: &str,
        session: &[u8],
        counter: u64,
        frame: &[u8],
    ) -> [u8; 32] {
        let tag = hmac::sign(&self.0, &signed(direction, agent, session, counter, frame));
        let mut signature = [0; 32];
        signature.copy_from_slice(tag.as_ref());
        signature
    }

    /// Whether a signature is of this key and these contents. Takes the same time whatever differs.
    pub fn verify(&self, direction: Direction, agent: &str, envelope: &v1::Envelope) -> bool {
        let v1::Envelope { session, counter, frame, signature } = envelope;
        hmac::verify(&self.0, &signed(direction, agent, session, *counter, frame), signature).is_ok()
    }
}

fn signed(direction: Direction, agent: &str, session: &[u8], counter: u64, frame: &[u8]) -> Vec<u8> {
    // Names are at most 128 bytes; a longer one could only fail to verify.
    let name = u16::try_from(agent.len()).unwrap_or(u16::MAX).to_le_bytes();
    [LABEL, &[direction as u8], &name, agent.as_bytes(), session, &counter.to_le_bytes(), frame].concat()
}

/// Why bytes are no envelope of this session. They are passed over and counted, never answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not decodable, or not of the sizes that an envelope has.
    #[error("these bytes are no envelope")]
    Malformed,
    /// Of another session: late, or for another hello.
    #[error("an envelope of another session")]
    OtherSession,
    /// Not signed with our key.
    #[error("the signature is not the collector's: do agent and collector hold the same token?")]
    Signature,
}

/// What a genuine envelope of this session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The next one, with its frame.
    Next(Vec<u8>),
    /// One that was seen before.
    Again,
    /// Something before it was lost.
    Gap {
        /// The counter that should have come.
        expected: u64,
        /// The one that came.
        found: u64,
        /// What is in it: perhaps the other end's word that the session is over.
        frame: Vec<u8>,
    },
}

/// One session's envelopes at one end.
#[derive(Debug)]
pub struct Sealer {
    key: Option<Key>,
    agent: String,
    session: [u8; 16],
    outgoing: Direction,
    sent: u64,
    received: u64,
}

impl Sealer {
    /// The agent's end of a session.
    pub fn of_agent(key: Option<Key>, agent: &str, session: [u8; 16]) -> Self {
        Self { key, agent: agent.to_owned(), session, outgoing: Direction::Up, sent: 0, received: 0 }
    }

    /// The collector's end.
    pub fn of_collector(key: Option<Key>, agent: &str, session: [u8; 16]) -> Self {
        Self { outgoing: Direction::Down, ..Self::of_agent(key, agent, session) }
    }

    /// The next envelope, serialised, with a frame (serialised too; empty at the end of a session).
    pub fn seal(&mut self, frame: Vec<u8>) -> Vec<u8> {
        self.sent += 1;
        let sign =
            |key: &Key| key.sign(self.outgoing, &self.agent, &self.session, self.sent, &frame).to_vec();
        let signature = self.key.as_ref().map(sign).unwrap_or_default();
        v1::Envelope { session: self.session.to_vec(), counter: self.sent, frame, signature }.encode_to_vec()
    }

    /// What came from the other end.
    ///
    /// # Errors
    /// [`EnvelopeError`]: to be passed over.
    pub fn open(&mut self, bytes: &[u8]) -> Result<Opened, EnvelopeError> {
        let envelope = v1::Envelope::decode(bytes).map_err(|_| EnvelopeError::Malformed)?;
        if envelope.session.len() != 16 || envelope.counter == 0 {
            return Err(EnvelopeError::Malformed);
        }
        if envelope.session != self.session {
            return Err(EnvelopeError::OtherSession);
        }
        let incoming = match self.outgoing {
            Direction::Up => Direction::Down,
            Direction::Down => Direction::Up,
        };
        if let Some(key) = &self.key
            && !key.verify(incoming, &self.agent, &envelope)
        {
            return Err(EnvelopeError::Signature);
        }
        let expected = self.received + 1;
        match envelope.counter.cmp(&expected) {
            std::cmp::Ordering::Less => Ok(Opened::Again),
            std::cmp::Ordering::Equal => {
                self.received = expected;
                Ok(Opened::Next(envelope.frame))
            }
            std::cmp::Ordering::Greater => {
                Ok(Opened::Gap { expected, found: envelope.counter, frame: envelope.frame })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> Option<Key> {
        Some(Key::of_token("a-token-of-some-length"))
    }

    fn ends(session: u8) -> (Sealer, Sealer) {
        (Sealer::of_agent(key(), "edge", [session; 16]), Sealer::of_collector(key(), "edge", [session; 16]))
    }

    #[test]
    fn what_one_end_seals_the_other_opens_once_and_in_order() {
        let (mut agent, mut collector) = ends(1);
        let (first, second) = (agent.seal(b"hello".to_vec()), agent.seal(b"batch".to_vec()));
        assert_eq!(collector.open(&first), Ok(Opened::Next(b"hello".to_vec())));
        assert_eq!(collector.open(&first), Ok(Opened::Again));
        assert_eq!(collector.open(&second), Ok(Opened::Next(b"batch".to_vec())));
        assert_eq!(collector.open(&first), Ok(Opened::Again));
        let greeting = collector.seal(b"greeting".to_vec());
        assert_eq!(agent.open(&greeting), Ok(Opened::Next(b"greeting".to_vec())));
    }

    #[test]
    fn a_gap_is_noticed_and_stays_one() {
        let (mut agent, mut collector) = ends(1);
        let first = collector.seal(b"1".to_vec());
        drop(collector.seal(b"2".to_vec()));
        let third = collector.seal(b"3".to_vec());
        assert!(matches!(agent.open(&first), Ok(Opened::Next(_))));
        for _ in 0..2 {
            let opened = agent.open(&third);
            assert_eq!(opened, Ok(Opened::Gap { expected: 2, found: 3, frame: b"3".to_vec() }));
        }
    }

    #[test]
    fn what_is_of_another_session_or_played_back_or_unsigned_is_passed_over() {
        let (mut agent, mut collector) = ends(1);
        assert_eq!(agent.open(&ends(2).1.seal(vec![])), Err(EnvelopeError::OtherSession));
        let own = agent.seal(b"hello".to_vec());
        assert_eq!(agent.open(&own), Err(EnvelopeError::Signature), "the agent's own, played back");
        let mut unsigned = Sealer::of_collector(None, "edge", [1; 16]);
        assert_eq!(agent.open(&unsigned.seal(b"ack".to_vec())), Err(EnvelopeError::Signature));
        let mut other = Sealer::of_collector(key(), "edge2", [1; 16]);
        assert_eq!(agent.open(&other.seal(b"ack".to_vec())), Err(EnvelopeError::Signature));
        assert!(agent.open(&collector.seal(b"ack".to_vec())).is_ok());
    }

    #[test]
    fn without_a_token_nothing_is_signed_or_checked() {
        let mut agent = Sealer::of_agent(None, "edge", [1; 16]);
        let envelope = v1::Envelope::decode(&agent.seal(b"x".to_vec())[..]).unwrap();
        assert!(envelope.signature.is_empty());
        let signed = ends(1).1.seal(b"ack".to_vec());
        assert_eq!(agent.open(&signed), Ok(Opened::Next(b"ack".to_vec())));
    }

    #[test]
    fn the_shared_vectors_have_these_signatures() {
        let text = include_str!("../../../../proto/vectors/envelope.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let bytes = |value: &serde_json::Value| -> Vec<u8> {
            let hex = value.as_str().unwrap();
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        let vectors = vectors.as_array().unwrap();
        assert!(vectors.len() >= 4);
        for vector in vectors {
            let key = Key::of_token(vector["token"].as_str().unwrap());
            let direction = if vector["direction"] == "up" { Direction::Up } else { Direction::Down };
            let counter = vector["counter"].as_str().unwrap().parse().unwrap();
            let agent = vector["agent"].as_str().unwrap();
            let signature =
                key.sign(direction, agent, &bytes(&vector["session"]), counter, &bytes(&vector["frame"]));
            assert_eq!(signature.to_vec(), bytes(&vector["signature"]), "{vector}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_opened_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let opened = ends(1).0.open(&bytes);
            prop_assert!(opened.is_err(), "nothing genuine comes by chance");
            let _ = Sealer::of_agent(None, "edge", [1; 16]).open(&bytes);
        }

        /// One changed bit anywhere, and it isn't taken for what it was.
        #[test]
        fn a_changed_bit_is_noticed(frame in prop::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (mut agent, mut collector) = ends(1);
            let mut sealed = collector.seal(frame.clone());
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            if let Ok(opened) = agent.open(&sealed) {
                // A changed field number or length can leave the same contents only by leaving them whole.
                prop_assert_eq!(opened, Opened::Next(frame));
            }
        }

        /// Repeated, lost and swapped envelopes: what is taken is a beginning of what was sent, in order.
        #[test]
        fn what_is_taken_is_a_beginning_of_what_was_sent(order in prop::collection::vec(0usize..12, 0..40)) {
            let (mut agent, mut collector) = ends(1);
            let sealed: Vec<Vec<u8>> = (0..12u8).map(|frame| collector.seal(vec![frame])).collect();
            let mut taken = Vec::new();
            for at in order {
                if let Opened::Next(frame) = agent.open(&sealed[at]).unwrap() {
                    taken.push(frame[0]);
                }
            }
            prop_assert_eq!(&taken[..], &(0..taken.len() as u8).collect::<Vec<_>>()[..]);
        }
    }
}
