//! The fold itself: which record does what. The hot path is in `intake.rs`, the bytes of a
//! checkpoint in `checkpoint.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use telemetry::series::{DEVICE, SITE};
use telemetry::{
    Cause, DeviceClock, Position, Record, Rows, SeriesDef, SeriesKey, SeriesRef, SeriesTable, WindowRow,
};

use crate::clock::{Clock, rows_of};
use crate::device::{Device, ScoreSeries};
use crate::series::Series;
use crate::window::{Left, OpenWindow};
use crate::{FoldConfig, FoldStatus, ModelStatus, Score, Scorer};

/// The series that scores are shipped as.
pub const SCORE: &str = "telemetryx.anomaly.score";
/// Most model slots.
pub const MAX_SLOTS: usize = 64;
/// This many windows may be open at once, or twice the number of series; then all leave as partials.
const MAX_OPEN_WINDOWS: usize = 65_536;

/// The pure step from records to rows.
pub struct Fold {
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) scorer: Box<dyn Scorer>,
    pub(crate) config: FoldConfig,
    pub(crate) totals: Totals,
    pub(crate) clock: Clock,
    /// Readings in open windows. Recomputed, not checkpointed.
    pub(crate) held: u64,
    /// So many windows may open before they have to be counted: a record costs no walk over all devices. Recomputed.
    room: usize,
    /// Fingerprint of the configuration. Recomputed, not checkpointed.
    pub(crate) routes: u64,
    pub(crate) left: Left,
    /// By the fold's own numbers, which are given in order of first use.
    pub(crate) devices: Vec<Device>,
    pub(crate) series: Vec<Series>,
    pub(crate) models: Vec<Model>,
    /// By input and kind of time, then by this process's series number: the fold's number. Looked up, never iterated.
    pub(crate) numbers: BTreeMap<(u16, bool), Vec<u32>>,
    pub(crate) device_numbers: BTreeMap<(u16, bool, Box<str>, Box<str>), u32>,
    // Emptied after each record; kept for their allocations.
    pub(crate) record: u64,
    pub(crate) resolved: Vec<u32>,
    pub(crate) touched: Vec<u32>,
    scores: Vec<Score>,
}

/// Counters and words of the status that survive a restart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub position: Position,
    pub generation: u64,
    pub configs_refused: u64,
    pub config_error: Option<String>,
    pub late_samples: u64,
    pub rejected_time: u64,
    pub scores: u64,
}

/// A slot: the bytes are kept because a checkpoint must stand without the journal before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub status: ModelStatus,
    pub bytes: Option<(Vec<u8>, Vec<u8>)>,
}

