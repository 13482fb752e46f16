//! One connection: hello lines, blocks of lines to the journal, acknowledgements back.
//!
//! Reading goes on while earlier blocks wait for the disk; how far ahead is bounded by [`AHEAD`].

use std::collections::VecDeque;
use std::time::Duration;

use jiff::tz::TimeZone;
use telemetry::{Cause, Position};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use super::config::Format;
use super::lines::{self, Buffer};
use crate::admission::Tokens;
use crate::door::{Door, Refused};
use crate::intake::CachePool;
use crate::times::Precision;

/// Most blocks that wait for the disk.
const AHEAD: usize = 64;
/// Most bytes that are read before their whole lines are taken in.
const BLOCK: usize = 256 << 10;
/// How long the hello lines may take, and how long an answer may take to be written.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a full journal may hold up a connection before it is closed.
const FULL: Duration = Duration::from_secs(300);
/// Longest hello line.
const MAX_HELLO: usize = 1024;

/// What all connections of an input share.
pub(super) struct Terms {
    pub(super) tokens: Tokens,
    pub(super) format: Format,
    pub(super) max_line: usize,
    pub(super) idle: Option<Duration>,
    pub(super) precision: Precision,
    pub(super) zone: TimeZone,
    pub(super) caches: CachePool,
}

/// Serves a connection to its end.
pub(super) async fn serve<S>(stream: S, door: &Door, terms: &Terms, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (reader, writer) = tokio::io::split(stream);
    let mut connection = Connection {
        reader,
        writer,
        door,
        terms,
        buffer: Buffer::default(),
        waiting: VecDeque::new(),
        acks: false,
        format: terms.format,
        lines: 0,
    };
    if let Err(end) = connection.run(&shutdown).await {
        tracing::debug!(%end, "a TCP connection was ended");
        connection.say(&format!("ERR {} {end}\n", connection.lines)).await;
    }
    let _ = tokio::time::timeout(PATIENCE, connection.writer.shutdown()).await;
}

/// Why a connection is ended from here.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the first line must be AUTH <token>, with a token of this agent's token_file")]
    Forbidden,
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("nothing came for {} s", .0.as_secs())]
    Idle(Duration),
}

struct Connection<'c, S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    door: &'c Door,
    terms: &'c Terms,
    buffer: Buffer,
    /// (position, lines received by then) of blocks that wait for the disk, oldest first.
    waiting: VecDeque<(Position, u64)>,
    acks: bool,
    format: Format,
    lines: u64,
}

/// What came of waiting for bytes.
enum Came {
    Bytes,
    End,
    Durable(Result<(), Refused>),
}

