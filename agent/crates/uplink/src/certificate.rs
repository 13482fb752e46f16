//! From when until when a certificate is valid, which nobody tells before it fails, and whose key it is of.
//!
//! Walks the DER of RFC 5280 section 4.1 down to `subjectPublicKeyInfo` and reads nothing else; whether a certificate is
//! trusted is the TLS library's to say.

use telemetry::der::{expect, item};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT Version`.
const VERSION: u8 = 0xa0;

/// When a certificate begins and ends to be valid, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before this.
    pub from: i64,
    /// Not after this.
    pub to: i64,
}

/// What stands before a P-256 key in its certificate: id-ecPublicKey, prime256v1 (RFC 5480).
const P256: &[u8] = &[
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];
const BIT_STRING: u8 = 0x03;
/// An uncompressed point, with the count of unused bits before it.
const POINT: usize = 66;

/// The validity of a DER certificate; `None` for what is none.
pub fn validity(der: &[u8]) -> Option<Validity> {
    let (from, rest) = time(dated(der)?.0)?;
    let (to, _) = time(rest)?;
    Some(Validity { from, to })
}

/// The P-256 public key of a DER certificate: 65 bytes, an uncompressed point. `None` for another kind of key.
pub fn public_key(der: &[u8]) -> Option<&[u8]> {
    // subject, subjectPublicKeyInfo.
    let (_, rest) = expect(dated(der)?.1, SEQUENCE)?;
    let (info, _) = expect(rest, SEQUENCE)?;
    let (algorithm, rest) = expect(info, SEQUENCE)?;
    let (key, _) = expect(rest, BIT_STRING)?;
    let [0, point @ ..] = key else { return None };
    (algorithm == P256 && key.len() == POINT).then_some(point)
}

/// The content of `validity`, and what follows it.
fn dated(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut tbs, _) = expect(certificate, SEQUENCE)?;
    if tbs.first() == Some(&VERSION) {
        tbs = item(tbs)?.2;
    }
    // serialNumber, signature, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        tbs = expect(tbs, tag)?.1;
    }
    expect(tbs, SEQUENCE)
}

fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, text, rest) = item(bytes)?;
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (year, digits) = match tag {
        UTC_TIME => {
            let (year, digits) = digits.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, digits)
        }
        GENERALIZED_TIME => {
            let (year, digits) = digits.split_at_checked(4)?;
            (year.parse().ok()?, digits)
        }
        _ => return None,
    };
    if digits.len() != 10 {
        return None;
    }
    let part = |at: usize| digits.get(at..at + 2)?.parse::<i64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    Some((days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second, rest))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A certificate down to its validity, with two times.
    fn certificate(from: (u8, &str), to: (u8, &str)) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
        let validity =
            wrap(SEQUENCE, &[wrap(from.0, from.1.as_bytes()), wrap(to.0, to.1.as_bytes())].concat());
        let tbs = [
            wrap(VERSION, &wrap(INTEGER, &[2])),
            wrap(INTEGER, &[1]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &[]),
            validity,
        ];
        wrap(SEQUENCE, &wrap(SEQUENCE, &tbs.concat()))
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let der = certificate((UTC_TIME, "240229235959Z"), (GENERALIZED_TIME, "20500301000000Z"));
        assert_eq!(validity(&der), Some(Validity { from: 1_709_251_199, to: 2_529_705_600 }));
        let der = certificate((UTC_TIME, "700101000000Z"), (UTC_TIME, "491231235959Z"));
        assert_eq!(validity(&der), Some(Validity { from: 0, to: 2_524_607_999 }));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["2402292359Z", "240229235959", "24022923595xZ", ""] {
            assert_eq!(validity(&certificate((UTC_TIME, text), (UTC_TIME, "491231235959Z"))), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>()) {
            _ = (validity(&bytes), public_key(&bytes));
            let mut der = certificate((UTC_TIME, "240229235959Z"), (UTC_TIME, "491231235959Z"));
            _ = (validity(&der[..at.index(der.len())]), public_key(&der[..at.index(der.len())]));
            let at = at.index(der.len());
            der[at] = bytes.first().copied().unwrap_or(0xff);
            _ = (validity(&der), public_key(&der));
        }
    }
}
