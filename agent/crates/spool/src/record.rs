//! What the spool writes into its log, and reads back at opening. Five kinds of records.
//!
//! ```text
//! record   := kind u8, version u8, body              little-endian; `v` is a LEB128 number
//! batch    := epoch 16 bytes, seq u64, part v, parts v, first position v, last position v,
//!             t0 i64, t1 i64, rows v, counts, before counts, checksum 16 bytes,
//!             group (from version 2 on),
//!             series n v (number v, as the difference to the one before),
//!             definitions n v bytes (wire::definitions: those that this segment lacks, or has once), payload (the rest)
//! relabel  := epoch 16 bytes, n v * (record v, seq v), [standing]     both as differences
//! loss     := epoch 16 bytes, seq u64, t0 i64, t1 i64, counts, [standing]
//! standing := position v, counts, [open, [left]]               of all batches before it; not in what older versions wrote
//! moved    := as a batch, of version 2, 3, 4, 6 or 7
//! echo     := epoch 16 bytes, seq u64, thinned v, counts, after counts, replaces n v * (loss, without standing)
//! counts   := n v * (cause u8, count v)
//! group    := samples v, offered u8 (0 or 1), priority u8, overflow u8 [window i64 with 3], clock u8 (0 or 1) [boot 16 bytes with 1],
//!             replaces n v * (loss, without standing), [thinned v, from version 3 on], [open, from version 4 on], [left, from version 6 on],
//!             [trace 16 bytes, span 8 bytes, in version 7]
//! open     := v: one more than the readings in open windows after the last of its positions, 0 where that isn't known
//! left     := routes u64, left i64                    which of these windows can't have left: telemetry::OpenWindows
//! ```
//!
//! Batches are written as version 2, those whose windows thinning made as version 3, and those that were cut where readings
//! are reduced to windows as version 6 (4 lacked `left`), and those of sampled records as version 7; version 1 had no group and is
//! still read. There is no version 5. The others are version 1.
//!
//! - A batch's `before` is the sum of the counts of all batches before it: what a damaged stretch
//!   held is the difference between its neighbours, exactly.
//! - Rows that don't fit into one batch become `parts` of one cut. Without the last of them none counts.
//! - A relabel gives batches (by their record's number) a seq in another epoch; payloads don't change.
//!   From it on that epoch is the one that batches are cut in.
//! - A standing says what the last batch before says, should that be damaged and no batch be behind it: what was cut
//!   isn't cut again.
//! - A loss stands for the batch of the same name, which it drops. A batch that `replaces` others holds what
//!   they held, in windows, and is in the log if and only if their losses are.
//! - A moved batch is one whose first record was in a segment that had to go. It has its present name, and says
//!   nothing of positions and of what was counted before.
//! - An echo says once more what a cut counted that thinned others: with the name of its last part. Should that be damaged
//!   while the batches that it replaces are there, they are what they were, and what it counted is taken back.
//! - A `trace` names the `spool` span that what becomes of the batch belongs to (`traced.rs`).
//! - `offered` says that a collector was connected when it was cut: it may have been sent before anything
//!   else was written.
//!
//! Of two records with one name the later one counts: after a failed fsync a record is written again.

use telemetry::trace::Context;
use telemetry::{BatchKey, Cause, Counts, Epoch, OpenWindows};
use wire::Checksum;

use crate::class::{Class, Overflow, Priority};
use crate::group::Group;

/// Of relabels and losses.
const VERSION: u8 = 1;
/// Of batches, of those that were thinned, and so on: a version that doesn't know of these reads all others.
const BATCH_VERSION: u8 = 2;
const THINNED_VERSION: u8 = 3;
const OPEN_VERSION: u8 = 4;
const LEFT_VERSION: u8 = 6;
const TRACED_VERSION: u8 = 7;
const BATCH: u8 = 1;
const RELABEL: u8 = 2;
const LOSS: u8 = 3;
const MOVED: u8 = 4;
const ECHO: u8 = 5;

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record<'a> {
    Batch { head: Head, definitions: &'a [u8], payload: &'a [u8] },
    Moved { head: Head, definitions: &'a [u8], payload: &'a [u8] },
    Relabel { epoch: Epoch, moves: Vec<(u64, u64)>, standing: Standing },
    Loss(Loss, Standing),
    Echo(Echo),
}

/// Up to which position there were batches, and what they counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Standing {
    pub(crate) position: u64,
    pub(crate) before: Counts,
    /// As in a head.
    pub(crate) open: Option<OpenWindows>,
}

