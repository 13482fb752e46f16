//! Who a client is: passwords are kept as PBKDF2-HMAC-SHA256 hashes, in the PHC string format
//! `$pbkdf2-sha256$i=100000$<salt>$<hash>` (base64 without padding).
//!
//! Hashing is slow on purpose, so a reconnect storm after a power cut would take a small gateway's
//! CPU for minutes: the SHA-256 of a password that was right once, keyed by a secret of this
//! process, is remembered per user and lets the next connection in at once.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hmac, pbkdf2};

use super::config::UserConfig;

const ITERATIONS: u32 = 100_000;
const MAX_ITERATIONS: u32 = 5_000_000;
const ALGORITHM: &str = "pbkdf2-sha256";

/// Why a password can't be hashed, or a hash not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// An empty password.
    #[error("the password is empty")]
    Empty,
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random numbers")]
    Random,
    /// Not what [`hash_password`] makes.
    #[error("is not of the form $pbkdf2-sha256$i=<iterations>$<salt>$<hash>")]
    Format,
    /// Too cheap or too dear.
    #[error("has an iteration count outside 1000 to {MAX_ITERATIONS}")]
    Iterations,
}

/// Hashes a password for `password_hash` in the configuration.
///
/// # Errors
/// [`HashError`].
pub fn hash_password(password: &str) -> Result<String, HashError> {
    if password.is_empty() {
        return Err(HashError::Empty);
    }
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| HashError::Random)?;
    let mut hash = [0; 32];
    let iterations = NonZeroU32::new(ITERATIONS).ok_or(HashError::Iterations)?;
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut hash);
    Ok(format!("${ALGORITHM}$i={ITERATIONS}${}${}", BASE64.encode(salt), BASE64.encode(hash)))
}

#[derive(Debug)]
struct Parsed {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

fn parse(text: &str) -> Result<Parsed, HashError> {
    let mut parts = text.split('$');
    let (Some(""), Some(ALGORITHM), Some(iterations), Some(salt), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HashError::Format);
    };
    let iterations: u32 =
        iterations.strip_prefix("i=").and_then(|i| i.parse().ok()).ok_or(HashError::Format)?;
    let iterations = NonZeroU32::new(iterations)
        .filter(|i| (1_000..=MAX_ITERATIONS).contains(&i.get()))
        .ok_or(HashError::Iterations)?;
    let salt = BASE64.decode(salt).map_err(|_| HashError::Format)?;
    let hash = BASE64.decode(hash).map_err(|_| HashError::Format)?;
    if salt.len() < 8 || hash.len() != 32 {
        return Err(HashError::Format);
    }
    Ok(Parsed { iterations, salt, hash })
}

/// Checks that a configured hash can be used.
///
/// # Errors
/// [`HashError`].
pub fn check_hash(text: &str) -> Result<(), HashError> {
    parse(text).map(drop)
}

/// The configured users.
pub struct Users {
    users: HashMap<String, Parsed>,
    key: hmac::Key,
    right_once: Mutex<HashMap<String, hmac::Tag>>,
    /// Stands in for an unknown user, so that the answer takes as long as for a known one.
    nobody: Parsed,
    /// At most this many slow checks at a time: more wait their turn.
    turns: tokio::sync::Semaphore,
}

impl Users {
    /// From the configuration, which was [checked](super::MqttConfig::check).
    ///
    /// # Errors
    /// [`HashError`] when it wasn't, or when there are no random numbers.
    pub fn new(users: &[UserConfig]) -> Result<Arc<Self>, HashError> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| HashError::Random)?;
        let iterations = NonZeroU32::new(ITERATIONS).ok_or(HashError::Iterations)?;
        Ok(Arc::new(Self {
            users: users
                .iter()
                .map(|user| Ok((user.name.clone(), parse(&user.password_hash)?)))
                .collect::<Result<_, HashError>>()?,
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            right_once: Mutex::default(),
            nobody: Parsed { iterations, salt: secret[..16].to_vec(), hash: vec![0; 32] },
            turns: tokio::sync::Semaphore::new(2),
        }))
    }

    /// True when there is such a user with this password.
    pub async fn verify(self: &Arc<Self>, name: &str, password: &str) -> bool {
        if let Some(tag) = self.right_once.lock().get(name)
            && hmac::verify(&self.key, password.as_bytes(), tag.as_ref()).is_ok()
        {
            return true;
        }
        let Ok(_turn) = self.turns.acquire().await else { return false };
        let (users, name, password) = (Arc::clone(self), name.to_owned(), password.to_owned());
        tokio::task::spawn_blocking(move || users.verify_slowly(&name, &password)).await.unwrap_or(false)
    }

    fn verify_slowly(&self, name: &str, password: &str) -> bool {
        let user = self.users.get(name);
        let Parsed { iterations, salt, hash } = user.unwrap_or(&self.nobody);
        let right =
            pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, *iterations, salt, password.as_bytes(), hash).is_ok();
        if user.is_some() && right {
            self.right_once.lock().insert(name.to_owned(), hmac::sign(&self.key, password.as_bytes()));
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_let_in_first_and_later() {
        let hash = hash_password("sesame").unwrap();
        let users =
            Users::new(&[UserConfig { name: "a".into(), password_hash: hash, write: vec![], read: vec![] }])
                .unwrap();
        for _ in 0..2 {
            assert!(users.verify("a", "sesame").await);
            assert!(!users.verify("a", "Sesame").await);
            assert!(!users.verify("b", "sesame").await);
            assert!(!users.verify("a", "").await);
        }
    }

    #[test]
    fn two_hashes_of_one_password_differ_and_both_parse() {
        let (a, b) = (hash_password("x").unwrap(), hash_password("x").unwrap());
        assert_ne!(a, b);
        assert_eq!(check_hash(&a), Ok(()));
        assert_eq!(hash_password(""), Err(HashError::Empty));
    }

    #[test]
    fn a_hash_of_another_form_or_cost_is_refused() {
        assert_eq!(check_hash("secret"), Err(HashError::Format));
        assert_eq!(check_hash("$pbkdf2-sha256$i=1$AAAAAAAAAAAAAAAAAAAAAA$AA"), Err(HashError::Iterations));
        assert_eq!(check_hash("$argon2id$i=100000$AAAA$AAAA"), Err(HashError::Format));
    }
}
