//! An export on its way to another program's door for line protocol: bodies of a size, one after the other, each until it is
//! taken.
//!
//! Every wait ends: connecting, an answer, and all the tries of one body. A body bears an `Idempotency-Key` made of its place
//! and its content, so that an agent that took it and whose answer was lost, or an export that is run once more within a day,
//! stores nothing twice.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use ring::digest::{SHA256, digest};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use uplink::{Backoff, ConfigError};

use crate::courier::{Address, Courier, Said};
use crate::human::{size, things};
use crate::token_file;

/// TCP and TLS.
const CONNECT: Duration = Duration::from_secs(20);
/// A body on its way and its answer, on a slow link.
const EXCHANGE: Duration = Duration::from_secs(300);
/// All tries of one body.
const PATIENCE: Duration = Duration::from_secs(900);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Nobody makes an export wait longer at once.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// Partly refused bodies that are told one by one.
const TOLD: u64 = 10;

/// Where to, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub url: String,
    pub token_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

/// The door of another program.
pub struct Post {
    door: Door,
    runtime: tokio::runtime::Runtime,
    limit: usize,
    /// For all tries of one body.
    patience: Duration,
    body: Vec<u8>,
    /// Where records end in the body.
    ends: Vec<usize>,
    sent: u64,
    bytes: u64,
    refused: u64,
}

struct Door {
    to: Courier,
    authorization: Option<HeaderValue>,
}

/// What to do after an answer.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Taken,
    /// The good part is taken, the rest never will be.
    PartlyRefused,
    TooLarge,
    /// Once more, after so much or after a pause of our own.
    Again(Option<Duration>),
    Never,
}

impl Said {
    fn next(&self) -> Next {
        match self.status {
            200..=299 => Next::Taken,
            400 => Next::PartlyRefused,
            413 => Next::TooLarge,
            408 | 425 | 429 | 500 | 502..=504 => {
                Next::Again(self.after.map(|after| after.min(LONGEST_ASKED)))
            }
            _ => Next::Never,
        }
    }
}

impl Post {
    /// Prepares it; nothing is sent yet. Bodies are of at most `limit` bytes.
    ///
    /// # Errors
    /// When the URL or a file can't be used.
    pub fn new(place: &Place, limit: usize) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let door = Door::new(place)?;
        Ok(Self {
            door,
            runtime,
            limit,
            patience: PATIENCE,
            body: Vec::new(),
            ends: Vec::new(),
            sent: 0,
            bytes: 0,
            refused: 0,
        })
    }

    /// Takes one record.
    ///
    /// # Errors
    /// When a body isn't taken.
    pub fn record(&mut self, record: &[u8]) -> anyhow::Result<()> {
        if !self.body.is_empty() && self.body.len() + record.len() > self.limit {
            self.flush()?;
        }
        self.body.extend_from_slice(record);
        self.ends.push(self.body.len());
        Ok(())
    }

    /// Sends the rest; what to say, and how many bodies were partly refused.
    ///
    /// # Errors
    /// When it isn't taken.
    pub fn finish(mut self) -> anyhow::Result<(Option<String>, u64)> {
        self.flush()?;
        let (bodies, to) = (things(self.sent, "request"), &self.door.to.uri);
        Ok((Some(format!("{} in {bodies} to {to}", size(self.bytes))), self.refused))
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let (body, ends) = (Bytes::from(std::mem::take(&mut self.body)), std::mem::take(&mut self.ends));
        // Smaller ones, where the door wants them so.
        let mut pieces = vec![(0, ends.len())];
        while let Some((from, to)) = pieces.pop() {
            let begin = if from == 0 { 0 } else { ends[from - 1] };
            let Some(end) = ends[from..to].last() else { continue };
            let piece = body.slice(begin..*end);
            match self.send(&piece)? {
                Sent::Taken => self.bytes += piece.len() as u64,
                Sent::TooLarge(said) => {
                    anyhow::ensure!(
                        to - from > 1,
                        "{} doesn't take a record of {}: {said}",
                        self.door.to.uri,
                        size(piece.len() as u64)
                    );
                    self.limit = self.limit.min(piece.len() / 2).max(1);
                    let middle = from + (to - from) / 2;
                    pieces.extend([(middle, to), (from, middle)]);
                }
            }
        }
        Ok(())
    }

    /// Sends one body until it is taken.
    fn send(&mut self, body: &Bytes) -> anyhow::Result<Sent> {
        let key = format!("spool-export-{}-{}", self.sent, URL_SAFE_NO_PAD.encode(digest(&SHA256, body)));
        let (deadline, mut backoff) = (Instant::now() + self.patience, Backoff::new(LONGEST_PAUSE));
        let url = self.door.to.uri.to_string();
        loop {
            let (why, asked) = match self.runtime.block_on(self.door.post(body.clone(), &key)) {
                Ok(said) => match said.next() {
                    Next::Taken => {
                        self.sent += 1;
                        return Ok(Sent::Taken);
                    }
                    Next::PartlyRefused => {
                        self.sent += 1;
                        self.refused += 1;
                        if self.refused <= TOLD {
                            tell(&format!("{url} refuses a part: {}", said.text));
                        }
                        return Ok(Sent::Taken);
                    }
                    Next::TooLarge => return Ok(Sent::TooLarge(said.text)),
                    Next::Again(asked) => (format!("{} {}", said.status, said.text), asked),
                    Next::Never => {
                        let hint = match said.status {
                            401 | 403 => "give its token with --token-file",
                            404 | 405 => {
                                "is this the URL of its line protocol, like http://127.0.0.1:8186/write?"
                            }
                            _ => "nothing more was sent",
                        };
                        anyhow::bail!("{url} answers {} {}: {hint}", said.status, said.text)
                    }
                },
                Err(why) => (why, None),
            };
            let pause = asked
                .map_or_else(|| backoff.next(uplink::draw()), |asked| uplink::asked(asked, uplink::draw()));
            if Instant::now() + pause >= deadline {
                anyhow::bail!(
                    "{url} took {} and nothing more for {} min: {why}. Run it again once it does: an agent tells for 24 h what it has",
                    things(self.sent, "request"),
                    self.patience.as_secs() / 60
                );
            }
            tell(&format!("{url}: {why}; again in {:.1} s", pause.as_secs_f64()));
            std::thread::sleep(pause);
        }
    }
}

