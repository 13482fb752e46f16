//! What the ticks say of the host's clock, and what becomes of readings that came before it was set.
//!
//! Such readings are folded by time since boot, each (input, device) apart from its twin with real times: two
//! watermarks, two sets of windows, two states of scoring. What they make leaves as rows of that boot. When the clock is
//! set their open windows leave as partials; when another boot begins they start anew with it.

use telemetry::{Attribute, Boot, Cause, DeviceClock, Event, Rows, SampleFlags, Severity, Stamp};

use crate::fold::Fold;
use crate::status::ClockStep;
use crate::window::OpenWindow;

/// A wall clock that moved by more than this against the monotonic one was set, not slewed.
const STEP: u64 = 5_000_000_000;
/// The source of events about the clock.
const SOURCE: &str = "telemetryx-agent";

/// As of the newest tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Clock {
    pub boot: Option<Boot>,
    pub synced: bool,
    /// Both clocks at that tick; `None` before the first.
    pub last: Option<Stamp>,
    /// How often the clock was seen to be set.
    pub steps: u64,
    pub step: Option<ClockStep>,
}

impl Clock {
    /// The boot that readings without a real time belong to now.
    pub(crate) fn boot(&self) -> Boot {
        self.boot.unwrap_or_default()
    }

    /// By how much the wall clock was set since the tick before, in the same boot.
    fn moved(&self, now: &DeviceClock) -> Option<i64> {
        let last = self.last.filter(|_| self.boot == Some(now.boot))?;
        let wall = i128::from(now.at.wall) - i128::from(last.wall);
        let mono = i128::from(now.at.mono) - i128::from(last.mono);
        let by = i64::try_from(wall - mono).unwrap_or(if wall < mono { i64::MIN } else { i64::MAX });
        (by.unsigned_abs() > STEP).then_some(by)
    }
}

impl Fold {
    /// A tick's word on the clock, before time passes by it.
    pub(crate) fn clock(&mut self, now: &DeviceClock, rows: &mut Rows) {
        if let Some(by) = self.clock.moved(now) {
            self.clock.steps += 1;
            self.clock.step = Some(ClockStep { at_ns: now.at.wall, by_ns: by });
            let event = step_event(now.at, by);
            rows.count(Cause::Derived, 1);
            match now.at.since_boot(event.time) {
                Some(time) => rows.since(now.boot).events.push(Event { time, ..event }),
                None => rows.events.push(event),
            }
        }
        let other = self.clock.boot.is_some_and(|boot| boot != now.boot);
        if other || now.synced {
            self.close_unset(rows);
        }
        if other {
            self.begin_boot(now.at.mono);
        }
        self.clock = Clock {
            boot: Some(now.boot),
            synced: now.synced,
            last: Some(now.at),
            steps: self.clock.steps,
            step: self.clock.step,
        };
    }

    /// Another boot: its monotonic clock says nothing about arrivals before it, and time since boot begins again.
    fn begin_boot(&mut self, mono: u64) {
        for (number, device) in self.devices.iter_mut().enumerate() {
            device.arrival = mono;
            if device.unset {
                (device.newest, device.watermark) = (i64::MIN, i64::MIN);
                self.scorer.restart(number as u32);
            }
        }
    }

    /// Lets go of the open windows by time since boot, as partials.
    fn close_unset(&mut self, rows: &mut Rows) {
        let boot = self.clock.boot();
        for number in 0..self.devices.len() {
            let device = &mut self.devices[number];
            if !device.unset || device.open == 0 {
                continue;
            }
            device.reset_open();
            for at in 0..device.series.len() {
                let series = &mut self.series[device.series[at] as usize];
                rows.count(Cause::Derived, series.open.len() as u64);
                let readings: u64 = series.open.iter().map(OpenWindow::count).sum();
                self.held = self.held.saturating_sub(readings);
                let partials = series.open.drain(..).map(|window| window.leave(series.at, &mut self.left));
                rows.since(boot).windows.extend(partials);
            }
        }
    }
}

/// Where a device's rows go, and the marks of its samples.
pub(crate) fn rows_of(rows: &mut Rows, unset: Option<Boot>) -> (&mut Rows, u8) {
    match unset {
        Some(boot) => (rows.since(boot), SampleFlags::CLOCK_UNCERTAIN),
        None => (rows, 0),
    }
}

fn step_event(at: Stamp, by: i64) -> Event {
    let seconds = by as f64 / 1e9;
    Event {
        source: SOURCE.to_owned(),
        time: at.wall,
        severity: Severity::Warn,
        body: format!("the clock of this host was set by {seconds:+.3} s"),
        attributes: vec![("by_ns".to_owned(), Attribute::Int(by))],
    }
}
