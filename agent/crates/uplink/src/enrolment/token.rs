//! The text of an enrolment token: `txe1.SECRET.FINGERPRINT`, both 32 bytes in URL-safe Base64.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::EnrolError;

const PREFIX: &str = "txe1";

/// A token. The secret is for the collector alone; the fingerprint says which collector that is.
#[derive(Clone)]
pub struct Token {
    text: String,
    fingerprint: [u8; 32],
}

impl Token {
    /// Reads what a person pasted.
    ///
    /// # Errors
    /// [`EnrolError::Token`].
    pub fn parse(text: &str) -> Result<Self, EnrolError> {
        let text = text.trim();
        let mut parts = text.split('.');
        if parts.next() != Some(PREFIX) {
            return Err(EnrolError::Token("it doesn't begin with txe1."));
        }
        let mut part = || {
            let bytes = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
            <[u8; 32]>::try_from(bytes).ok()
        };
        let (Some(_), Some(fingerprint), None) = (part(), part(), parts.next()) else {
            return Err(EnrolError::Token("a part of it is missing"));
        };
        Ok(Self { text: text.to_owned(), fingerprint })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

/// Never the secret.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_whole_or_not_at_all() {
        let part = URL_SAFE_NO_PAD.encode([7; 32]);
        let whole = format!("txe1.{part}.{part}");
        let token = Token::parse(&format!(" {whole}\n")).unwrap();
        assert_eq!((token.text(), token.fingerprint()), (whole.as_str(), [7; 32]));
        assert!(!format!("{token:?}").contains(&part));
        let cut = &whole[..whole.len() - 4];
        let more = format!("{whole}.x");
        for text in ["", "tx_abc", cut, "txe1..", &more, &whole.replace("txe1", "txe2")] {
            assert!(matches!(Token::parse(text), Err(EnrolError::Token(_))), "{text}");
        }
    }
}
