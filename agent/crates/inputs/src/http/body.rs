//! A request's body: read within its limits, decompressed within its limits.
//!
//! What all bodies together hold is bounded too ([`Budget`]): a reservation grows as bytes come in
//! and out of the decoder, so a sender that only claims a length costs nothing.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use hyper::{Request, StatusCode};
use telemetry::Cause;

use super::answer::Failure;
use super::budget::{Budget, Reservation};
use super::farewell;
use crate::intake::Rejection;

/// A body as the handlers get it.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) bytes: Bytes,
    _held: Reservation,
}

/// Why there is no body: what the sender is told, and what is counted.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) failure: Failure,
    /// `None` where the sender keeps the data and nothing is lost.
    pub(super) rejection: Option<Box<Rejection>>,
}

impl From<Failure> for Unreadable {
    fn from(failure: Failure) -> Self {
        Self { failure, rejection: None }
    }
}

fn refused(failure: Failure, cause: Cause) -> Unreadable {
    let rejection = Some(Box::new(Rejection::new(cause, failure.message.clone())));
    Unreadable { failure, rejection }
}

/// The limits of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    pub(super) sent: usize,
    pub(super) decoded: usize,
    pub(super) time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Unreadable> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let named = match (values.next(), values.next()) {
        (None, _) => return Ok(Encoding::Identity),
        (Some(one), None) => one.to_str().unwrap_or("?").trim().to_ascii_lowercase(),
        (Some(_), Some(_)) => "several".to_owned(),
    };
    match named.as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        other => {
            let message = format!("Content-Encoding {other:?} is not read here");
            let hint = "send identity, gzip or zstd, one of them";
            let failure =
                Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message, hint);
            Err(refused(failure, Cause::RejectedType))
        }
    }
}

fn broken(error: &hyper::Error) -> Unreadable {
    let failure = |message, hint| Failure::new(StatusCode::BAD_REQUEST, "broken_body", message, hint);
    match farewell::broken_framing(error) {
        Some(cause) => {
            let message = format!("the body's chunks can't be read: {}", root(error));
            refused(failure(message, "correct it before sending again"), cause)
        }
        None => failure(format!("the body broke off: {error}"), "send it again").into(),
    }
}

fn root(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), root)
}

/// Reads a request's body.
pub(super) async fn read(
    request: Request<Incoming>,
    limits: BodyLimits,
    budget: &Arc<Budget>,
) -> Result<Content, Unreadable> {
    let encoding = encoding(request.headers())?;
    let over = || {
        refused(
            Failure::too_large(format!("the body is over {} bytes (input.http.max_body)", limits.sent)),
            Cause::RejectedLimit,
        )
    };
    let claimed =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if claimed.is_some_and(|claimed| claimed > limits.sent as u64) {
        return Err(over());
    }
    let mut held = Reservation::new(budget);
    let mut body = request.into_body();
    let reading = async {
        let mut whole = BytesMut::new();
        let mut first: Option<Bytes> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            let so_far = first.as_ref().map_or(0, Bytes::len) + whole.len();
            if so_far + data.len() > limits.sent {
                return Err(over());
            }
            held.grow(data.len())?;
            if whole.is_empty() && first.is_none() {
                // A body that came in one piece is not copied.
                first = Some(data);
                continue;
            }
            if let Some(begin) = first.take() {
                let room = claimed.map_or(0, |claimed| {
                    (claimed as usize).min(body.size_hint().lower() as usize + begin.len() + data.len())
                });
                whole.reserve(room.min(1 << 20).max(begin.len() + data.len()));
                whole.extend_from_slice(&begin);
            }
            whole.extend_from_slice(&data);
        }
        Ok(first.unwrap_or_else(|| whole.freeze()))
    };
    let sent = match tokio::time::timeout(limits.time, reading).await {
        Ok(sent) => sent?,
        Err(_) => {
            let message = format!("the body took over {} s (input.http.body_timeout)", limits.time.as_secs());
            return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", message, "send it again").into());
        }
    };
    let bytes = match encoding {
        Encoding::Identity => sent,
        encoding => heavy(sent.len() * 8, || decode(encoding, &sent, limits.decoded, &mut held))?,
    };
    // What was sent is gone, and the last step was seldom filled.
    held.shrink(bytes.len());
    Ok(Content { bytes, _held: held })
}

/// Runs work that may take long without holding up other connections of this thread.
pub(super) fn heavy<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let several = tokio::runtime::Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
    if bytes > 1 << 20 && several { tokio::task::block_in_place(work) } else { work() }
}

