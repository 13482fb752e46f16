//! A connection's end: what was no HTTP is counted, and the last answer gets to the sender.
//!
//! hyper answers most of what it can't parse with 400, 414 or 431 by itself, and closes. Closing with
//! unread bytes would reset the connection and lose that answer on the way, so what is still coming is
//! read and thrown away for a moment.

use std::net::SocketAddr;
use std::time::Duration;

use telemetry::Cause;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::door::Door;

/// How long the last answer may take to go out, and what is still coming to be read.
const LINGER: Duration = Duration::from_millis(500);
/// Of what can't be parsed only so much is shown, and only its first word: what follows may hold a token or a password.
const SHOWN: usize = 12;
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Counts a request that hyper could not parse, and keeps it for the operator. One that broke off in its
/// middle has refused nothing.
pub(super) fn count(door: &Door, peer: Option<SocketAddr>, error: &hyper::Error, unread: &[u8]) {
    if !error.is_parse() {
        return;
    }
    let cause = if error.is_parse_too_large() { Cause::RejectedLimit } else { Cause::RejectedSyntax };
    let peer = peer.map_or_else(|| "a client that is gone".to_owned(), |peer| peer.to_string());
    door.reject(cause, &format!("{peer}: not an HTTP/1.1 request: {error}"), first_word(unread));
}

/// The answer that hyper leaves out: it closes on HTTP/2's preface without a word.
pub(super) fn owed(error: &hyper::Error) -> &'static [u8] {
    if error.is_parse_version_h2() { BAD_REQUEST } else { b"" }
}

/// Why a body that broke off in its middle is counted: its framing was wrong. `None` where the sender went away.
pub(super) fn broken_framing(error: &hyper::Error) -> Option<Cause> {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{InvalidData, InvalidInput};
            return matches!(io.kind(), InvalidInput | InvalidData).then_some(Cause::RejectedSyntax);
        }
        source = inner.source();
    }
    None
}

/// Writes what is owed and closes, reading what still comes until the sender closes too.
pub(super) async fn part<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, owed: &[u8]) {
    let farewell = async {
        stream.write_all(owed).await?;
        stream.shutdown().await?;
        let mut sink = [0; 4096];
        while stream.read(&mut sink).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // An error here is the sender being gone already.
    let _ = tokio::time::timeout(LINGER, farewell).await;
}

fn first_word(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().take(SHOWN).position(u8::is_ascii_whitespace);
    &bytes[..end.unwrap_or(bytes.len().min(SHOWN))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_word_is_shown_and_little_of_it() {
        assert_eq!(first_word(b"AUTH secret-token\n"), b"AUTH");
        assert_eq!(first_word(b"POST /write?p=secret HTTP/9.9"), b"POST");
        assert_eq!(
            first_word(b"\x10\x21\0\x04MQTT\x04\xc2\0\0\0\x06secret"),
            b"\x10\x21\0\x04MQTT\x04\xc2\0\0"
        );
        assert_eq!(first_word(b""), b"");
    }
}
