//! The hot path: one intake's samples and events, each to where its route says.

use telemetry::{Cause, Event, Intake, Rows, SeriesRef, Traced, WindowRow};

use crate::clock::rows_of;
use crate::fold::{Fold, readings};
use crate::series::{MAX_OPEN, Series};
use crate::window::{self, Left, OpenWindow};
use crate::{To, device::Device};

/// A series number of the intake that can't be used: no definition, or out of range.
const UNKNOWN: u32 = u32::MAX;

impl Fold {
    pub(crate) fn intake(&mut self, intake: &Intake, rows: &mut Rows) {
        rows.counts.merge(&intake.counts);
        let limit = match intake.stamp.is_set() {
            true => intake.stamp.wall.saturating_add(self.config.future_limit.nanos()),
            // A clock that isn't set can't tell what is ahead of it.
            false => i64::MAX,
        };
        let before = unreduced(rows);
        let mut ahead = self.events(intake, limit, rows);
        ahead += self.samples(intake, limit, rows);
        if let Some(traced) = intake.trace
            && unreduced(rows) > before
        {
            self.left.traces.push(traced);
        }
        if ahead > 0 {
            rows.count(Cause::RejectedTime, ahead);
            self.totals.rejected_time += ahead;
        }
        let touched = std::mem::take(&mut self.touched);
        for device in &touched {
            let at = &mut self.devices[*device as usize];
            if at.heard(intake.stamp, self.config.lateness.nanos()) {
                self.close_due(*device, false, rows);
                self.score(*device, rows);
            }
        }
        self.touched = touched;
        self.touched.clear();
    }

    fn events(&mut self, intake: &Intake, limit: i64, rows: &mut Rows) -> u64 {
        let mut ahead = 0;
        for event in &intake.events {
            if event.time > limit {
                ahead += 1;
            } else if let Some(time) = intake.stamp.since_boot(event.time) {
                rows.since(self.clock.boot()).events.push(Event { time, ..event.clone() });
            } else {
                rows.events.push(event.clone());
            }
        }
        ahead
    }

    fn samples(&mut self, intake: &Intake, limit: i64, rows: &mut Rows) -> u64 {
        self.record += 1;
        if intake.stamp.is_set() {
            self.resolve(intake, false, |_| true);
            return self.take(intake, limit, false, Some, rows);
        }
        let stamp = intake.stamp;
        let mut ahead = 0;
        for unset in [false, true] {
            let time_of = |time| match stamp.since_boot(time) {
                Some(since) => unset.then_some(since),
                None => (!unset).then_some(time),
            };
            // A series whose readings are all of the other kind is not entered for this one.
            let mut used = vec![false; intake.series.len()];
            for (index, time) in intake.index.iter().zip(&intake.times) {
                if let Some(used) = used.get_mut(*index as usize) {
                    *used |= time_of(*time).is_some();
                }
            }
            self.resolve(intake, unset, |at| used[at]);
            ahead += self.take(intake, limit, unset, time_of, rows);
        }
        ahead
    }

    /// Takes the samples that `time_of` has a time for.
    #[inline]
    fn take(
        &mut self,
        intake: &Intake,
        limit: i64,
        unset: bool,
        time_of: impl Fn(i64) -> Option<i64>,
        rows: &mut Rows,
    ) -> u64 {
        let (mut ahead, mut damaged, mut dropped, mut reduced, mut derived) = (0, 0, 0, 0, 0);
        let (out, mark) = rows_of(rows, unset.then(|| self.clock.boot()));
        let before = out.windows.len();
        let columns = intake.index.iter().zip(&intake.times).zip(&intake.values);
        for (at, ((index, &time), &value)) in columns.enumerate() {
            let Some(time) = time_of(time) else { continue };
            if time > limit {
                ahead += 1;
                continue;
            }
            let number = self.resolved.get(*index as usize).copied().unwrap_or(UNKNOWN);
            let Some(series) = self.series.get_mut(number as usize) else {
                damaged += 1;
                continue;
            };
            let device = &mut self.devices[series.device as usize];
            if device.touched != self.record {
                device.touched = self.record;
                self.touched.push(series.device);
            }
            device.newest = device.newest.max(time);
            if series.scored {
                self.scorer.observe(number, time, value);
            }
            match series.to {
                // One value that isn't a number would spoil its whole window: it is shipped by itself.
                To::Window if value.is_finite() => {
                    reduced += 1;
                    let leaving = &mut (&mut out.windows, &mut self.left);
                    let late = add(series, device, time, value, leaving, &mut derived);
                    if let Some(traced) = intake.trace {
                        mark_window(series, time, traced);
                    }
                    self.totals.late_samples += u64::from(late);
                }
                To::Drop => dropped += 1,
                _ => {
                    let flags = intake.flags.get(at).copied().unwrap_or(0);
                    out.push_sample(series.at, time, value, flags | mark);
                }
            }
        }
        self.held = self.held.saturating_add(reduced).saturating_sub(readings(&out.windows[before..]));
        // They are what a batch would have shipped.
        rows.count(Cause::Shipped, damaged);
        rows.count(Cause::Damaged, damaged);
        rows.count(Cause::Derived, derived);
        rows.count(Cause::ReducedDrop, dropped);
        rows.count(Cause::ReducedWindow, reduced);
        ahead
    }