/// Largest window a zstd frame may ask for: 8 MiB, as the format's specification recommends.
const ZSTD_WINDOW_LOG: u32 = 23;

fn decode(
    encoding: Encoding,
    sent: &[u8],
    limit: usize,
    held: &mut Reservation,
) -> Result<Bytes, Unreadable> {
    let broken = |error: std::io::Error| {
        let message = format!("the body can't be decompressed: {error}");
        refused(Failure::invalid(message), Cause::RejectedSyntax)
    };
    match encoding {
        Encoding::Identity => Ok(Bytes::copy_from_slice(sent)),
        Encoding::Gzip => drain(flate2::read::MultiGzDecoder::new(sent), limit, held, broken),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(sent).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(broken)?;
            drain(decoder, limit, held, broken)
        }
    }
}

/// A small body, sent and decoded, must fit into its connection's share of the budget.
const FIRST_STEP: usize = 8 << 10;

/// Reads to the end in steps, each within the limit and the budget before its memory is taken.
fn drain(
    mut from: impl Read,
    limit: usize,
    held: &mut Reservation,
    broken: impl Fn(std::io::Error) -> Unreadable,
) -> Result<Bytes, Unreadable> {
    let mut out: Vec<u8> = Vec::new();
    loop {
        let step = out.len().clamp(FIRST_STEP, 1 << 20).min(limit + 1 - out.len());
        held.grow(step)?;
        let before = out.len();
        let read = (&mut from).take(step as u64).read_to_end(&mut out).map_err(&broken)?;
        if out.len() > limit {
            let message = format!("the body decompresses to over {limit} bytes (input.http.max_decoded)");
            return Err(refused(Failure::too_large(message), Cause::RejectedLimit));
        }
        if read < step {
            debug_assert_eq!(out.len(), before + read);
            return Ok(out.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn decoded(encoding: Encoding, sent: &[u8], limit: usize) -> Result<Bytes, Unreadable> {
        decode(encoding, sent, limit, &mut Reservation::new(&Budget::new(1 << 24, 1)))
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_stops_at_the_limit_in_either_encoding() {
        let content = vec![0; 4 << 20];
        for (encoding, sent) in
            [(Encoding::Gzip, gzip(&content)), (Encoding::Zstd, zstd::encode_all(&content[..], 19).unwrap())]
        {
            assert!(sent.len() < 8192);
            assert_eq!(decoded(encoding, &sent, 4 << 20).unwrap().len(), 4 << 20);
            let refusal = decoded(encoding, &sent, 1 << 20).unwrap_err();
            assert_eq!(refusal.failure.status, StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(refusal.rejection.unwrap().cause, Cause::RejectedLimit);
        }
    }

    #[test]
    fn many_small_frames_and_members_are_one_body() {
        let frames: Vec<u8> = (0..50).flat_map(|_| zstd::encode_all(&b"m v=1\n"[..], 1).unwrap()).collect();
        assert_eq!(decoded(Encoding::Zstd, &frames, 1 << 20).unwrap(), "m v=1\n".repeat(50));
        let members: Vec<u8> = (0..50).flat_map(|_| gzip(b"m v=1\n")).collect();
        assert_eq!(decoded(Encoding::Gzip, &members, 1 << 20).unwrap(), "m v=1\n".repeat(50));
    }

    #[test]
    fn a_huge_window_and_a_truncated_or_broken_body_are_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![7; 300 << 10]).unwrap();
        let wide = encoder.finish().unwrap();
        assert!(decoded(Encoding::Zstd, &wide, 1 << 20).is_err());
        for (encoding, whole) in
            [(Encoding::Gzip, gzip(b"hello")), (Encoding::Zstd, zstd::encode_all(&b"hello"[..], 1).unwrap())]
        {
            for cut in 1..whole.len() {
                assert!(decoded(encoding, &whole[..cut], 100).is_err(), "{encoding:?} {cut}");
            }
            assert!(decoded(encoding, b"not compressed", 100).is_err());
        }
    }

    #[test]
    fn a_small_compressed_body_needs_no_more_than_its_connections_share() {
        let budget = Budget::new(128 << 20, 512);
        let mut others: Vec<_> = (0..511).map(|_| Reservation::new(&budget)).collect();
        while others.iter_mut().filter_map(|held| held.grow(16 << 10).ok()).count() > 0 {}
        let content = "m,device=x v=1\n".repeat(500);
        let sent = gzip(content.as_bytes());
        let mut held = Reservation::new(&budget);
        held.grow(sent.len()).unwrap();
        assert_eq!(decode(Encoding::Gzip, &sent, 64 << 20, &mut held).unwrap(), content);
    }
}