/// What is said of a batch before its payload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    pub(crate) key: BatchKey,
    /// Counts from 1 to `parts`.
    pub(crate) part: u64,
    pub(crate) parts: u64,
    pub(crate) first_position: u64,
    pub(crate) last_position: u64,
    pub(crate) t0: i64,
    pub(crate) t1: i64,
    pub(crate) rows: u64,
    pub(crate) counts: Counts,
    pub(crate) before: Counts,
    pub(crate) checksum: Checksum,
    pub(crate) series: Vec<u32>,
    pub(crate) group: Group,
    /// Raw samples among the rows.
    pub(crate) samples: u64,
    /// A collector was connected when it was cut.
    pub(crate) offered: bool,
    /// Batches that this one stands for.
    pub(crate) replaces: Vec<Loss>,
    /// Raw readings that thinning made its windows of; 0 where it made none.
    pub(crate) thinned: u64,
    /// Of windows that were open after `last_position`; `None` where that isn't known, or nothing is reduced to windows.
    pub(crate) open: Option<OpenWindows>,
    /// The trace that it belongs to, where a sampled record is in it.
    pub(crate) trace: Option<Context>,
}

impl Head {
    fn version(&self) -> u8 {
        match (self.trace, self.open, self.thinned) {
            (Some(_), ..) => TRACED_VERSION,
            (None, Some(open), _) if open.left_by().is_some() => LEFT_VERSION,
            (None, Some(_), _) => OPEN_VERSION,
            (None, None, 0) => BATCH_VERSION,
            (None, None, _) => THINNED_VERSION,
        }
    }
}

/// A seq whose batch was dropped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loss {
    pub(crate) key: BatchKey,
    pub(crate) t0: i64,
    pub(crate) t1: i64,
    pub(crate) counts: Counts,
}

/// What a cut counted that thinned others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Echo {
    /// Its last part, which has the losses.
    pub(crate) key: BatchKey,
    /// As in a head.
    pub(crate) thinned: u64,
    /// Of all its parts.
    pub(crate) counts: Counts,
    /// Of all batches ever cut, with it.
    pub(crate) after: Counts,
    /// As in a head.
    pub(crate) replaces: Vec<Loss>,
}

/// Why a record isn't one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRecord {
    #[error("it ends early")]
    Truncated,
    #[error("its {0} is unknown: it was written by a newer version")]
    Unknown(&'static str),
}

pub(crate) fn put_batch(out: &mut Vec<u8>, head: &Head, definitions: &[u8], payload: &[u8]) {
    out.extend_from_slice(&[BATCH, head.version()]);
    put_batch_body(out, head, definitions, payload);
}

pub(crate) fn put_moved(out: &mut Vec<u8>, head: &Head, definitions: &[u8], payload: &[u8]) {
    out.extend_from_slice(&[MOVED, head.version()]);
    put_batch_body(out, head, definitions, payload);
}

fn put_batch_body(out: &mut Vec<u8>, head: &Head, definitions: &[u8], payload: &[u8]) {
    put_key(out, head.key);
    for number in [head.part, head.parts, head.first_position, head.last_position] {
        put_number(out, number);
    }
    out.extend_from_slice(&head.t0.to_le_bytes());
    out.extend_from_slice(&head.t1.to_le_bytes());
    put_number(out, head.rows);
    put_counts(out, &head.counts);
    put_counts(out, &head.before);
    out.extend_from_slice(&head.checksum);
    put_group(out, head);
    put_number(out, head.series.len() as u64);
    let mut last = 0;
    for number in &head.series {
        put_number(out, u64::from(number.wrapping_sub(last)));
        last = *number;
    }
    put_number(out, definitions.len() as u64);
    out.extend_from_slice(definitions);
    out.extend_from_slice(payload);
}

fn put_group(out: &mut Vec<u8>, head: &Head) {
    put_number(out, head.samples);
    out.push(u8::from(head.offered));
    out.push(head.group.class.priority as u8);
    match head.group.class.overflow {
        Overflow::DropOldest => out.push(0),
        Overflow::DropNewest => out.push(1),
        Overflow::Block => out.push(2),
        Overflow::Thin(window) => {
            out.push(3);
            out.extend_from_slice(&window.to_le_bytes());
        }
    }
    match head.group.clock {
        None => out.push(0),
        Some(boot) => {
            out.push(1);
            out.extend_from_slice(&boot);
        }
    }
    put_number(out, head.replaces.len() as u64);
    for loss in &head.replaces {
        put_loss_body(out, loss);
    }
    if head.version() >= THINNED_VERSION {
        put_number(out, head.thinned);
    }
    if head.version() >= OPEN_VERSION {
        put_open(out, head.open);
    }
    if head.version() >= LEFT_VERSION {
        put_left(out, head.open);
    }
    if let Some(Context { trace, span }) = &head.trace {
        out.extend_from_slice(trace);
        out.extend_from_slice(span);
    }
}

pub(crate) fn put_open(out: &mut Vec<u8>, open: Option<OpenWindows>) {
    put_number(out, open.map_or(0, |open| open.readings.saturating_add(1)));
}