    /// Looks up the intake's series once, so that a sample costs an index only.
    fn resolve(&mut self, intake: &Intake, unset: bool, used: impl Fn(usize) -> bool) {
        let mut resolved = std::mem::take(&mut self.resolved);
        resolved.clear();
        resolved.extend(intake.series.iter().enumerate().map(|(at, series)| match used(at) {
            true => self.number(intake.input, unset, *series).unwrap_or(UNKNOWN),
            false => UNKNOWN,
        }));
        self.resolved = resolved;
    }

    /// The fold's number of a series of an input; entered at its first use.
    fn number(&mut self, input: u16, unset: bool, at: SeriesRef) -> Option<u32> {
        let numbers = self.numbers.entry((input, unset)).or_default();
        match numbers.get(at.index()) {
            Some(number) if *number != UNKNOWN => return Some(*number),
            _ => {}
        }
        let def = self.table.get(at)?;
        Some(self.enter(input, unset, at, def))
    }
}

/// Where windows that have to make room go, and what they note.
type Leaving<'a> = (&'a mut Vec<WindowRow>, &'a mut Left);

/// Readings that leave as they came.
fn unreduced(rows: &Rows) -> usize {
    let unset: usize = rows.unset.iter().map(|(_, rows)| unreduced(rows)).sum();
    rows.series.len() + rows.events.len() + unset
}

/// A sampled record's trace goes on with the window that its reading is in.
#[cold]
fn mark_window(series: &mut Series, time: i64, traced: Traced) {
    let window = series.open.iter_mut().rev().find(|window| (window.start..window.end).contains(&time));
    if let Some(window) = window {
        window.trace = Some(Box::new(traced));
    }
}

/// Adds a sample to its window. True when that window had been closed before: it was late. Windows that
/// have to make room go to `leaving`, counted as derived.
#[inline]
fn add(
    series: &mut Series,
    device: &mut Device,
    time: i64,
    value: f64,
    leaving: &mut Leaving<'_>,
    derived: &mut u64,
) -> bool {
    if let Some(window) = series.open.last_mut()
        && window.start <= time
        && time < window.end
    {
        window.add(time, value);
        return window.late;
    }
    add_elsewhere(series, device, time, value, leaving, derived)
}

#[cold]
fn add_elsewhere(
    series: &mut Series,
    device: &mut Device,
    time: i64,
    value: f64,
    leaving: &mut Leaving<'_>,
    derived: &mut u64,
) -> bool {
    let (start, end) = window::bounds(time, series.length);
    let mut at = series.open.partition_point(|window| window.start < start);
    if series.open.get(at).is_none_or(|window| window.start != start) {
        if series.open.len() >= MAX_OPEN {
            let crowd = series.open.len();
            let (rows, left) = leaving;
            rows.extend(series.open.drain(..).map(|window| window.leave(series.at, left)));
            *derived += crowd as u64;
            device.open = device.open.saturating_sub(crowd);
            at = 0;
        }
        let late = end <= device.watermark;
        series.open.insert(at, OpenWindow::new(start, end, late));
        device.opened(end, late);
    }
    let window = &mut series.open[at];
    window.add(time, value);
    window.late
}