/// What became of a body.
enum Sent {
    Taken,
    TooLarge(String),
}

/// On standard error; who can't be told goes without.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "telemetryx-agent: {text}");
}

impl Door {
    fn new(place: &Place) -> anyhow::Result<Self> {
        let bad = || format!("{:?} is no URL like http://127.0.0.1:8186/write", place.url);
        let Some(Address { mut uri, host, port, tls, named }) = Address::parse(&place.url) else {
            misused!("{}", bad());
        };
        if named {
            misused!("a password in a URL is in every list of processes: give it with --token-file");
        }
        if uri.path() == "/" {
            uri = format!("{}/write", place.url.trim_end_matches('/')).parse().with_context(bad)?;
        }
        let tls = match (tls, &place.ca_file) {
            (true, ca_file) => Some(trusting(ca_file.as_deref())?),
            (false, Some(_)) => misused!("--ca-file goes with an https URL"),
            (false, None) => None,
        };
        let authorization = place.token_file.as_deref().map(authorization).transpose()?;
        let to = Courier { uri, host, port, tls, connect: CONNECT, exchange: EXCHANGE };
        Ok(Self { to, authorization })
    }

    /// One try; the error is a sentence.
    async fn post(&self, body: Bytes, key: &str) -> Result<Said, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        let key = HeaderValue::from_str(key).map_err(|error| error.to_string())?;
        headers.insert(HeaderName::from_static("idempotency-key"), key);
        headers.extend(self.authorization.clone().map(|shown| (AUTHORIZATION, shown)));
        self.to.post(body, &headers).await
    }
}

fn trusting(ca_file: Option<&Path>) -> anyhow::Result<TlsConnector> {
    match uplink::trusting(ca_file) {
        Ok(config) => Ok(config.into()),
        Err(ConfigError::Pem { path, reason, .. }) => {
            misused!("--ca-file {} can't be used: {reason}", path.display())
        }
        Err(error) => Err(error.into()),
    }
}

