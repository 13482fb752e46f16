//! Enrolment: a host joins its collector with a token, and from then on shows a certificate.
//!
//! ```text
//! token    the line that a person pastes: a secret, and the fingerprint of the collector's authority
//! csr      the host's key, and the request for a certificate of it
//! https    one request to the people's door, believing that authority alone
//! join     token + request up; certificate, site and the gateway's address down
//! console  whom a console is believed by that has a certificate of another authority
//! folder   what is kept of it, in `data_dir/identity`
//! fitting  whether that belongs together
//! renewal  the next certificate, at two thirds of a life and also after its end
//! ```
//!
//! The key is made on the host and never leaves it.

mod console;
mod csr;
mod fitting;
mod folder;
mod https;
mod join;
mod renewal;
mod token;

use std::path::PathBuf;
use std::time::Duration;

pub use console::Doubt;
pub use folder::{Enrolled, Folder, Joined};
pub use join::{Ask, Outcome, join};
pub use renewal::{Schedule, keep_renewed, renew};
pub use token::Token;

/// What to do about an enrolment that can't be used.
const WAY_OUT: &str = "put the file back as it was, or enroll the host again: `telemetryx enroll token --agent AGENT --replace` on the collector prints the line for that, with the token";

/// The same of what this user may not read.
const RIGHTS: &str =
    "give the folder to the agent's user, or, where only this command isn't that user, run it as that user";

/// Why what an enrolment left can't be used, and the way out: for as long as that is so there is no link, and nothing else is
/// missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The file, and what is wrong with it.
    pub found: String,
    /// What to do.
    pub remedy: String,
    /// Nothing is known to be wrong with it: this user may not read it.
    pub withheld: bool,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.found, self.remedy)
    }
}

impl From<EnrolError> for Broken {
    fn from(error: EnrolError) -> Self {
        let text = error.to_string();
        let withheld = matches!(error, EnrolError::Withheld { .. });
        let remedy = if withheld { RIGHTS } else { WAY_OUT };
        let found = text.strip_suffix(remedy).and_then(|found| found.strip_suffix(": ")).unwrap_or(&text);
        Self { found: found.to_owned(), remedy: remedy.to_owned(), withheld }
    }
}

/// That the collector gives this host no certificate, though it has none that is good: it was rejected, revoked or replaced.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ShutOut {
    /// The collector's words.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl std::fmt::Display for ShutOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.why, what_to_do(&self.remedy))
    }
}

/// Why a host can't join, or renew.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Not a token.
    #[error(
        "this is no enrolment token ({0}): paste it whole, as `telemetryx enroll token` on the collector printed it"
    )]
    Token(&'static str),
    /// Not an address.
    #[error("{0:?} is no collector's address: write https://HOST:PORT, the one of its console")]
    Url(String),
    /// Plain text to another machine.
    #[error("{0:?} leaves this machine without TLS: write https://")]
    PlainText(String),
    /// It was done before.
    #[error(
        "this host is enrolled as agent {agent:?} at {collector}: to enroll it anew, give --replace (with a token that allows it), or remove {}",
        folder.display()
    )]
    Already {
        /// Its name.
        agent: String,
        /// Where.
        collector: String,
        /// What is kept.
        folder: PathBuf,
    },
    /// The collector can't be reached.
    #[error("can't reach the collector at {url}: {why}{}", what_to_do(remedy))]
    Connect {
        /// Its address.
        url: String,
        /// Why.
        why: String,
        /// What to look at.
        remedy: &'static str,
    },
    /// The file of another authority, which is asked for beside the pinned one.
    #[error("the authority in {} (--ca-file) can't be used ({why}): name a PEM file with its certificate, which this user may read", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// What answers there isn't to be trusted.
    #[error("can't trust what answers at {url}: {why}{}", what_to_do(remedy))]
    Untrusted {
        /// The address.
        url: String,
        /// Why.
        why: String,
        /// What to do, where the reason doesn't say it.
        remedy: String,
    },
    /// What answers there is no collector of ours.
    #[error(
        "{url} answers with something that is no collector's answer ({why}): name the address of the collector's console"
    )]
    Answer {
        /// The address.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The collector refuses.
    #[error("the collector refuses: {message}{}", what_to_do(hint))]
    Refused {
        /// The status.
        status: u16,
        /// Its words.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The collector is busy.
    #[error("the collector asks to come back in {after:?}: {message}")]
    Later {
        /// When.
        after: Duration,
        /// Its words.
        message: String,
    },
    /// The certificate isn't one of our key, or of the authority.
    #[error("the collector sent a certificate that can't be used: {0}")]
    Certificate(String),
    /// The key on disk can't be used.
    #[error("the host's key can't be used ({0}): {WAY_OUT}")]
    Key(String),
    /// What is kept can't be used.
    #[error("{} can't be used ({why}): {WAY_OUT}", path.display())]
    Folder {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// What is kept may not be read by this user: whether it can be used isn't known.
    #[error("{} can't be read by this user ({source}): {RIGHTS}", path.display())]
    Withheld {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The disk.
    #[error("{} can't be read or written: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no randomness.
    #[error("the system gives no random bytes")]
    Random,
}

fn what_to_do(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; {text}") }
}

impl EnrolError {
    /// Whether the collector said that this host may not, so that asking again soon is of no use.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Whether what was given can't be meant, whatever is at the other end.
    pub fn is_wrong_use(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Url(_) | Self::PlainText(_) | Self::Authority { .. })
    }
}