pub(crate) fn put_left(out: &mut Vec<u8>, open: Option<OpenWindows>) {
    if let Some(OpenWindows { routes, left, .. }) = open {
        out.extend_from_slice(&routes.to_le_bytes());
        out.extend_from_slice(&left.to_le_bytes());
    }
}

/// `moves` ascend by record and by seq.
pub(crate) fn put_relabel(out: &mut Vec<u8>, epoch: Epoch, moves: &[(u64, u64)], standing: &Standing) {
    out.extend_from_slice(&[RELABEL, VERSION]);
    out.extend_from_slice(&epoch.0);
    put_number(out, moves.len() as u64);
    let mut last = (0, 0);
    for &(record, seq) in moves {
        put_number(out, record.wrapping_sub(last.0));
        put_number(out, seq.wrapping_sub(last.1));
        last = (record, seq);
    }
    put_standing(out, standing);
}

fn put_standing(out: &mut Vec<u8>, standing: &Standing) {
    put_number(out, standing.position);
    put_counts(out, &standing.before);
    put_open(out, standing.open);
    put_left(out, standing.open);
}

pub(crate) fn put_loss(out: &mut Vec<u8>, loss: &Loss, standing: &Standing) {
    out.extend_from_slice(&[LOSS, VERSION]);
    put_loss_body(out, loss);
    put_standing(out, standing);
}

pub(crate) fn put_echo(out: &mut Vec<u8>, echo: &Echo) {
    out.extend_from_slice(&[ECHO, VERSION]);
    put_key(out, echo.key);
    put_number(out, echo.thinned);
    put_counts(out, &echo.counts);
    put_counts(out, &echo.after);
    put_number(out, echo.replaces.len() as u64);
    echo.replaces.iter().for_each(|loss| put_loss_body(out, loss));
}

fn put_loss_body(out: &mut Vec<u8>, loss: &Loss) {
    put_key(out, loss.key);
    out.extend_from_slice(&loss.t0.to_le_bytes());
    out.extend_from_slice(&loss.t1.to_le_bytes());
    put_counts(out, &loss.counts);
}

impl<'a> Record<'a> {
    /// Reads a record. Allocates no more than a small multiple of the bytes given.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, BadRecord> {
        let mut cursor = Cursor(bytes);
        let [kind, version] = cursor.array()?;
        let newest = if matches!(kind, BATCH | MOVED) { TRACED_VERSION } else { VERSION };
        if !(1..=newest).contains(&version) {
            return Err(BadRecord::Unknown("version"));
        }
        match kind {
            BATCH | MOVED => {
                let head = head(&mut cursor, version)?;
                let n = cursor.count(1)?;
                let (definitions, payload) = (cursor.take(n)?, cursor.0);
                Ok(match kind {
                    BATCH => Self::Batch { head, definitions, payload },
                    _ => Self::Moved { head, definitions, payload },
                })
            }
            RELABEL => {
                let epoch = Epoch(cursor.array()?);
                let mut last = (0u64, 0u64);
                let moves = (0..cursor.count(2)?).map(|_| {
                    last.0 = last.0.wrapping_add(cursor.number()?);
                    last.1 = last.1.wrapping_add(cursor.number()?);
                    Ok(last)
                });
                let moves = moves.collect::<Result<_, _>>()?;
                Ok(Self::Relabel { epoch, moves, standing: cursor.standing()? })
            }
            LOSS => Ok(Self::Loss(cursor.loss()?, cursor.standing()?)),
            ECHO => Ok(Self::Echo(Echo {
                key: cursor.key()?,
                thinned: cursor.number()?,
                counts: cursor.counts()?,
                after: cursor.counts()?,
                replaces: (0..cursor.count(41)?).map(|_| cursor.loss()).collect::<Result<_, _>>()?,
            })),
            _ => Err(BadRecord::Unknown("kind")),
        }
    }
}

fn head(cursor: &mut Cursor<'_>, version: u8) -> Result<Head, BadRecord> {
    let mut head = Head {
        key: cursor.key()?,
        part: cursor.number()?,
        parts: cursor.number()?,
        first_position: cursor.number()?,
        last_position: cursor.number()?,
        t0: i64::from_le_bytes(cursor.array()?),
        t1: i64::from_le_bytes(cursor.array()?),
        rows: cursor.number()?,
        counts: cursor.counts()?,
        before: cursor.counts()?,
        checksum: cursor.array()?,
        series: Vec::new(),
        group: Group::default(),
        samples: 0,
        // Version 1 didn't say: it may have been sent.
        offered: true,
        replaces: Vec::new(),
        thinned: 0,
        open: None,
        trace: None,
    };
    if version > 1 {
        head.samples = cursor.number()?;
        head.offered = cursor.flag()?;
        head.group = cursor.group()?;
        head.replaces = (0..cursor.count(41)?).map(|_| cursor.loss()).collect::<Result<_, _>>()?;
    }
    if version >= THINNED_VERSION {
        head.thinned = cursor.number()?;
    }
    if version >= OPEN_VERSION {
        head.open = cursor.open()?;
    }
    if version >= LEFT_VERSION {
        cursor.left(&mut head.open)?;
    }
    if version >= TRACED_VERSION {
        head.trace = Some(Context { trace: cursor.array()?, span: cursor.array()? });
    }
    let n = cursor.count(1)?;
    let mut last = 0u32;
    head.series.reserve_exact(n);
    for _ in 0..n {
        last = last.wrapping_add(cursor.number()? as u32);
        head.series.push(last);
    }
    Ok(head)
}