/// What a file with a token, or with user:password, makes of a request.
fn authorization(path: &Path) -> anyhow::Result<HeaderValue> {
    let text = token_file::read(path)?;
    let token = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let none = || crate::Misuse(format!("--token-file {} holds no token", path.display()));
    let token = token.ok_or_else(none)?;
    let said = match token.contains(':') {
        true => format!("Basic {}", STANDARD.encode(token)),
        false => format!("Token {token}"),
    };
    let mut said = HeaderValue::from_str(&said).map_err(|_| none())?;
    said.set_sensitive(true);
    Ok(said)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;

    /// A door that answers each request with the next of these; gives what came: (key, body).
    fn door(answers: &[&'static str]) -> (String, mpsc::Receiver<(String, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/write", listener.local_addr().unwrap());
        let (came, requests) = mpsc::sync_channel(16);
        let answers = answers.to_vec();
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let (mut reader, mut length, mut key) = (BufReader::new(&stream), 0, String::new());
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let Some((name, value)) = line.trim().split_once(": ") else {
                        if line.trim().is_empty() {
                            break;
                        }
                        continue;
                    };
                    match name {
                        "content-length" => length = value.parse().unwrap(),
                        "idempotency-key" => key = value.to_owned(),
                        _ => {}
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                came.send((key, String::from_utf8(body).unwrap())).unwrap();
                (&stream)
                    .write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes())
                    .unwrap();
            }
        });
        (url, requests)
    }

    fn export(url: String, limit: usize, records: &[&str]) -> anyhow::Result<(Option<String>, u64)> {
        let mut post = Post::new(&Place { url, ..Place::default() }, limit)?;
        post.patience = Duration::from_secs(30);
        for record in records {
            post.record(record.as_bytes())?;
        }
        post.finish()
    }

    #[test]
    fn a_body_that_the_door_puts_off_comes_again_the_same_under_the_same_key() {
        let (url, requests) = door(&["503 Busy\r\nretry-after: 0", "204 Done", "204 Done"]);
        let (said, refused) = export(url, 8, &["a v=1\n", "b v=2\n"]).unwrap();
        let came: Vec<_> = requests.iter().collect();
        assert_eq!(
            came.iter().map(|(_, body)| &**body).collect::<Vec<_>>(),
            ["a v=1\n", "a v=1\n", "b v=2\n"]
        );
        assert_eq!(came[0].0, came[1].0);
        assert_ne!(came[1].0, came[2].0);
        assert!(said.unwrap().starts_with("12 B in 2 requests to http://127.0.0.1:"));
        assert_eq!(refused, 0);
    }

    #[test]
    fn bodies_get_smaller_where_the_door_says_too_large() {
        let (url, requests) = door(&["413 Too large", "204 Done", "204 Done", "204 Done"]);
        export(url, 24, &["a v=1\n", "b v=2\n", "c v=3\n", "d v=4\n", "e v=5\n"]).unwrap();
        let bodies: Vec<_> = requests.iter().map(|(_, body)| body.replace('\n', ";")).collect();
        assert_eq!(bodies, ["a v=1;b v=2;c v=3;d v=4;", "a v=1;b v=2;", "c v=3;d v=4;", "e v=5;"]);
    }

    #[test]
    fn a_part_that_is_refused_is_counted_and_a_refusal_of_all_ends_it() {
        let (url, _requests) = door(&["400 Line 2 is wrong", "204 Done"]);
        assert_eq!(export(url, 6, &["a v=1\n", "b v=2\n"]).unwrap().1, 1);
        let (url, _requests) = door(&["401 Who are you"]);
        assert!(export(url, 6, &["a v=1\n"]).unwrap_err().to_string().contains("--token-file"));
    }

    #[test]
    fn the_door_decides_how_long_to_wait_within_limits() {
        let said = |status, after| Said { status, after, text: String::new(), content: Bytes::new() }.next();
        assert_eq!(said(503, Some(Duration::from_secs(7))), Next::Again(Some(Duration::from_secs(7))));
        assert_eq!(said(429, Some(Duration::from_secs(100_000))), Next::Again(Some(LONGEST_ASKED)));
        assert_eq!(said(502, None), Next::Again(None));
        assert_eq!((said(204, None), said(404, None)), (Next::Taken, Next::Never));
    }

    #[test]
    fn what_is_no_url_of_a_door_is_refused() {
        for url in ["", "127.0.0.1:8186", "ftp://a/write", "http://user:word@a/write"] {
            assert!(Door::new(&Place { url: url.into(), ..Place::default() }).is_err(), "{url}");
        }
        let door = Door::new(&Place { url: "http://127.0.0.1:8186".into(), ..Place::default() }).unwrap();
        assert_eq!((door.to.uri.path(), door.to.port), ("/write", 8186));
    }
}
