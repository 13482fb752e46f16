//! Who a client is: passwords are kept as PBKDF2-HMAC-SHA256 hashes, in the PHC string format
//! `$pbkdf2-sha256$i=100000$<salt>$<hash>` (base64 without padding).
//!
//! Hashing is slow on purpose, so a reconnect storm after a power cut would take a small gateway's
//! CPU for minutes: the SHA-256 of a password that was right once, keyed by a secret of this
//! process, is remembered per user and lets the next connection in at once. Who guesses is slowed in
//! [`attempts`](super::attempts).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hmac, pbkdf2};
use tokio::time::Instant;

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

/// How long the checks rest after a wrong password, in times of what it took: wrong ones get a quarter of the
/// checks' time at most, right ones all of it.
const REST: u32 = 3;
/// Checks that wait for their turn.
const WAITING: usize = 64;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such a user with this password.
    Right,
    /// There isn't.
    Wrong,
    /// Too many checks wait: this one was not made.
    Busy,
}

/// What outlives a reload: which passwords were right, and whose turn it is.
struct Memory {
    key: hmac::Key,
    right_once: Mutex<HashMap<String, (String, hmac::Tag)>>,
    /// So many slow checks at a time: more wait their turn.
    turns: tokio::sync::Semaphore,
    waiting: AtomicUsize,
    /// No slow check before this.
    rest: Mutex<Instant>,
}

struct Password {
    parsed: Parsed,
    /// As configured: what was right once was right for this.
    text: String,
}

/// The users with passwords.
pub struct Users {
    users: HashMap<String, Password>,
    memory: Arc<Memory>,
    /// Stands in for an unknown user, so that the answer takes as long as for a known one.
    nobody: Parsed,
}

impl Users {
    /// From the configuration, which was [checked](super::MqttConfig::check); `before` is what they were until a reload.
    ///
    /// # Errors
    /// [`HashError`] when it wasn't, or when there are no random numbers.
    pub fn new(users: &[UserConfig], before: Option<&Self>) -> Result<Arc<Self>, HashError> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).map_err(|_| HashError::Random)?;
        let memory =
            before.map_or_else(|| Arc::new(Memory::new(&secret)), |before| Arc::clone(&before.memory));
        let users: HashMap<_, _> = users
            .iter()
            .filter(|user| !user.password_hash.is_empty())
            .map(|user| {
                let (parsed, text) = (parse(&user.password_hash)?, user.password_hash.clone());
                Ok((user.name.clone(), Password { parsed, text }))
            })
            .collect::<Result<_, HashError>>()?;
        memory
            .right_once
            .lock()
            .retain(|name, (text, _)| users.get(name).is_some_and(|user| user.text == *text));
        let dearest = users.values().map(|user| user.parsed.iterations).max();
        let iterations = dearest.or_else(|| NonZeroU32::new(ITERATIONS)).ok_or(HashError::Iterations)?;
        let nobody = Parsed { iterations, salt: secret[..16].to_vec(), hash: vec![0; 32] };
        Ok(Arc::new(Self { users, memory, nobody }))
    }

    /// True when this user came with this password before: then there is nothing to guess, and nothing to hash.
    pub fn remembers(&self, name: &str, password: &str) -> bool {
        let right_once = self.memory.right_once.lock();
        self.users.get(name).zip(right_once.get(name)).is_some_and(|(user, (text, tag))| {
            user.text == *text && hmac::verify(&self.memory.key, password.as_bytes(), tag.as_ref()).is_ok()
        })
    }

    /// Hashes. Few at a time, on threads apart from those that serve connections, and with a rest after each wrong
    /// one: a flood of CONNECTs doesn't take the CPU from the readings.
    pub async fn verify(self: &Arc<Self>, name: &str, password: &str) -> Verdict {
        let memory = &self.memory;
        let Some(_waiting) = Waiting::join(memory) else { return Verdict::Busy };
        let Ok(_turn) = memory.turns.acquire().await else { return Verdict::Busy };
        let rest = *memory.rest.lock();
        tokio::time::sleep_until(rest).await;
        let begun = Instant::now();
        let (users, name, password) = (Arc::clone(self), name.to_owned(), password.to_owned());
        let right = tokio::task::spawn_blocking(move || users.verify_slowly(&name, &password)).await;
        if right.unwrap_or(false) {
            return Verdict::Right;
        }
        let now = Instant::now();
        *memory.rest.lock() = now + now.duration_since(begun) * REST;
        Verdict::Wrong
    }

    fn verify_slowly(&self, name: &str, password: &str) -> bool {
        let user = self.users.get(name);
        let Parsed { iterations, salt, hash } = user.map_or(&self.nobody, |user| &user.parsed);
        let right =
            pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, *iterations, salt, password.as_bytes(), hash).is_ok();
        let Some(user) = user.filter(|_| right) else { return false };
        let remembered = (user.text.clone(), hmac::sign(&self.memory.key, password.as_bytes()));
        self.memory.right_once.lock().insert(name.to_owned(), remembered);
        true
    }
}

