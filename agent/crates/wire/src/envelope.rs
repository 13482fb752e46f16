//! Envelopes: frames on a site's broker, which ends TLS and may drop, repeat or forge what passes through it.
//!
//! What is signed: `label ‖ direction ‖ name length (u16) ‖ name ‖ session ‖ counter (u64) ‖ frame`, numbers little-endian.
//! With a token: HMAC-SHA256 under it, label "telemetryx-link-1". By an enrolled host: ECDSA P-256 with SHA-256 (DER), label
//! "telemetryx-link-2"; up with the host's key, down with that of the collector's authority.
//!
//! Session and counter make a replay and a gap visible: a counter that was seen is a redelivery and passed over, one that
//! skips ends the session. Both directions are signed: a forged ack would make an agent delete data. Without token and
//! enrolment, which is possible on loopback only, nothing is signed or checked. `proto/vectors/envelope.json` has
//! signatures that both languages must find, or believe.

use std::sync::Arc;

use prost::Message;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};

use crate::v1;

const TOKEN_LABEL: &[u8] = b"telemetryx-link-1";
const HOST_LABEL: &[u8] = b"telemetryx-link-2";

/// Which way an envelope travels: one of the other direction can't be played back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the agent.
    Up = 1,
    /// From the collector.
    Down = 2,
}

/// What an agent signs with, and believes its collector by.
#[derive(Clone, Debug)]
pub struct Key(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// Both ends have the token.
    Token(hmac::Key),
    /// An enrolled host: its own key pair, and its authority's public point (65 bytes, uncompressed).
    Host { pair: Arc<EcdsaKeyPair>, authority: Vec<u8> },
}

/// A host's key can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 key: {0}")]
pub struct KeyError(String);