pub(crate) fn put_key(out: &mut Vec<u8>, key: BatchKey) {
    out.extend_from_slice(&key.epoch.0);
    out.extend_from_slice(&key.seq.to_le_bytes());
}

pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) fn put_counts(out: &mut Vec<u8>, counts: &Counts) {
    put_number(out, counts.iter().count() as u64);
    for (cause, count) in counts.iter() {
        out.push(cause as u8);
        put_number(out, count);
    }
}

/// A bounds-checked reader.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], BadRecord> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(BadRecord::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(crate) fn number(&mut self) -> Result<u64, BadRecord> {
        let mut number = 0;
        for (at, byte) in self.0.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Ok(number);
            }
        }
        Err(BadRecord::Truncated)
    }

    /// How many items of at least `each` bytes follow: refused when they can't be there.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, BadRecord> {
        let n = usize::try_from(self.number()?).map_err(|_| BadRecord::Truncated)?;
        match n.checked_mul(each) {
            Some(bytes) if bytes <= self.0.len() => Ok(n),
            _ => Err(BadRecord::Truncated),
        }
    }

    pub(crate) fn key(&mut self) -> Result<BatchKey, BadRecord> {
        Ok(BatchKey { epoch: Epoch(self.array()?), seq: u64::from_le_bytes(self.array()?) })
    }

    fn flag(&mut self) -> Result<bool, BadRecord> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(BadRecord::Unknown("mark")),
        }
    }

    fn group(&mut self) -> Result<Group, BadRecord> {
        let priority = match self.array()? {
            [0] => Priority::Low,
            [1] => Priority::Normal,
            [2] => Priority::High,
            _ => return Err(BadRecord::Unknown("priority")),
        };
        let overflow = match self.array()? {
            [0] => Overflow::DropOldest,
            [1] => Overflow::DropNewest,
            [2] => Overflow::Block,
            [3] => Overflow::Thin(i64::from_le_bytes(self.array()?)),
            _ => return Err(BadRecord::Unknown("overflow policy")),
        };
        let clock = if self.flag()? { Some(self.array()?) } else { None };
        Ok(Group { class: Class { priority, overflow }, clock })
    }

    /// Nothing where an older version wrote the record.
    fn standing(&mut self) -> Result<Standing, BadRecord> {
        if self.0.is_empty() {
            return Ok(Standing::default());
        }
        let (position, before) = (self.number()?, self.counts()?);
        let mut standing = Standing { position, before, open: self.open()? };
        self.left(&mut standing.open)?;
        Ok(standing)
    }

    /// `None` where it isn't known, also to an older version, which ends before it.
    pub(crate) fn open(&mut self) -> Result<Option<OpenWindows>, BadRecord> {
        if self.0.is_empty() { Ok(None) } else { Ok(self.number()?.checked_sub(1).map(OpenWindows::of)) }
    }

    /// The rest of it, which older versions didn't write.
    pub(crate) fn left(&mut self, open: &mut Option<OpenWindows>) -> Result<(), BadRecord> {
        if let Some(open) = open.as_mut().filter(|_| !self.0.is_empty()) {
            open.routes = u64::from_le_bytes(self.array()?);
            open.left = i64::from_le_bytes(self.array()?);
        }
        Ok(())
    }

    pub(crate) fn loss(&mut self) -> Result<Loss, BadRecord> {
        Ok(Loss {
            key: self.key()?,
            t0: i64::from_le_bytes(self.array()?),
            t1: i64::from_le_bytes(self.array()?),
            counts: self.counts()?,
        })
    }

    pub(crate) fn counts(&mut self) -> Result<Counts, BadRecord> {
        let mut counts = Counts::new();
        for _ in 0..self.count(2)? {
            let code = self.array::<1>()?[0];
            let cause = Cause::from_code(code).ok_or(BadRecord::Unknown("cause"))?;
            let count = self.number()?;
            if count > u64::MAX - counts.get(cause) {
                return Err(BadRecord::Unknown("count"));
            }
            counts.add(cause, count);
        }
        Ok(counts)
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
