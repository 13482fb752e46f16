//! A host joins: token and request go up, certificate, site and the gateway's address come down.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::console;
use super::folder::{Folder, Joined, bad_pem, certificate, fingerprint};
use super::https::{Door, Pin};
use super::{EnrolError, Enrolled, Token};

/// What a person asked for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The people's door.
    pub url: String,
    /// The token.
    pub token: Token,
    /// The name to have.
    pub agent: String,
    /// Whether to take the place of an agent of that name.
    pub replace: bool,
    /// Another authority that may have signed for the people's door.
    pub ca_file: Option<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What is kept now.
    pub joined: Joined,
    /// True when an operator has to approve the host before it gets a certificate.
    pub waits: bool,
}

/// Joins, and keeps what came of it.
///
/// # Errors
/// [`EnrolError`]; then nothing has changed here but the key that the next try will use.
pub async fn join(folder: &Folder, ask: &Ask) -> Result<Outcome, EnrolError> {
    // What is damaged is no reason not to take its place.
    if !ask.replace
        && let Some(Enrolled { joined, .. }) = folder.load()?
    {
        let (agent, collector) = (joined.agent, joined.collector);
        return Err(EnrolError::Already { agent, collector, folder: folder.path().into() });
    }
    let others = ask.ca_file.as_deref().map(console::given).transpose()?;
    let copy = others.as_ref().map(console::pem);
    let door = Door::new(&ask.url, Pin::Fingerprint(ask.token.fingerprint()), others)?;
    let csr = folder.new_key()?.request(&ask.agent)?;
    let body = json!({"token": ask.token.text(), "agent": ask.agent, "csr": csr, "replace": ask.replace});
    let answer = door.ask("/api/v1/enroll", Some(&body)).await?;
    let read = Read { door: &door, answer: &answer };
    let ca = read.text("authority")?;
    if fingerprint(&ca) != Some(ask.token.fingerprint()) {
        return Err(EnrolError::Certificate("its authority is another one than the token names".into()));
    }
    let gateway = &answer["gateway"];
    let url = match gateway["url"].as_str() {
        Some(url) if !url.is_empty() => url.to_owned(),
        _ => {
            let (Some(port), Some(tls)) = (gateway["port"].as_u64(), gateway["tls"].as_bool()) else {
                return Err(read.without("gateway"));
            };
            door.beside(port, tls)
        }
    };
    let joined = Joined {
        agent: read.text("agent")?,
        site: read.text("site")?,
        collector: door.url().to_owned(),
        gateway: url,
        server_name: gateway["server_name"].as_str().unwrap_or_default().to_owned(),
        ca_file: ask.ca_file.clone(),
    };
    let certificate = answer["certificate"].as_str();
    folder.put(&joined, &ca, copy.as_deref(), certificate)?;
    Ok(Outcome { joined, waits: certificate.is_none() })
}

/// The people's door of an enrolment, believing its authority.
pub(crate) fn door(enrolled: &Enrolled) -> Result<Door, EnrolError> {
    let path = enrolled.folder.ca_file();
    let authority = certificate(&path).map_err(|error| bad_pem(&path, error, "no certificate"))?;
    let joined = &enrolled.joined;
    let (others, lack) = console::believed(enrolled);
    let door = Door::new(address(joined), Pin::Authority(authority), others)?;
    Ok(door.lacking(lack, console::way_out(enrolled)))
}

/// Where the people's door is.
pub(super) fn address(joined: &Joined) -> &str {
    // Older versions kept what stood behind the host as well.
    joined.collector.split(['?', '#']).next().unwrap_or_default()
}

/// An answer, of which something may be missing.
pub(crate) struct Read<'a> {
    pub(crate) door: &'a Door,
    pub(crate) answer: &'a Value,
}

impl Read<'_> {
    pub(crate) fn text(&self, key: &str) -> Result<String, EnrolError> {
        self.answer[key].as_str().map(str::to_owned).ok_or_else(|| self.without(key))
    }

    pub(crate) fn without(&self, key: &str) -> EnrolError {
        EnrolError::Answer { url: self.door.url().to_owned(), why: format!("it has no `{key}`") }
    }
}