impl Key {
    /// The key that a token is.
    pub fn of_token(token: &str) -> Self {
        Self(Kind::Token(hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes())))
    }

    /// An enrolled host's: its PKCS #8, and the public key of the authority (65 bytes, uncompressed).
    ///
    /// # Errors
    /// [`KeyError`] when the first isn't a P-256 key.
    pub fn of_host(pkcs8: &[u8], authority: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new())
            .map_err(|error| KeyError(error.to_string()))?;
        Ok(Self(Kind::Host { pair: Arc::new(pair), authority: authority.to_owned() }))
    }

    /// The signature of an envelope.
    pub fn sign(
        &self,
        direction: Direction,
        agent: &str,
        session: &[u8],
        counter: u64,
        frame: &[u8],
    ) -> Vec<u8> {
        let text = self.signed(direction, agent, session, counter, frame);
        match &self.0 {
            Kind::Token(key) => hmac::sign(key, &text).as_ref().to_vec(),
            // It fails when the system has no random bytes; the envelope then is passed over, and the session begins anew.
            Kind::Host { pair, .. } => pair
                .sign(&SystemRandom::new(), &text)
                .map(|signature| signature.as_ref().to_vec())
                .unwrap_or_default(),
        }
    }

    /// Whether a signature is of the other end and these contents. Of a token it takes the same time whatever differs.
    pub fn verify(&self, direction: Direction, agent: &str, envelope: &v1::Envelope) -> bool {
        let v1::Envelope { session, counter, frame, signature } = envelope;
        let text = self.signed(direction, agent, session, *counter, frame);
        match &self.0 {
            Kind::Token(key) => hmac::verify(key, &text, signature).is_ok(),
            Kind::Host { authority, .. } => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, authority).verify(&text, signature).is_ok()
            }
        }
    }

    fn signed(
        &self,
        direction: Direction,
        agent: &str,
        session: &[u8],
        counter: u64,
        frame: &[u8],
    ) -> Vec<u8> {
        let label = match self.0 {
            Kind::Token(_) => TOKEN_LABEL,
            Kind::Host { .. } => HOST_LABEL,
        };
        // Names are at most 128 bytes; a longer one could only fail to verify.
        let name = u16::try_from(agent.len()).unwrap_or(u16::MAX).to_le_bytes();
        [label, &[direction as u8], &name, agent.as_bytes(), session, &counter.to_le_bytes(), frame].concat()
    }
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
    #[error(
        "the signature is not the collector's: do agent and collector hold the same token, or was the host enrolled at another collector?"
    )]
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
        let sign = |key: &Key| key.sign(self.outgoing, &self.agent, &self.session, self.sent, &frame);
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
            let Some(token) = vector["token"].as_str() else { continue };
            let key = Key::of_token(token);
            let direction = if vector["direction"] == "up" { Direction::Up } else { Direction::Down };
            let counter = vector["counter"].as_str().unwrap().parse().unwrap();
            let agent = vector["agent"].as_str().unwrap();
            let signature =
                key.sign(direction, agent, &bytes(&vector["session"]), counter, &bytes(&vector["frame"]));
            assert_eq!(signature, bytes(&vector["signature"]), "{vector}");
        }
        let hosts: Vec<_> = vectors.iter().filter(|vector| vector["key"].is_string()).collect();
        assert!(hosts.len() >= 2);
        for vector in hosts {
            // Each end believes the other: what the vector calls the key's is believed by its public point.
            let direction = if vector["direction"] == "up" { Direction::Up } else { Direction::Down };
            let key = Key::of_host(&host_pair(), &bytes(&vector["key"])).unwrap();
            let envelope = v1::Envelope {
                session: bytes(&vector["session"]),
                counter: vector["counter"].as_str().unwrap().parse().unwrap(),
                frame: bytes(&vector["frame"]),
                signature: bytes(&vector["signature"]),
            };
            let agent = vector["agent"].as_str().unwrap();
            assert!(key.verify(direction, agent, &envelope), "{vector}");
            assert!(!key.verify(direction, "another", &envelope), "{vector}");
        }
    }

    fn host_pair() -> Vec<u8> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .unwrap()
            .as_ref()
            .to_vec()
    }

    fn public(pkcs8: &[u8]) -> Vec<u8> {
        use ring::signature::KeyPair;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new()).unwrap();
        pair.public_key().as_ref().to_vec()
    }

    #[test]
    fn an_enrolled_host_is_believed_by_its_key_and_believes_its_authority_alone() {
        let (host, authority, other) = (host_pair(), host_pair(), host_pair());
        let key = Key::of_host(&host, &public(&authority)).unwrap();
        let mut agent = Sealer::of_agent(Some(key), "edge", [1; 16]);
        // The collector's end: it signs with the authority's key, and believes the host's.
        let end = |own: &[u8], theirs: &[u8]| Key::of_host(own, &public(theirs)).unwrap();
        let mut collector = Sealer::of_collector(Some(end(&authority, &host)), "edge", [1; 16]);
        let hello = agent.seal(b"hello".to_vec());
        assert_eq!(collector.open(&hello), Ok(Opened::Next(b"hello".to_vec())));
        assert_eq!(agent.open(&hello), Err(EnvelopeError::Signature), "its own, played back");
        let mut foreign = Sealer::of_collector(Some(end(&other, &host)), "edge", [1; 16]);
        assert_eq!(agent.open(&foreign.seal(b"ack".to_vec())), Err(EnvelopeError::Signature));
        let mut by_token = Sealer::of_collector(self::key(), "edge", [1; 16]);
        assert_eq!(agent.open(&by_token.seal(b"ack".to_vec())), Err(EnvelopeError::Signature));
        let mut unsigned = Sealer::of_collector(None, "edge", [1; 16]);
        assert_eq!(agent.open(&unsigned.seal(b"ack".to_vec())), Err(EnvelopeError::Signature));
        let mut ack = collector.seal(b"ack".to_vec());
        assert_eq!(agent.open(&ack.clone()), Ok(Opened::Next(b"ack".to_vec())));
        let last = ack.len() - 1;
        ack[last] ^= 1;
        assert_eq!(agent.open(&ack), Err(EnvelopeError::Signature));
        assert!(Key::of_host(b"none", &public(&authority)).is_err());
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
