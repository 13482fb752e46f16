//! What every batch is done with leaves the disk: the cursor says so first, then segments are unlinked.

use std::sync::Arc;
use std::time::Duration;

use seglog::Cell;

use crate::SpoolError;
use crate::act::Act;
use crate::cursor::{Cursor, EpochCursor};
use crate::writer::{CURSOR_BYTES, Writer, closed, loss_of};

/// A cursor that says more than the one on disk is written at this interval, or when a segment goes.
const CURSOR_EVERY: Duration = Duration::from_secs(5);

impl Writer {
    /// What the clock and acks ask for, without cutting: frees segments, keeps the caps.
    pub(crate) fn maintain(&mut self, now: Duration) -> Result<(), SpoolError> {
        self.settle()?;
        let clocks = self.config.dir.join("clocks");
        self.clocks.save(&self.storage, &clocks, &self.state);
        self.save_losses()?;
        self.keep_caps()?;
        self.look_at_floor();
        self.refill(now);
        self.release(now)
    }

    /// Losses that recovery found, or that came with a batch, get records of their own.
    pub(crate) fn save_losses(&mut self) -> Result<(), SpoolError> {
        let unsaved: Vec<Act> = {
            let state = self.state.lock();
            if state.unsaved == 0 {
                return Ok(());
            }
            let unsaved = state.entries().filter(|(_, entry)| entry.record == 0 && entry.loss);
            unsaved
                .filter_map(|(order, entry)| Some(Act::Lose { order, loss: loss_of(&state, order, entry)? }))
                .collect()
        };
        if unsaved.is_empty() { Ok(()) } else { self.commit(unsaved) }
    }

    /// What was taken back of a damaged batch is taken back once: its loss has its record before anything is written that
    /// builds on it. What stands in the log behind that record, or in a cursor written after it, needs no correction.
    pub(crate) fn save_corrected(&mut self) -> Result<(), SpoolError> {
        if self.state.lock().corrected {
            self.save_losses()?;
            self.state.lock().corrected = false;
        }
        Ok(())
    }

    /// Writes the cursor when it is time to, and unlinks what every batch is done with.
    fn release(&mut self, now: Duration) -> Result<(), SpoolError> {
        let dirty = self.state.lock().dirty;
        if self.releasable().is_some() {
            self.release_done();
        } else if dirty && now.saturating_sub(self.cursor_at) >= CURSOR_EVERY {
            self.save_cursor(now)?;
        }
        Ok(())
    }

    /// The last record that nobody needs, if a whole segment ends at or before it.
    fn releasable(&self) -> Option<u64> {
        let log = self.log.as_ref()?;
        let unsynced =
            self.unsynced.iter().filter_map(|(_, placed)| placed.map(|placed| placed.record)).min();
        let live = self.state.lock().records.first().copied();
        let needed = [unsynced, live].into_iter().flatten().min().unwrap_or(self.next_record);
        let upto = needed.checked_sub(1)?;
        (log.first() <= upto && log.readers().segment_first(needed) > log.first()).then_some(upto)
    }

    /// True when something was unlinked.
    pub(crate) fn release_done(&mut self) -> bool {
        let Some(upto) = self.releasable() else { return false };
        let now = self.state.lock().now;
        // DURABILITY: the cursor says that these are done before the log forgets them.
        if let Err(error) = self.save_cursor(now) {
            tracing::warn!(%error, "nothing of the spool is freed until its cursor can be written");
            return false;
        }
        let Some(log) = &mut self.log else { return false };
        // A file that is open keeps its room when its name is gone, and nothing may be read for long.
        let stays = log.readers().segment_first(upto + 1);
        self.place.lock().take_if(|(at, _)| *at <= stays);
        let freed = log.release(upto);
        let first = log.first();
        self.heads.release(first);
        self.continued = self.continued.split_off(&first);
        self.state.lock().forget_epochs(first);
        match freed {
            Ok(freed) => freed > 0,
            Err(error) => {
                tracing::warn!(%error, "a segment of the spool that is no longer needed can't be removed; it is tried again");
                false
            }
        }
    }

    /// Unlinks a segment of which everything needed was written again further on. False when it is still there.
    pub(crate) fn release_segment(&mut self, first: u64) -> Result<bool, SpoolError> {
        let now = self.state.lock().now;
        // DURABILITY: the copies are synced, and the cursor says where counting stands, before it goes.
        self.save_cursor(now)?;
        let Some(log) = &mut self.log else { return Err(closed()) };
        *self.place.lock() = None;
        let freed = log.release_segment(first).map_err(|error| SpoolError::Broken(error.to_string()))?;
        self.heads.remove(first);
        self.continued.remove(&first);
        Ok(freed > 0)
    }

    pub(crate) fn save_cursor(&mut self, now: Duration) -> Result<(), SpoolError> {
        if self.state.lock().corrected {
            if !self.unsynced.is_empty() {
                return Err(SpoolError::Broken(
                    "what was taken back of a damaged batch isn't written yet".into(),
                ));
            }
            self.save_corrected()?;
        }
        // What is appended and not confirmed isn't counted yet: the record may still come, and says it then.
        let unsynced = self.unsynced.iter().filter_map(|(_, placed)| placed.map(|placed| placed.record));
        let next_record = unsynced.filter(|record| *record > 0).min().unwrap_or(self.next_record);
        let cursor = {
            let state = self.state.lock();
            Cursor {
                position: state.position,
                next_number: self.numbering.next(),
                next_record,
                before: state.before.clone(),
                settled: Some(state.settled.clone()),
                losses: state.lost.clone(),
                open: state.open,
                damage: state.damage.clone(),
                waiting: state.waiting_times(),
                epochs: state
                    .epochs
                    .values()
                    .map(|epoch| EpochCursor {
                        id: epoch.id,
                        next_seq: epoch.next_seq,
                        last_record: epoch.last_record,
                        offered: epoch.offered,
                        done: epoch.done.clone(),
                    })
                    .collect(),
            }
        };
        let broken =
            |error: &dyn std::fmt::Display| SpoolError::Broken(format!("the spool's cursor: {error}"));
        if self.cell.is_none() {
            let path = self.config.dir.join("cursor");
            let cell =
                Cell::open(Arc::clone(&self.storage), &path, CURSOR_BYTES).map_err(|error| broken(&error))?;
            self.cell = Some(cell);
        }
        let Some(cell) = &mut self.cell else { return Ok(()) };
        if let Err(error) = cell.set(&cursor.encode()) {
            if matches!(error, seglog::CellError::Poisoned { .. }) {
                self.cell = None;
            }
            return Err(broken(&error));
        }
        self.cursor_at = now;
        self.state.lock().dirty = false;
        Ok(())
    }
}