impl<S: AsyncRead + AsyncWrite + Send> Connection<'_, S> {
    async fn run(&mut self, shutdown: &CancellationToken) -> Result<(), End> {
        if !self.hello(shutdown).await? {
            return Ok(());
        }
        let mut ended = false;
        loop {
            self.take_in(ended).await?;
            if ended {
                break;
            }
            match self.wait(shutdown).await? {
                Came::Bytes => {}
                Came::End => ended = true,
                Came::Durable(result) => self.settled(result).await?,
            }
        }
        while let Some((position, _)) = self.waiting.front() {
            let result = self.door.durable(*position).await;
            self.settled(result).await?;
        }
        Ok(())
    }

    /// The lines before the data. False when the stream ended.
    async fn hello(&mut self, shutdown: &CancellationToken) -> Result<bool, End> {
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut admitted = !self.terms.tokens.required();
        loop {
            // Decided as soon as the first bytes can't be a hello line any more.
            let hello = match self.buffer.first_line() {
                Some(line) => {
                    if let Some(token) = line.strip_prefix(b"AUTH ").filter(|_| self.lines == 0) {
                        admitted |= self.terms.tokens.admits(token.trim_ascii());
                        if !admitted {
                            return Err(self.forbidden());
                        }
                        true
                    } else if line == b"ACK" && admitted && !self.acks {
                        self.acks = true;
                        true
                    } else {
                        false
                    }
                }
                None => {
                    let begun = self.buffer.room();
                    let may_be = begun.len() < MAX_HELLO
                        && (begun.starts_with(b"AUTH ")
                            || b"AUTH ".starts_with(begun)
                            || b"ACK\r\n".starts_with(begun));
                    if !may_be {
                        break;
                    }
                    let read = tokio::select! {
                        read = self.reader.read_buf(self.buffer.room()) => read.unwrap_or(0),
                        () = shutdown.cancelled() => 0,
                        () = tokio::time::sleep_until(until), if !admitted => return Err(self.forbidden()),
                    };
                    if read == 0 {
                        return Ok(self.buffer.len() > 0 && admitted);
                    }
                    continue;
                }
            };
            if !hello {
                break;
            }
            self.buffer.drop_line();
        }
        if admitted { Ok(true) } else { Err(self.forbidden()) }
    }

    fn forbidden(&self) -> End {
        self.door.reject(Cause::RejectedForbidden, "a TCP connection without a good AUTH line", b"");
        End::Forbidden
    }

    /// Waits for bytes, or for the disk, whichever is first. With many blocks on their way only for the disk.
    async fn wait(&mut self, shutdown: &CancellationToken) -> Result<Came, End> {
        let oldest = self.waiting.front().map(|(position, _)| *position);
        let door = self.door;
        let durable = async {
            match oldest {
                Some(position) => door.durable(position).await,
                None => std::future::pending().await,
            }
        };
        let idle = self.terms.idle;
        let silence = async {
            match idle {
                Some(idle) => tokio::time::sleep(idle).await,
                None => std::future::pending().await,
            }
        };
        let may_read = self.waiting.len() < AHEAD;
        let room = self.buffer.room();
        room.reserve(BLOCK.min(room.len().max(8 << 10)));
        tokio::select! {
            result = durable => Ok(Came::Durable(result)),
            read = self.reader.read_buf(room), if may_read => match read {
                // A connection that broke is one that ended: what came is taken in.
                Ok(0) | Err(_) => Ok(Came::End),
                Ok(_) => Ok(Came::Bytes),
            },
            () = silence, if oldest.is_none() => Err(End::Idle(idle.unwrap_or_default())),
            () = shutdown.cancelled() => Ok(Came::End),
        }
    }

    /// Gives the whole lines that are here to the journal.
    async fn take_in(&mut self, ended: bool) -> Result<(), End> {
        let block = self.buffer.whole(ended);
        if !block.is_empty() {
            if self.format == Format::Auto {
                let first = block.iter().find(|byte| !byte.is_ascii_whitespace());
                self.format = if first == Some(&b'{') { Format::Ndjson } else { Format::LineProtocol };
            }
            let read = (self.terms.caches)
                .with(|cache| lines::read(&block, self.format, self.terms, self.door, cache));
            let errors: String = match self.acks {
                true => read.errors.iter().map(|(at, why)| error_line(self.lines + at + 1, why)).collect(),
                false => String::new(),
            };
            self.lines += read.lines;
            if !errors.is_empty() && !self.say(&errors).await {
                return Ok(());
            }
            let position = self.door.submit_waiting(read.intake, FULL).await?;
            self.waiting.push_back((position, self.lines));
        }
        if self.buffer.overlong(self.terms.max_line) {
            let rejection = lines::too_long(self.terms.max_line);
            self.door.reject(rejection.cause, &rejection.reason, b"");
            self.lines += 1;
            if self.acks {
                let line = error_line(self.lines, &rejection.reason);
                self.say(&line).await;
            }
            // The long line is settled with the blocks before it.
            let position = self.door.journal.last();
            self.waiting.push_back((position, self.lines));
        }
        Ok(())
    }

    /// The oldest block is durable: so may be some after it.
    async fn settled(&mut self, result: Result<(), Refused>) -> Result<(), End> {
        result?;
        let mark = *self.door.journal.durable().borrow();
        let mut settled = self.waiting.pop_front().map(|(_, lines)| lines);
        while let Some((position, lines)) = self.waiting.front()
            && *position <= mark
        {
            settled = Some(*lines);
            self.waiting.pop_front();
        }
        if let (true, Some(lines)) = (self.acks, settled) {
            self.say(&format!("OK {lines}\n")).await;
        }
        Ok(())
    }

    /// Writes to the sender; false when it doesn't read. What it missed it will send again.
    async fn say(&mut self, text: &str) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.writer.write_all(text.as_bytes())).await, Ok(Ok(())))
    }
}

fn error_line(line: u64, reason: &str) -> String {
    format!("ERR {line} {}\n", reason.replace(['\n', '\r'], " "))
}
