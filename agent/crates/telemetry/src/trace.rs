//! Traces of ourselves: the context that a sampled record carries through journal, fold, spool and wire, and the spans of its
//! way, until somebody exports them.
//!
//! ```text
//! inputs: Traced ─▶ journal ─▶ fold ─▶ spool: Context in a batch's head ─▶ uplink: Batch.trace
//!                     └─ receive ─┴─ fold · spool ─┴─ send ─▶ Tracer (bounded) ─▶ whoever exports
//! ```
//! The context is data: it is durable, and replay gives it again. Spans are not: they are in memory, what has no room is dropped
//! and counted, and nobody waits for them. What is not sampled costs nothing here. No clock and no chance of its own: both
//! are handed in.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Spans that wait for whoever exports them.
pub const ROOM: usize = 4_096;
/// Sampled records that one batch tells of; of more the last.
pub const MOST: usize = 32;
/// How far splitmix64's counter goes with each draw.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A span of a sampled trace, by name. Neither part is all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Context {
    /// The trace.
    pub trace: [u8; 16],
    /// The span in it.
    pub span: [u8; 8],
}

impl Context {
    /// Reads a `traceparent` (W3C Trace Context); `None` where it is malformed or its trace isn't sampled: then there is no
    /// trace to go on with, and nothing else comes of it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_at_checked(55)?;
        let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let [version] = hex(&known[..2])?;
        // A later version may say more behind these.
        let ends = if version == 0 { more.is_empty() } else { more.first().is_none_or(|byte| *byte == b'-') };
        let [flags] = hex(&known[53..])?;
        if !dashes || !ends || version == 0xff || flags & 1 == 0 {
            return None;
        }
        let context = Self { trace: hex(&known[3..35])?, span: hex(&known[36..52])? };
        (context.trace != [0; 16] && context.span != [0; 8]).then_some(context)
    }

    /// Another span of this trace. The same `salt` gives the same one: who folds or cuts again gives the same names.
    #[must_use]
    pub fn child(self, salt: u64) -> Self {
        let span = mix(u64::from_le_bytes(self.span) ^ mix(salt.wrapping_add(STEP)));
        Self { span: span.max(1).to_le_bytes(), ..self }
    }
}

impl std::fmt::Display for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-01")
    }
}

fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (to, pair) in out.iter_mut().zip(text.chunks(2)) {
        *to = digit(pair[0])? << 4 | digit(*pair.get(1)?)?;
    }
    Some(out)
}

/// splitmix64's last step (Steele, Lea, Flood 2014): every bit of the result depends on every bit given.
fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// What a sampled record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Its `receive` span.
    pub context: Context,
    /// The sender's span, which that one belongs to; zeros where the trace begins here.
    pub parent: [u8; 8],
}

/// What a span is to the one it belongs to; the numbers are OpenTelemetry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A step in this process.
    Internal = 1,
    /// A sender waits for it.
    Server = 2,
    /// Somebody else goes on with it.
    Producer = 4,
}

/// What a span says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

/// How long something took, and of which trace it was a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its name in the trace.
    pub context: Context,
    /// The span that it belongs to; zeros for none.
    pub parent: [u8; 8],
    /// What is done.
    pub name: &'static str,
    /// What it is to its parent.
    pub kind: Kind,
    /// Nanoseconds since the epoch, by this host's clock.
    pub start: i64,
    /// The same; 0 while it goes on.
    pub end: i64,
    /// Why it didn't work; `None` when it did.
    pub failed: Option<String>,
    /// What else there is to say.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans of other traces that it has to do with.
    pub links: Vec<Context>,
}

impl Span {
    /// One that begins within another.
    pub fn within(parent: Context, context: Context, name: &'static str, start: i64) -> Self {
        Self {
            context,
            parent: parent.span,
            name,
            kind: Kind::Internal,
            start,
            end: 0,
            failed: None,
            attributes: Vec::new(),
            links: Vec::new(),
        }
    }

    /// The `receive` span of a record that came at `start`.
    pub fn receive(traced: Traced, start: i64) -> Self {
        let within = Context { span: traced.parent, ..traced.context };
        Self { kind: Kind::Server, ..Self::within(within, traced.context, "receive", start) }
    }

    /// With a number said of it.
    #[must_use]
    pub fn number(mut self, name: &'static str, value: u64) -> Self {
        self.attributes.push((name, Value::Number(value)));
        self
    }

    /// With a text said of it.
    #[must_use]
    pub fn text(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, Value::Text(value.into())));
        self
    }
}

/// What became of spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The receiver took them.
    pub exported: u64,
    /// There was no room, or the receiver didn't take them.
    pub dropped: u64,
    /// They wait.
    pub waiting: u64,
}

/// Begins traces and keeps spans until they are exported. Where there is none, nothing is traced.
pub struct Tracer {
    now: Box<dyn Fn() -> i64 + Send + Sync>,
    /// A draw below it begins a trace.
    below: u64,
    drawn: AtomicU64,
    inputs: OnceLock<Vec<String>>,
    waiting: Mutex<VecDeque<Span>>,
    exported: AtomicU64,
    dropped: AtomicU64,
}

