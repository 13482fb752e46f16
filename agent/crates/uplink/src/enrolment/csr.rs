//! A host's key, and the request for a certificate of it (PKCS #10, RFC 2986), written by hand: it has one shape.
//!
//! ```text
//! SEQUENCE
//!   SEQUENCE
//!     INTEGER 0
//!     SEQUENCE { SET { SEQUENCE { commonName, UTF8String NAME } } }
//!     SubjectPublicKeyInfo (P-256)
//!     [0] {}                                 no attributes: the collector writes certificates from its own template
//!   SEQUENCE { ecdsa-with-SHA256 }
//!   BIT STRING signature
//! ```

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::EnrolError;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const UTF8: u8 = 0x0c;
const BIT_STRING: u8 = 0x03;
/// `[0]`, constructed.
const ATTRIBUTES: u8 = 0xa0;
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
const ECDSA_WITH_SHA256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// A SubjectPublicKeyInfo of P-256 up to its 65 bytes.
const P256: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// What a commonName holds at most; the collector goes by the whole name, which stands beside the request.
const MAX_COMMON_NAME: usize = 64;
const LINE: usize = 64;

/// A host's key.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Key {
    /// Makes one; returns it with its PKCS #8, which is all that is kept.
    pub(crate) fn generate() -> Result<(Self, Vec<u8>), EnrolError> {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| EnrolError::Random)?;
        let bytes = made.as_ref().to_vec();
        Ok((Self::read(&bytes)?, bytes))
    }

    /// Reads one.
    pub(crate) fn read(pkcs8: &[u8]) -> Result<Self, EnrolError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &random)
            .map_err(|error| EnrolError::Key(error.to_string()))?;
        Ok(Self { pair, random })
    }

    /// Signs: ECDSA with SHA-256, DER.
    pub(crate) fn sign(&self, text: &[u8]) -> Result<Vec<u8>, EnrolError> {
        let signature = self.pair.sign(&self.random, text).map_err(|_| EnrolError::Random)?;
        Ok(signature.as_ref().to_vec())
    }

    /// The request for a certificate of this key, PEM.
    pub(crate) fn request(&self, name: &str) -> Result<String, EnrolError> {
        let common = &name.as_bytes()[..name.len().min(MAX_COMMON_NAME)];
        let subject = der(SEQUENCE, &[&der(SET, &[&der(SEQUENCE, &[COMMON_NAME, &der(UTF8, &[common])])])]);
        let version = der(INTEGER, &[&[0]]);
        let public = [P256, self.pair.public_key().as_ref()].concat();
        let info = der(SEQUENCE, &[&version, &subject, &public, &der(ATTRIBUTES, &[])]);
        let signature = self.sign(&info)?;
        let request = der(
            SEQUENCE,
            &[&info, &der(SEQUENCE, &[ECDSA_WITH_SHA256]), &der(BIT_STRING, &[&[0], &signature])],
        );
        Ok(pem("CERTIFICATE REQUEST", &request))
    }
}

/// An item with its length in the shortest form.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length) if length < 0x80 => out.push(length),
        _ => {
            let bytes = content.len().to_be_bytes();
            let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            // At most eight bytes of length.
            out.push(0x80 | digits.len() as u8);
            out.extend_from_slice(digits);
        }
    }
    out.extend(content);
    out
}

/// Bytes as PEM (RFC 7468).
pub(crate) fn pem(label: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    use super::*;

    #[test]
    fn lengths_are_written_in_the_shortest_form() {
        assert_eq!(der(SET, &[&[7; 3]]), [SET, 3, 7, 7, 7]);
        assert_eq!(der(SET, &[&[0; 127]])[..2], [SET, 127]);
        assert_eq!(der(SET, &[&[0; 128]])[..3], [SET, 0x81, 128]);
        assert_eq!(der(SET, &[&[0; 300]])[..4], [SET, 0x82, 1, 44]);
    }

    #[test]
    fn a_request_is_signed_with_the_key_in_it_and_a_kept_key_is_the_same() {
        let (key, bytes) = Key::generate().unwrap();
        let again = Key::read(&bytes).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.pair.public_key().as_ref());
        assert!(public.verify(b"text", &again.sign(b"text").unwrap()).is_ok());
        let text = key.request("pump-house").unwrap();
        assert!(text.starts_with("-----BEGIN CERTIFICATE REQUEST-----\n"));
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let request = STANDARD.decode(body).unwrap();
        // SEQUENCE, three bytes of it { info, two bytes of it; algorithm, twelve; BIT STRING }.
        let info_length = 2 + usize::from(request[4]);
        let info = &request[3..3 + info_length];
        let signature = &request[3 + info_length + 12 + 3..];
        assert!(public.verify(info, signature).is_ok());
        assert!(info.windows(10).any(|window| window == b"pump-house"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(matches!(Key::read(b"no key"), Err(EnrolError::Key(_))));
    }
}
