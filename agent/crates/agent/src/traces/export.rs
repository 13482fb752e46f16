//! The exporter: takes spans in groups and posts each until the receiver has it, or has had its time.
//!
//! Nobody waits for it. While a receiver is away one group is tried again, what comes meanwhile fills the tracer's room, and
//! then spans are dropped and counted.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::HeaderMap;
use parking_lot::Mutex;
use serde::Serialize;
use telemetry::Tracer;
use telemetry::trace::{Counted, Span};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use uplink::Backoff;

use super::config::TracingConfig;
use super::otlp::{self, Whose};
use crate::courier::{Address, Courier, Said};

/// How long spans wait for company.
const EVERY: Duration = Duration::from_secs(1);
/// Spans of one message.
const GROUP: usize = 512;
/// All tries of one group.
const PATIENCE: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// What is left at the end has so long altogether.
const LAST: Duration = Duration::from_secs(3);

/// What became of spans, for status.
#[derive(Clone, Debug, Serialize)]
pub struct TracingStatus {
    /// Spans that the receiver took.
    pub exported: u64,
    /// Spans that had no room, or that the receiver did not take.
    pub dropped: u64,
    /// Spans that wait.
    pub waiting: u64,
    /// Why none arrive; "" while they do.
    pub trouble: String,
}

/// Exports what a tracer keeps.
pub struct Exporter {
    tracer: Arc<Tracer>,
    config: TracingConfig,
    whose: Whose,
    trouble: Mutex<String>,
    /// Whom to trust, as it was read last: the system's authorities are many files. Read anew after each failure.
    trusted: Mutex<Option<TlsConnector>>,
}

/// Why a message did not arrive.
#[derive(Debug, PartialEq, Eq)]
enum Failed {
    /// It may be taken later, and the receiver may say when.
    Later(String, Option<Duration>),
    /// It never will be.
    Never(String),
}

impl Exporter {
    /// Of this agent's spans.
    pub fn new(tracer: Arc<Tracer>, config: TracingConfig, agent: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let whose = Whose { agent: agent.to_owned(), version, host: crate::identity::hostname() };
        Self { tracer, config, whose, trouble: Mutex::default(), trusted: Mutex::default() }
    }

    /// What became of spans.
    pub fn status(&self) -> TracingStatus {
        let Counted { exported, dropped, waiting } = self.tracer.counted();
        TracingStatus { exported, dropped, waiting, trouble: self.trouble.lock().clone() }
    }

    /// Exports until it is told to end, and then gives what is left a last chance.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = sleep(EVERY) => {}
                () = stop.cancelled() => {}
            }
            while !stop.is_cancelled() {
                let spans = self.tracer.take(GROUP);
                if spans.is_empty() {
                    break;
                }
                self.deliver(&spans, &stop).await;
            }
        }
        self.last().await;
    }

    async fn last(&self) {
        let until = Instant::now() + LAST;
        loop {
            let spans = self.tracer.take(GROUP);
            if spans.is_empty() {
                return;
            }
            if !matches!(timeout_at(until, self.once(&spans)).await, Ok(Ok(()))) {
                self.tracer.dropped(spans.len() as u64);
            }
        }
    }

    /// Posts a group until it is taken, refused or too old.
    async fn deliver(&self, spans: &[Span], stop: &CancellationToken) {
        let (until, mut backoff) = (Instant::now() + PATIENCE, Backoff::new(LONGEST_PAUSE));
        loop {
            let pause = match self.once(spans).await {
                Ok(()) => return self.told(String::new()),
                Err(Failed::Never(why)) => {
                    self.told(why);
                    break;
                }
                Err(Failed::Later(why, asked)) => {
                    self.told(why);
                    asked.unwrap_or_else(|| backoff.next(uplink::draw()))
                }
            };
            if Instant::now() + pause >= until {
                break;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => break,
            }
        }
        self.tracer.dropped(spans.len() as u64);
    }

    /// One try.
    async fn once(&self, spans: &[Span]) -> Result<(), Failed> {
        let (config, trusted) = (self.config.clone(), self.trusted.lock().take());
        let prepared = tokio::task::spawn_blocking(move || prepared(&config, trusted)).await;
        let later = |why| Failed::Later(why, None);
        let (courier, headers) = prepared.map_err(|error| later(error.to_string()))?.map_err(later)?;
        let said = courier.post(Bytes::from(otlp::request(&self.whose, spans)), &headers).await;
        let said = said.map_err(later)?;
        answered(&said)?;
        *self.trusted.lock() = courier.tls;
        let (lost, why) = otlp::rejected(&said.content);
        let lost = lost.min(spans.len() as u64);
        self.tracer.exported(spans.len() as u64 - lost);
        self.tracer.dropped(lost);
        if lost > 0 {
            tracing::warn!(spans = lost, reason = why, "the receiver of traces did not take all spans");
        }
        Ok(())
    }

    /// Says it once when it begins, and once when it is over.
    fn told(&self, trouble: String) {
        let before = std::mem::replace(&mut *self.trouble.lock(), trouble.clone());
        let endpoint = self.config.endpoint.as_deref().unwrap_or_default();
        match (before.is_empty(), trouble.is_empty()) {
            (true, false) => {
                tracing::warn!(endpoint, reason = trouble, "spans don't arrive; readings are not affected");
            }
            (false, true) => tracing::info!(endpoint, "spans arrive again"),
            _ => {}
        }
    }
}

