//! The hot path: one intake's samples and events, each to where its route says.

use telemetry::{Cause, Intake, Rows, SeriesRef};

use crate::fold::Fold;
use crate::series::{MAX_OPEN, Series};
use crate::window::{self, OpenWindow};
use crate::{To, device::Device};

/// Before this a clock was never set (2023-11-14): no reading is then refused for being ahead of it.
const PLAUSIBLE: i64 = 1_700_000_000_000_000_000;

/// A series number of the intake that can't be used: no definition, or out of range.
const UNKNOWN: u32 = u32::MAX;

impl Fold {
    pub(crate) fn intake(&mut self, intake: &Intake, rows: &mut Rows) {
        rows.counts.merge(&intake.counts);
        let limit = match self.synced || intake.stamp.wall >= PLAUSIBLE {
            true => intake.stamp.wall.saturating_add(self.config.future_limit.nanos()),
            false => i64::MAX,
        };
        let mut ahead = self.events(intake, limit, rows);
        ahead += self.samples(intake, limit, rows);
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
            } else {
                rows.events.push(event.clone());
            }
        }
        ahead
    }

    fn samples(&mut self, intake: &Intake, limit: i64, rows: &mut Rows) -> u64 {
        self.record += 1;
        self.resolve(intake);
        let (mut ahead, mut damaged, mut dropped, mut reduced) = (0, 0, 0, 0);
        let columns = intake.index.iter().zip(&intake.times).zip(&intake.values);
        for (at, ((index, &time), &value)) in columns.enumerate() {
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
                    self.totals.late_samples += u64::from(add(series, device, time, value, rows));
                }
                To::Drop => dropped += 1,
                _ => {
                    let flags = intake.flags.get(at).copied().unwrap_or(0);
                    rows.push_sample(series.at, time, value, flags);
                }
            }
        }
        rows.count(Cause::Damaged, damaged);
        rows.count(Cause::ReducedDrop, dropped);
        rows.count(Cause::ReducedWindow, reduced);
        ahead
    }

    /// Looks up the intake's series once, so that a sample costs an index only.
    fn resolve(&mut self, intake: &Intake) {
        let mut resolved = std::mem::take(&mut self.resolved);
        resolved.clear();
        resolved.extend(intake.series.iter().map(|at| self.number(intake.input, *at).unwrap_or(UNKNOWN)));
        self.resolved = resolved;
    }

    /// The fold's number of a series of an input; entered at its first use.
    fn number(&mut self, input: u16, at: SeriesRef) -> Option<u32> {
        let numbers = self.numbers.entry(input).or_default();
        match numbers.get(at.index()) {
            Some(number) if *number != UNKNOWN => return Some(*number),
            _ => {}
        }
        let def = self.table.get(at)?;
        Some(self.enter(input, at, def))
    }
}

/// Adds a sample to its window. True when that window had been closed before: it was late.
#[inline]
fn add(series: &mut Series, device: &mut Device, time: i64, value: f64, rows: &mut Rows) -> bool {
    if let Some(window) = series.open.last_mut()
        && window.start <= time
        && time < window.end
    {
        window.add(time, value);
        return window.late;
    }
    add_elsewhere(series, device, time, value, rows)
}

#[cold]
fn add_elsewhere(series: &mut Series, device: &mut Device, time: i64, value: f64, rows: &mut Rows) -> bool {
    let (start, end) = window::bounds(time, series.length);
    let mut at = series.open.partition_point(|window| window.start < start);
    if series.open.get(at).is_none_or(|window| window.start != start) {
        if series.open.len() >= MAX_OPEN {
            let leaving = series.open.len();
            let partials = series.open.drain(..).map(|window| window.into_row(series.at));
            rows.windows.extend(partials);
            rows.count(Cause::Derived, leaving as u64);
            device.open = device.open.saturating_sub(leaving);
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
