//! Query parameters, form fields and the Authorization header.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Most parameters that are looked at.
const MAX: usize = 32;

/// Decoded `name=value` pairs. The first of a name counts.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).take(MAX);
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Percent-decoding with `+` for a space; what isn't an escape stands for itself.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (b'+', _, _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _, _) => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    match String::from_utf8_lossy(&out) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

/// What an Authorization header shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// `Token` or `Bearer`.
    Token(Vec<u8>),
    /// `Basic`.
    Pair(Vec<u8>, Vec<u8>),
}

pub(super) fn credentials(header: &[u8]) -> Option<Credentials> {
    let header = std::str::from_utf8(header).ok()?;
    let (scheme, rest) = header.trim().split_once(' ')?;
    let rest = rest.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "token" | "bearer" => Some(Credentials::Token(rest.as_bytes().to_vec())),
        "basic" => {
            let pair = STANDARD.decode(rest).ok()?;
            let colon = pair.iter().position(|byte| *byte == b':')?;
            Some(Credentials::Pair(pair[..colon].to_vec(), pair[colon + 1..].to_vec()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_counts() {
        let parameters = Parameters::of(Some("db=a%20b&q=SHOW+DATABASES&db=c&x&%zz=1&bad=%ff"));
        assert_eq!(parameters.get("db"), Some("a b"));
        assert_eq!(parameters.get("q"), Some("SHOW DATABASES"));
        assert_eq!((parameters.get("x"), parameters.get("%zz")), (Some(""), Some("1")));
        assert_eq!(parameters.get("bad"), Some("\u{fffd}"));
    }

    #[test]
    fn each_scheme_is_read_and_others_are_none() {
        assert_eq!(credentials(b"Token abc"), Some(Credentials::Token(b"abc".to_vec())));
        assert_eq!(credentials(b"bearer  abc "), Some(Credentials::Token(b"abc".to_vec())));
        assert_eq!(
            credentials(b"Basic Ym9iOmE6Yg=="),
            Some(Credentials::Pair(b"bob".to_vec(), b"a:b".to_vec()))
        );
        for bad in [&b"Basic !!!"[..], b"Basic Ym9i", b"Digest x", b"", b"Token", b"\xff\xff a"] {
            assert_eq!(credentials(bad), None);
        }
    }
}