/// The way to the receiver and what is shown there, as the files say now.
fn prepared(config: &TracingConfig, trusted: Option<TlsConnector>) -> Result<(Courier, HeaderMap), String> {
    let headers = config.headers()?;
    let url = config.endpoint.as_deref().unwrap_or_default();
    let url = format!("{}/v1/traces", url.trim_end_matches('/'));
    let Address { uri, host, port, tls, .. } =
        Address::parse(&url).ok_or("tracing.endpoint is no address")?;
    let trusting = || uplink::trusting(config.ca_file.as_deref()).map_err(|error| error.to_string());
    let tls = match (tls, trusted) {
        (false, _) => None,
        (true, Some(trusted)) => Some(trusted),
        (true, None) => Some(trusting()?.into()),
    };
    let patience = Duration::from_nanos(config.timeout.nanos().unsigned_abs());
    Ok((Courier { uri, host, port, tls, connect: patience, exchange: patience }, headers))
}

fn answered(said: &Said) -> Result<(), Failed> {
    let hint = match said.status {
        200..=299 => return Ok(()),
        429 | 502..=504 => {
            let why = format!("the receiver of traces answers {}", said.status);
            return Err(Failed::Later(why, said.after.map(|after| after.min(PATIENCE))));
        }
        401 | 403 => ": give its token with tracing.token_file, or its headers with tracing.headers_file",
        404 | 405 => ": is tracing.endpoint the base address of an OTLP/HTTP receiver, port 4318?",
        _ => "",
    };
    Err(Failed::Never(format!("the receiver of traces answers {}{hint}", said.status)))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A receiver that answers each message with the next of these; gives its address.
    fn receiver(answers: &'static [&'static str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let (mut reader, mut length, mut line) = (BufReader::new(&stream), 0, String::new());
                while reader.read_line(&mut line).unwrap() > 2 {
                    if let Some(value) = line.trim().strip_prefix("content-length: ") {
                        length = value.parse().unwrap();
                    }
                    line.clear();
                }
                reader.read_exact(&mut vec![0; length]).unwrap();
                write!(&stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        });
        url
    }

    fn exporter(endpoint: String, spans: usize) -> Exporter {
        let tracer = Arc::new(Tracer::new(1.0, 1, || 1));
        (0..spans).for_each(|_| tracer.end(Span::receive(tracer.begin().unwrap(), 1)));
        Exporter::new(tracer, TracingConfig { endpoint: Some(endpoint), ..TracingConfig::default() }, "edge")
    }

    #[tokio::test]
    async fn a_group_that_is_put_off_comes_again_and_one_that_is_refused_is_counted() {
        let stop = CancellationToken::new();
        let of = exporter(receiver(&["503 Busy\r\nretry-after: 0", "200 OK", "401 Who"]), 3);
        of.deliver(&of.tracer.take(2), &stop).await;
        assert_eq!((of.status().exported, of.status().dropped, of.status().trouble.as_str()), (2, 0, ""));
        of.deliver(&of.tracer.take(2), &stop).await;
        assert_eq!((of.status().exported, of.status().dropped), (2, 1));
        assert!(of.status().trouble.contains("tracing.token_file"));
    }

    #[tokio::test]
    async fn what_is_left_at_the_end_is_sent_or_counted() {
        let stop = CancellationToken::new();
        stop.cancel();
        let of = Arc::new(exporter(receiver(&["200 OK"]), 3));
        Arc::clone(&of).run(stop.clone()).await;
        assert_eq!((of.status().exported, of.status().dropped), (3, 0));
        let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let of = Arc::new(exporter(format!("http://{away}"), GROUP + 1));
        Arc::clone(&of).run(stop).await;
        assert_eq!((of.status().exported, of.status().dropped), (0, GROUP as u64 + 1));
    }

    #[test]
    fn a_receiver_decides_what_comes_again() {
        let said =
            |status, after| answered(&Said { status, after, text: String::new(), content: Bytes::new() });
        assert_eq!(said(202, None), Ok(()));
        let week = Duration::from_secs(7 * 86_400);
        assert!(matches!(said(429, Some(week)), Err(Failed::Later(_, Some(PATIENCE)))));
        assert!(matches!(said(503, None), Err(Failed::Later(_, None))));
        assert!(matches!(said(400, None), Err(Failed::Never(_))));
    }
}