impl Tracer {
    /// One that begins a trace with this share (0 to 1) of what comes without any. `seed` is random, `now` the wall clock.
    pub fn new(share: f64, seed: u64, now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self {
            now: Box::new(now),
            // Saturates: a share of 1 is all but one in 2^64.
            below: (share * 2f64.powi(64)) as u64,
            drawn: AtomicU64::new(seed),
            inputs: OnceLock::new(),
            waiting: Mutex::default(),
            exported: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// The wall clock.
    pub fn now(&self) -> i64 {
        (self.now)()
    }

    fn draw(&self) -> u64 {
        mix(self.drawn.fetch_add(STEP, Relaxed))
    }

    /// A trace for something that came without one, if it is its turn.
    pub fn begin(&self) -> Option<Traced> {
        if self.below == 0 || self.draw() > self.below {
            return None;
        }
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&self.draw().to_le_bytes());
        trace[8..].copy_from_slice(&self.draw().max(1).to_le_bytes());
        let span = self.draw().max(1).to_le_bytes();
        Some(Traced { context: Context { trace, span }, parent: [0; 8] })
    }

    /// Goes on with the sender's trace.
    pub fn go_on(&self, parent: Context) -> Traced {
        Traced { context: parent.child(self.draw()), parent: parent.span }
    }

    /// A span within another, with a name of its own.
    pub fn span(&self, parent: Context, name: &'static str) -> Span {
        Span::within(parent, parent.child(self.draw()), name, self.now())
    }

    /// It is over: now, unless it says when.
    pub fn end(&self, mut span: Span) {
        if span.end == 0 {
            span.end = self.now().max(span.start);
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() < ROOM {
            waiting.push_back(span);
        } else {
            drop(waiting);
            self.dropped(1);
        }
    }

    /// What inputs are called, by their number.
    pub fn name_inputs(&self, names: Vec<String>) {
        _ = self.inputs.set(names);
    }

    /// What an input is called.
    pub fn input(&self, number: u16) -> String {
        let named = self.inputs.get().and_then(|names| names.get(usize::from(number)));
        named.cloned().unwrap_or_else(|| number.to_string())
    }

    /// Takes out the oldest that wait.
    pub fn take(&self, most: usize) -> Vec<Span> {
        let mut waiting = self.waiting.lock();
        let most = most.min(waiting.len());
        waiting.drain(..most).collect()
    }

    /// So many have arrived.
    pub fn exported(&self, n: u64) {
        self.exported.fetch_add(n, Relaxed);
    }

    /// So many never will.
    pub fn dropped(&self, n: u64) {
        self.dropped.fetch_add(n, Relaxed);
    }

    /// What became of them.
    pub fn counted(&self) -> Counted {
        let waiting = self.waiting.lock().len() as u64;
        Counted { exported: self.exported.load(Relaxed), dropped: self.dropped.load(Relaxed), waiting }
    }
}

/// Adds a record to those that something tells of: once, as the last, and at most [`MOST`].
pub fn note(list: &mut Vec<Traced>, traced: Traced) {
    list.retain(|known| *known != traced);
    if list.len() >= MOST {
        list.remove(0);
    }
    list.push(traced);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_sampled_traceparent_is_read_and_written_alike() {
        assert_eq!(Context::parse(TEXT.as_bytes()).unwrap().to_string(), TEXT);
        // A later version, which may say more behind.
        let later = TEXT.replacen("00-", "cc-", 1);
        for text in [later.clone(), format!("{later}-what-the-future-will-be-like")] {
            assert_eq!(Context::parse(text.as_bytes()).unwrap().to_string(), TEXT, "{text}");
        }
    }

    #[test]
    fn a_traceparent_that_is_malformed_or_not_sampled_is_none() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
        ] {
            assert_eq!(Context::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn children_are_told_apart_and_are_the_same_again() {
        let parent = Context::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(parent.child(1), parent.child(1));
        assert_ne!(parent.child(1), parent.child(2));
        assert_eq!(parent.child(1).trace, parent.trace);
    }

    #[test]
    fn as_many_traces_begin_as_was_asked() {
        let begun = |share| {
            let tracer = Tracer::new(share, 7, || 1);
            (0..100_000).filter_map(|_| tracer.begin()).count()
        };
        assert_eq!((begun(0.0), begun(1.0)), (0, 100_000));
        assert!((900..1_100).contains(&begun(0.01)), "{}", begun(0.01));
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let tracer = Tracer::new(1.0, 7, || 5);
        let traced = tracer.begin().unwrap();
        for _ in 0..ROOM + 3 {
            tracer.end(Span::receive(traced, 4));
        }
        assert_eq!(tracer.counted(), Counted { exported: 0, dropped: 3, waiting: ROOM as u64 });
        let taken = tracer.take(2);
        assert_eq!((taken.len(), taken[0].start, taken[0].end), (2, 4, 5));
        assert_eq!(tracer.counted().waiting, ROOM as u64 - 2);
    }

    #[test]
    fn of_many_records_the_last_are_told_of_each_once() {
        let tracer = Tracer::new(1.0, 7, || 5);
        let all: Vec<Traced> = (0..MOST + 2).map(|_| tracer.begin().unwrap()).collect();
        let mut list = Vec::new();
        all.iter().for_each(|traced| note(&mut list, *traced));
        assert_eq!(list, all[2..]);
        note(&mut list, all[5]);
        assert_eq!((list.len(), list.last()), (MOST, Some(&all[5])));
    }
}
