//! Whose a client's certificate is: the one name in it that stands for the user's name.
//!
//! Read only once the TLS library has found the certificate trusted. A certificate with two such names
//! gives none: which of them were meant is not ours to guess.

use rustls_pki_types::CertificateDer;
use telemetry::der;

use super::config::CertificateName;

/// Attribute type commonName, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;

/// Why a certificate gives no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not X.509, or of a form that isn't read.
    #[error("its certificate can't be read")]
    Unreadable,
    /// None there.
    #[error("its certificate has no {0}")]
    None(&'static str),
    /// More than one.
    #[error("its certificate has more than one {0}: which is the user is not to be told")]
    Several(&'static str),
}

/// The user's name in a certificate.
///
/// # Errors
/// [`NameError`].
pub fn name(certificate: &CertificateDer<'_>, which: CertificateName) -> Result<String, NameError> {
    let certificate = webpki::EndEntityCert::try_from(certificate).map_err(|_| NameError::Unreadable)?;
    match which {
        CertificateName::Cn => common_name(certificate.subject()),
        CertificateName::San => one("DNS name", certificate.valid_dns_names().map(str::to_owned)),
    }
}

fn one(what: &'static str, mut names: impl Iterator<Item = String>) -> Result<String, NameError> {
    let name = names.next().ok_or(NameError::None(what))?;
    if names.next().is_some() { Err(NameError::Several(what)) } else { Ok(name) }
}

/// Of an RDNSequence without its outer tag (RFC 5280, section 4.1.2.4).
fn common_name(mut subject: &[u8]) -> Result<String, NameError> {
    let mut names = Vec::new();
    while !subject.is_empty() {
        let (mut set, rest) = expect(subject, SET)?;
        subject = rest;
        while !set.is_empty() {
            let (attribute, rest) = expect(set, SEQUENCE)?;
            set = rest;
            let (oid, value) = expect(attribute, OID)?;
            if oid == COMMON_NAME {
                let (tag, text, _) = der::item(value).ok_or(NameError::Unreadable)?;
                if !matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING) {
                    return Err(NameError::Unreadable);
                }
                let text = std::str::from_utf8(text).map_err(|_| NameError::Unreadable)?;
                names.push(text.to_owned());
            }
        }
    }
    one("common name", names.into_iter())
}

fn expect(bytes: &[u8], tag: u8) -> Result<(&[u8], &[u8]), NameError> {
    der::expect(bytes, tag).ok_or(NameError::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, content.len() as u8], content].concat()
    }

    fn attribute(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        wrap(SET, &wrap(SEQUENCE, &[wrap(OID, oid), wrap(tag, text)].concat()))
    }

    #[test]
    fn the_common_name_is_found_among_other_attributes() {
        let organisation = attribute(&[0x55, 4, 10], PRINTABLE_STRING, b"plant");
        let name = attribute(COMMON_NAME, UTF8_STRING, "pümp-7".as_bytes());
        assert_eq!(common_name(&[organisation, name].concat()).as_deref(), Ok("pümp-7"));
    }

    #[test]
    fn none_two_and_unreadable_names_are_no_name() {
        let name = |text: &[u8]| attribute(COMMON_NAME, UTF8_STRING, text);
        assert_eq!(common_name(&[]), Err(NameError::None("common name")));
        assert_eq!(common_name(&[name(b"a"), name(b"b")].concat()), Err(NameError::Several("common name")));
        assert_eq!(common_name(&name(&[0xff])), Err(NameError::Unreadable));
        // BMPString: two bytes a character.
        assert_eq!(common_name(&attribute(COMMON_NAME, 0x1e, b"\0a")), Err(NameError::Unreadable));
        assert_eq!(name_of(b"no certificate"), Err(NameError::Unreadable));
    }

    fn name_of(der: &[u8]) -> Result<String, NameError> {
        super::name(&CertificateDer::from(der), CertificateName::San)
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>()) {
            _ = common_name(&bytes);
            let name = attribute(COMMON_NAME, UTF8_STRING, b"pump");
            _ = common_name(&name[..at.index(name.len())]);
            _ = name_of(&bytes);
        }
    }
}