impl Memory {
    fn new(secret: &[u8]) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            right_once: Mutex::default(),
            turns: tokio::sync::Semaphore::new((cores / 2).clamp(1, 2)),
            waiting: AtomicUsize::new(0),
            rest: Mutex::new(Instant::now()),
        }
    }
}

/// A place among those who wait for a check.
struct Waiting<'a>(&'a Memory);

impl<'a> Waiting<'a> {
    fn join(memory: &'a Memory) -> Option<Self> {
        let place = Self(memory);
        // Counted first: two at once can't both take the last place.
        (memory.waiting.fetch_add(1, Relaxed) < WAITING).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_let_in_first_and_later() {
        let users = Users::new(&[user("a", "sesame")], None).unwrap();
        for _ in 0..2 {
            assert_eq!(users.verify("a", "sesame").await, Verdict::Right);
            for (name, password) in [("a", "Sesame"), ("b", "sesame"), ("a", "")] {
                assert_eq!(users.verify(name, password).await, Verdict::Wrong);
                assert!(!users.remembers(name, password));
            }
            assert!(users.remembers("a", "sesame"));
        }
    }

    fn user(name: &str, password: &str) -> UserConfig {
        let password_hash = hash_password(password).unwrap();
        UserConfig { name: name.into(), password_hash, ..UserConfig::default() }
    }

    #[tokio::test]
    async fn a_reload_forgets_the_passwords_of_who_is_gone_or_has_another_and_keeps_the_rest() {
        let (a, b, c) = (user("a", "1"), user("b", "2"), user("c", "3"));
        let before = Users::new(&[a.clone(), b, c], None).unwrap();
        for (name, password) in [("a", "1"), ("b", "2"), ("c", "3")] {
            assert_eq!(before.verify(name, password).await, Verdict::Right);
        }
        let after = Users::new(&[a, user("b", "2")], Some(&before)).unwrap();
        assert!(after.remembers("a", "1"));
        assert!(!after.remembers("b", "2") && !after.remembers("c", "3"));
    }

    #[tokio::test]
    async fn more_checks_than_may_wait_are_not_made_and_the_places_come_back() {
        let users = Users::new(&[user("a", "sesame")], None).unwrap();
        let turns = users.memory.turns.available_permits() as u32;
        let all = users.memory.turns.acquire_many(turns).await.unwrap();
        let line: Vec<_> = (0..WAITING)
            .map(|_| {
                let users = Arc::clone(&users);
                tokio::spawn(async move { users.verify("a", "wrong").await })
            })
            .collect();
        while users.memory.waiting.load(Relaxed) < WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(users.verify("a", "sesame").await, Verdict::Busy);
        line.iter().for_each(tokio::task::JoinHandle::abort);
        for one in line {
            assert!(one.await.unwrap_err().is_cancelled());
        }
        drop(all);
        assert_eq!(users.verify("a", "sesame").await, Verdict::Right);
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