impl Fold {
    /// A fold that has seen nothing.
    pub fn new(table: Arc<SeriesTable>, scorer: Box<dyn Scorer>) -> Self {
        Self {
            table,
            scorer,
            config: FoldConfig::default(),
            totals: Totals::default(),
            clock: Clock::default(),
            held: 0,
            room: 0,
            routes: FoldConfig::default().fingerprint(),
            left: Left::default(),
            devices: Vec::new(),
            series: Vec::new(),
            models: Vec::new(),
            numbers: BTreeMap::new(),
            device_numbers: BTreeMap::new(),
            record: 0,
            resolved: Vec::new(),
            touched: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// The last record applied; 0 before the first.
    pub fn position(&self) -> Position {
        self.totals.position
    }

    /// Applies one record; what comes of it is appended to `rows`. A record at or below
    /// [`Fold::position`] was applied before and changes nothing.
    pub fn apply(&mut self, position: Position, record: &Record, rows: &mut Rows) {
        if position <= self.totals.position {
            return;
        }
        self.totals.position = position;
        match record {
            Record::Intake(intake) => self.intake(intake, rows),
            Record::Tick(clock) => self.tick(clock, rows),
            Record::Config { generation, config, .. } => self.configure(*generation, config, rows),
            Record::Model { slot, model, .. } => self.model(slot, model.as_ref()),
        }
        // A sample opens one window at most.
        self.room =
            self.room.saturating_sub(if let Record::Intake(intake) = record { intake.len() } else { 0 });
        if self.room == 0 {
            self.bound(rows);
        }
        rows.unset.retain(|(_, rows)| !rows.is_empty());
        rows.open = self.open();
        for traced in self.left.traces.drain(..) {
            telemetry::trace::note(&mut rows.traces, traced);
        }
    }

    /// When, by the monotonic clock, the next tick has something to do; `None` while nothing waits for
    /// time to pass. A tick before that is a record that changes no row.
    pub fn tick_due(&self) -> Option<u64> {
        let (lateness, longest) = (self.config.lateness.nanos(), self.config.longest_window());
        let step = self.scorer.step();
        self.devices.iter().filter_map(|device| device.due(lateness, longest, step)).min()
    }

    /// What the fold says of itself.
    pub fn status(&self) -> FoldStatus {
        FoldStatus {
            position: self.totals.position,
            generation: self.totals.generation,
            configs_refused: self.totals.configs_refused,
            config_error: self.totals.config_error.clone(),
            devices: self.devices.len(),
            series: self.series.len(),
            open_windows: self.open_windows(),
            late_samples: self.totals.late_samples,
            rejected_time: self.totals.rejected_time,
            scores: self.totals.scores,
            clock_steps: self.clock.steps,
            clock_step: self.clock.step,
            models: self.models.iter().map(|model| model.status.clone()).collect(),
        }
    }

    fn tick(&mut self, clock: &DeviceClock, rows: &mut Rows) {
        self.clock(clock, rows);
        let (lateness, longest) = (self.config.lateness.nanos(), self.config.longest_window());
        for number in 0..self.devices.len() as u32 {
            let device = &mut self.devices[number as usize];
            let moved = device.passed(clock.at.mono, lateness, longest);
            self.close_due(number, true, rows);
            if moved {
                self.score(number, rows);
            }
        }
    }

    fn configure(&mut self, generation: u64, json: &[u8], rows: &mut Rows) {
        match FoldConfig::from_json(json) {
            Ok(config) => {
                self.totals.generation = generation;
                self.totals.config_error = None;
                // The same again (each start writes one) must not cut windows short.
                if config != self.config {
                    self.close_all(rows);
                    self.config = config;
                    self.routes = self.config.fingerprint();
                    self.series.iter_mut().for_each(|series| series.reroute(&self.config));
                    self.routes_changed();
                }
            }
            Err(error) => {
                self.totals.configs_refused += 1;
                self.totals.config_error = Some(error.to_string());
            }
        }
    }

    fn model(&mut self, slot: &str, model: Option<&(Vec<u8>, Vec<u8>)>) {
        let at = match self.models.iter().position(|known| known.status.slot == slot) {
            Some(at) => at,
            // Nothing to switch off, or no room: neither may grow the state.
            None if model.is_none() || self.models.len() >= MAX_SLOTS => return,
            None => {
                let status = ModelStatus { slot: slot.to_owned(), ..ModelStatus::default() };
                self.models.push(Model { status, bytes: None });
                self.models.len() - 1
            }
        };
        let parts = model.map(|(manifest, onnx)| (manifest.as_slice(), onnx.as_slice()));
        let known = &mut self.models[at];
        match self.scorer.set_model(slot, parts) {
            Ok(now) => {
                known.bytes = model.cloned();
                known.status.model = now;
                known.status.error = None;
            }
            Err(error) => known.status.error = Some(error.to_string()),
        }
    }

    /// Enters a series, and its device with it.
    pub(crate) fn enter(&mut self, input: u16, unset: bool, at: SeriesRef, def: Arc<SeriesDef>) -> u32 {
        let device = self.device(input, unset, def.key.site(), def.key.device());
        self.enter_for(device, at, def)
    }

    pub(crate) fn enter_for(&mut self, device: u32, at: SeriesRef, def: Arc<SeriesDef>) -> u32 {
        let number = self.series.len() as u32;
        let mut series = Series::new(at, device, def, &self.config);
        let scored = self.scorer.admit(number, device, &series.def);
        series.scored = scored;
        self.series.push(series);
        let owner = &mut self.devices[device as usize];
        owner.series.push(number);
        owner.scored |= scored;
        let numbers = self.numbers.entry((owner.input, owner.unset)).or_default();
        if numbers.len() <= at.index() {
            numbers.resize(at.index() + 1, u32::MAX);
        }
        numbers[at.index()] = number;
        number
    }

    pub(crate) fn device(&mut self, input: u16, unset: bool, site: &str, name: &str) -> u32 {
        let next = self.devices.len() as u32;
        let number = *self.device_numbers.entry((input, unset, site.into(), name.into())).or_insert(next);
        if number == next {
            self.devices.push(Device::new(input, unset, site, name));
        }
        number
    }

    fn open_windows(&self) -> usize {
        self.devices.iter().map(|device| device.open).sum()
    }

    /// Lets go of a device's windows whose end the watermark has passed. Late windows wait for a tick,
    /// so that a device which sends from the past reading by reading doesn't get a row for each.
    pub(crate) fn close_due(&mut self, device: u32, late_too: bool, rows: &mut Rows) {
        let device = &mut self.devices[device as usize];
        let watermark = device.watermark;
        if watermark < device.next_end && !(late_too && device.has_late) {
            return;
        }
        device.reset_open();
        let (out, _) = rows_of(rows, device.unset.then(|| self.clock.boot()));
        let before = out.windows.len();
        for at in 0..device.series.len() {
            let series = &mut self.series[device.series[at] as usize];
            let due = |window: &mut OpenWindow| window.end <= watermark && (late_too || !window.late);
            let left = series.open.extract_if(.., due);
            out.windows.extend(left.map(|window| window.leave(series.at, &mut self.left)));
            series.open.iter().for_each(|window| device.opened(window.end, window.late));
        }
        let left = &out.windows[before..];
        let (closed, readings) = (left.len(), readings(left));
        self.held = self.held.saturating_sub(readings);
        rows.count(Cause::Derived, closed as u64);
    }

    /// Lets go of all open windows where they are too many.
    fn bound(&mut self, rows: &mut Rows) {
        let most = MAX_OPEN_WINDOWS.max(2 * self.series.len());
        if self.open_windows() > most {
            self.close_all(rows);
        }
        self.room = most.saturating_sub(self.open_windows());
    }

    /// Lets go of every open window, as a partial where more is to come.
    fn close_all(&mut self, rows: &mut Rows) {
        for device in &mut self.devices {
            device.reset_open();
        }
        for series in self.series.iter_mut().filter(|series| !series.open.is_empty()) {
            rows.count(Cause::Derived, series.open.len() as u64);
            let unset = self.devices[series.device as usize].unset.then(|| self.clock.boot());
            let (out, _) = rows_of(rows, unset);
            let left = series.open.drain(..);
            out.windows.extend(left.map(|window| window.leave(series.at, &mut self.left)));
        }
        self.held = 0;
    }

    /// Asks for the scores that a device's watermark has made due, and ships them as samples.
    pub(crate) fn score(&mut self, device: u32, rows: &mut Rows) {
        let Device { watermark, unset, .. } = self.devices[device as usize];
        let unset = unset.then(|| self.clock.boot());
        let mut scores = std::mem::take(&mut self.scores);
        self.scorer.advance(device, watermark, &mut scores);
        for score in &scores {
            let Some(at) = self.score_series(score) else { continue };
            let (out, flags) = rows_of(rows, unset);
            out.push_sample(at, score.time, score.value, flags);
            rows.count(Cause::Derived, 1);
            self.totals.scores += 1;
        }
        scores.clear();
        self.scores = scores;
    }

    fn score_series(&mut self, score: &Score) -> Option<SeriesRef> {
        let device = self.devices.get_mut(score.device as usize)?;
        let known = |known: &&ScoreSeries| known.model == score.model && known.version == score.version;
        if let Some(known) = device.scores.iter().find(known) {
            return Some(known.at);
        }
        let labels = [
            (SITE, &*device.site),
            (DEVICE, &*device.name),
            ("model", &*score.model),
            ("model_version", &*score.version),
        ];
        let key = SeriesKey::new(SCORE, labels).ok()?;
        let at = self.table.restore(SeriesDef { key, unit: "1".into() });
        // A version that was replaced gives no more scores: only the newest few are worth a place.
        if device.scores.len() >= MAX_SLOTS {
            device.scores.remove(0);
        }
        let (model, version) = (Arc::clone(&score.model), Arc::clone(&score.version));
        device.scores.push(ScoreSeries { model, version, at });
        Some(at)
    }
}

/// How many readings windows were made of.
pub(crate) fn readings(windows: &[WindowRow]) -> u64 {
    windows.iter().map(|row| row.count).sum()
}
