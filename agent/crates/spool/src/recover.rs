//! Opening: the log and the cursor back to a state.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use seglog::{Log, Storage};
use telemetry::{Epoch, SeriesTable};
use wire::payload::Encoder;

use crate::class::Classes;
use crate::clocks::ClockFile;
use crate::cursor::{self, Found};
use crate::cut::Pending;
use crate::heads::Heads;
use crate::proof::{Again, Unproven, withheld_for};
use crate::recut::Recut;
use crate::replay::Replay;
use crate::writer::Writer;
use crate::{OpenError, Recovery, SpoolConfig};

/// Reads everything and gives the writer with it.
pub(crate) fn open(
    config: SpoolConfig,
    storage: Arc<dyn Storage>,
    table: Arc<SeriesTable>,
) -> Result<(Writer, Recovery), OpenError> {
    let failed = |source| OpenError { dir: config.dir.clone(), source };
    let dir = config.dir.join("log");
    let (mut log, found) = Log::open(Arc::clone(&storage), &dir, Writer::options(&config))
        .map_err(|error| failed(error.into()))?;
    let mut recovery =
        Recovery { torn_bytes: found.torn_bytes, set_aside: found.set_aside.clone(), ..Recovery::default() };
    if !found.set_aside.is_empty() {
        tracing::error!(moved_to = ?found.set_aside, "the disk does not give segments of the spool: what waited in them is reported as lost; check the disk (dmesg, smartctl)");
    }
    for gap in &found.damaged {
        tracing::warn!(
            segment = ?found.newest, first = gap.first, last = gap.last, records = gap.records(), bytes = gap.bytes,
            kept_in = ?found.quarantined,
            "the newest segment of the spool is damaged: what is intact before and behind goes on"
        );
    }
    let path = config.dir.join("cursor");
    let Found { cell, cursor, mut lost, unknown } = cursor::open(&storage, &path);
    // One is written before the first batch is.
    if cursor.is_none() && unknown.is_none() && log.next() > 1 {
        lost.get_or_insert_with(|| "was gone".to_owned());
    }
    recovery.cursor_lost = lost.is_some();
    if let Some(what) = &lost {
        tracing::warn!(path = %path.display(), "the spool's cursor {what}: what was acknowledged lately is asked for again");
    }

    let mut replay = Replay::new(cursor.as_ref(), &table);
    let mut heads = Heads::new(Arc::clone(&storage), config.dir.join("heads"), config.segment_bytes);
    replay.read(&log.readers(), &mut heads);
    let newest = found.withheld.as_ref().map(|why| withheld_for(why));
    replay.withheld = unknown.or(newest).or(replay.withheld);
    let withheld = replay.withheld.clone();
    if withheld.is_none() {
        // What it knows of segments that are gone goes with them.
        heads.clean(|kept| replay.remember(&kept));
    }
    let continued = std::mem::take(&mut replay.continued);
    let (mut state, numbering, damaged) = replay.finish(cursor.as_ref());
    recovery.damaged = damaged;
    let next_record = log.next().max(cursor.as_ref().map_or(0, |cursor| cursor.next_record));
    match (log.skip_to(next_record), &found.unverified) {
        (Ok(()), _) => {}
        // Opened again and again until it isn't; what keeps it is told by those who would write.
        (Err(error), Some(_)) => tracing::debug!(%error, "the spool can't write yet"),
        // The log is full; the first write finds out and repairs.
        (Err(error), None) => tracing::warn!(%error, "the spool can't write yet"),
    }
    if state.current().is_none() {
        state.begin(fresh_epoch(&*storage).map_err(|error| failed(error.into()))?);
        recovery.new_epoch = true;
    }
    let (clock_file, clocks) = ClockFile::open(&storage, &config.dir.join("clocks"));
    state.clocks = clocks;
    state.cursor_lost = lost;
    recovery.withheld.clone_from(&withheld);
    let unproven = withheld.map(Unproven::Withheld).or_else(|| found.unverified.map(Unproven::Unsynced));
    if let Some(unproven) = &unproven {
        state.frozen = true;
        unproven.tell(&mut state, Again::default());
    }
    state.set_free();
    recovery.batches = state.batches();
    recovery.rows =
        state.entries().filter(|(_, entry)| !entry.loss).map(|(_, entry)| u64::from(entry.rows)).sum();
    let pending = Pending { last: state.position, ..Pending::default() };
    let recut = found.torn_at.as_ref().and_then(|torn| Recut::read(&*storage, torn, state.position));
    let readers = Arc::new(Mutex::new(log.readers()));
    let mut writer = Writer {
        encoder: Encoder::new(config.level),
        classes: Classes::new(&config.classes),
        clocks: clock_file,
        heads,
        continued,
        config,
        storage,
        table,
        state: Arc::new(Mutex::new(state)),
        log: Some(log),
        unproven,
        again: Again::default(),
        reopening: Again::default(),
        cell,
        readers,
        place: Arc::new(Mutex::new(None)),
        next_record,
        numbering,
        defined: HashMap::new(),
        pending,
        recut,
        unsynced: Vec::new(),
        cursor_at: std::time::Duration::ZERO,
        floor: crate::floor::Floor::default(),
        reserve: None,
        refilled_at: None,
        expired_at: None,
        turned_away: (0, None),
        tracer: None,
    };
    if recovery.new_epoch && writer.proven() {
        // DURABILITY: the epoch's id is known before a batch of it exists, so that clones of this disk share it.
        if let Err(error) = writer.save_cursor(std::time::Duration::ZERO) {
            tracing::warn!(%error, "the spool's first cursor can't be written yet");
        }
    }
    Ok((writer, recovery))
}

/// A new epoch's id.
pub(crate) fn fresh_epoch(storage: &dyn Storage) -> std::io::Result<Epoch> {
    let mut id = [0; 16];
    storage.random(&mut id)?;
    Ok(Epoch(id))
}
