//! The one definition of features: what a model sees of a host, every ten seconds of event time.
//!
//! Set `host/1`: eight numbers per device and cell of the grid, from the host metrics of OpenTelemetry's
//! semantic conventions. Each is compared with what is usual *for that device* (slowly adapting mean and
//! spread), so that one small model fits a Raspberry Pi and a build server. What leaves here is the
//! mean of the last three cells' deviations: one spike doesn't make an anomaly, half a minute does.
//!
//! ```text
//! samples ─▶ channel (which feature?) ─▶ cell (10 s: mean of a gauge, rate of a counter)
//!         ─▶ transform ─▶ deviation from the device's normal ─▶ mean of three ─▶ vector of f32
//! ```
//! Sums within a cell are whole numbers, so a vector doesn't depend on the order in which the
//! samples of a cell came: the collector gets bit-equal features from what it stored.

mod cell;
mod channel;
mod normal;

use fold::RestoreError;
use fold::bytes::Reader;
use serde::{Deserialize, Serialize};
use telemetry::SeriesDef;

use cell::Cell;
use channel::{Channel, Kind};
use normal::Normal;

/// Name and version of the set. A change of anything in it is a new version.
pub const FEATURE_SET: &str = "host/1";
/// How many there are.
pub const COUNT: usize = 8;
/// Their names, in the order of a vector.
pub const NAMES: [&str; COUNT] = [
    "cpu_busy",
    "cpu_wait",
    "load",
    "memory_used",
    "disk_read",
    "disk_written",
    "network_received",
    "network_sent",
];
/// Nanoseconds of one cell.
pub const GRID: i64 = 10_000_000_000;

/// Most cells of a device that are open at once: more than an hour that arrived in one piece.
const MAX_OPEN: usize = 512;
/// Fewest features that must be there for a vector to say something.
const MIN_PRESENT: usize = 3;
/// A counter without a sample for this long starts anew.
const MAX_STEP: i64 = 300_000_000_000;

/// How features are scaled; part of a model's manifest, because a model fits one scaling only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Cells that the normal looks back on.
    pub memory_cells: u32,
    /// Cells of a device before its first score.
    pub warm_up_cells: u32,
    /// The spread is widened by 1 + this / cells seen, while little is known.
    pub settle_cells: u32,
    /// Cells whose deviations are averaged.
    pub smoothing_cells: u32,
    /// Deviations beyond this, in spreads, count as this.
    pub clip: f64,
    /// For each feature the least spread: what is never worth an alarm.
    pub floors: [f64; COUNT],
}

impl Scaling {
    /// That of `host/1`. Utilisations count from 0 to 1, load and rates as logarithms.
    pub const HOST: Self = Self {
        memory_cells: 360,
        warm_up_cells: 18,
        settle_cells: 8,
        smoothing_cells: 3,
        clip: 10.0,
        floors: [0.04, 0.03, 0.2, 0.02, 0.7, 0.7, 0.7, 0.7],
    };
}

/// The features of one device for one cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vector {
    /// The end of the cell, nanoseconds since the epoch.
    pub time: i64,
    /// Deviations from the device's normal, in its spreads.
    pub values: [f32; COUNT],
    /// False while the device is too new, or too little is known of the cell.
    pub ready: bool,
}

#[derive(Clone, Debug)]
struct Series {
    device: u32,
    channel: Channel,
    /// Of a counter: time and value of the newest sample, and the cell that its increase last went into.
    time: i64,
    value: f64,
    cell: i64,
}

#[derive(Clone, Debug, Default)]
struct Device {
    /// Ascending by index.
    open: Vec<Cell>,
    /// The newest cell that was closed.
    closed: Option<i64>,
    /// Cells closed so far.
    cells: u32,
    normals: [Normal; COUNT],
    /// Cells that each feature was present in.
    present: [u32; COUNT],
    /// Closed before their time because too many were open.
    early: Vec<Vector>,
}

/// The features of all devices. Deterministic: the same calls give the same bits.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// The fold's series number to a place in `series`.
    places: Vec<u32>,
    series: Vec<Series>,
    devices: Vec<Option<Box<Device>>>,
}

const NONE: u32 = u32::MAX;
/// The time of a counter without a sample. A sample of that very time is as if it hadn't come.
const NEVER: i64 = i64::MIN;

impl Features {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up a series if it feeds a feature; true if so.
    pub fn admit(&mut self, series: u32, device: u32, def: &SeriesDef) -> bool {
        let Some(channel) = channel::recognise(&def.key) else { return false };
        let at = series as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, NONE);
        }
        self.places[at] = self.series.len() as u32;
        let unseen = Series { device, channel, time: NEVER, value: 0.0, cell: i64::MIN };
        // In steps of an eighth, not by doubling: this is the bulk of the state.
        if self.series.len() == self.series.capacity() {
            self.series.reserve_exact(8 + self.series.len() / 8);
        }
        self.series.push(unseen);
        let at = device as usize;
        if self.devices.len() <= at {
            self.devices.resize_with(at + 1, || None);
        }
        self.devices[at].get_or_insert_default();
        true
    }

    /// One sample of an admitted series. What comes for a closed cell, or isn't finite, is passed over.
    pub fn observe(&mut self, series: u32, time: i64, value: f64) {
        let place = self.places.get(series as usize).copied().unwrap_or(NONE);
        let Some(series) = self.series.get_mut(place as usize) else { return };
        let Some(device) = self.devices.get_mut(series.device as usize).and_then(Option::as_mut) else {
            return;
        };
        let index = time.div_euclid(GRID);
        if !value.is_finite() || device.closed.is_some_and(|closed| index <= closed) {
            return;
        }
        let feature = usize::from(series.channel.feature);
        match series.channel.kind {
            Kind::Gauge | Kind::Complement => {
                let value = if series.channel.kind == Kind::Gauge { value } else { 1.0 - value };
                if let Some(cell) = device.cell(index) {
                    cell.gauge(feature, value);
                }
            }
            Kind::Counter => {
                let (before, last) = (series.time, series.value);
                if time <= before {
                    return;
                }
                (series.time, series.value) = (time, value);
                let step = time.saturating_sub(before);
                // A counter that fell was reset: what it counted before is unknown.
                if before != NEVER && step <= MAX_STEP && value >= last {
                    let first = std::mem::replace(&mut series.cell, index) != index;
                    if let Some(cell) = device.cell(index) {
                        cell.counter(feature, value - last, step, first);
                    }
                }
            }
        }
    }

    /// Closes the device's cells that the watermark has passed and hands over their vectors.
    pub fn advance(&mut self, device: u32, watermark: i64, mut each: impl FnMut(Vector)) {
        let Some(device) = self.devices.get_mut(device as usize).and_then(Option::as_mut) else { return };
        device.early.drain(..).for_each(&mut each);
        while device.open.first().is_some_and(|cell| cell.end() <= watermark) {
            each(device.close_first());
        }
    }

    /// The device's times begin again at a lower one. Its normals stay.
    pub fn restart(&mut self, device: u32) {
        for series in self.series.iter_mut().filter(|series| series.device == device) {
            (series.time, series.cell) = (NEVER, i64::MIN);
        }
        if let Some(device) = self.devices.get_mut(device as usize).and_then(Option::as_mut) {
            device.open.clear();
            device.early.clear();
            device.closed = None;
        }
    }

    /// Devices that have features.
    pub fn devices(&self) -> usize {
        self.devices.iter().flatten().count()
    }

    /// Series that feed features.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Bytes that the state takes.
    pub fn bytes(&self) -> usize {
        let devices = self.devices.iter().flatten();
        let open: usize = devices.clone().map(|device| device.open.capacity() * size_of::<Cell>()).sum();
        self.places.capacity() * 4
            + self.series.capacity() * size_of::<Series>()
            + self.devices.capacity() * 8
            + devices.count() * size_of::<Device>()
            + open
    }

    /// Appends the state as deterministic bytes.
    pub fn checkpoint(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.series.len() as u32).to_le_bytes());
        for series in &self.series {
            out.extend_from_slice(&series.time.to_le_bytes());
            out.extend_from_slice(&series.value.to_le_bytes());
            out.extend_from_slice(&series.cell.to_le_bytes());
        }
        out.extend_from_slice(&(self.devices.iter().flatten().count() as u32).to_le_bytes());
        for device in self.devices.iter().flatten() {
            device.encode(out);
        }
    }

    /// Takes the state back, after the same series were admitted again.
    ///
    /// # Errors
    /// [`RestoreError`] when the bytes don't fit; the state is then as before.
    pub fn restore(&mut self, reader: &mut Reader<'_>) -> Result<(), RestoreError> {
        const OTHER: RestoreError = RestoreError::Damaged("it has features of other series or devices");
        let mut restored = self.clone();
        if reader.count(24)? != restored.series.len() {
            return Err(OTHER);
        }
        for series in &mut restored.series {
            (series.time, series.value, series.cell) = (reader.i64()?, reader.f64()?, reader.i64()?);
        }
        if reader.u32()? as usize != restored.devices.iter().flatten().count() {
            return Err(OTHER);
        }
        for device in restored.devices.iter_mut().flatten() {
            **device = Device::decode(reader)?;
        }
        *self = restored;
        Ok(())
    }
}

impl Device {
    /// The cell of this index, opened where needed. `None` of one that is older than all of the most
    /// that may be open.
    fn cell(&mut self, index: i64) -> Option<&mut Cell> {
        let mut at = self.open.partition_point(|cell| cell.index < index);
        if self.open.get(at).is_none_or(|cell| cell.index != index) {
            if self.open.len() >= MAX_OPEN {
                if at == 0 {
                    return None;
                }
                let vector = self.close_first();
                self.early.push(vector);
                at -= 1;
            }
            // Two or three are open as a rule: no room for more.
            self.open.reserve_exact(1);
            self.open.insert(at, Cell::new(index));
        }
        self.open.get_mut(at)
    }

    fn close_first(&mut self) -> Vector {
        let cell = self.open.remove(0);
        let gap = self.closed.map_or(1, |closed| cell.index.saturating_sub(closed));
        self.closed = Some(cell.index);
        self.cells = self.cells.saturating_add(1);
        let mut values = [0.0; COUNT];
        let mut present = 0;
        for (feature, normal) in self.normals.iter_mut().enumerate() {
            let value = cell.value(feature).map(|value| channel::transform(feature, value));
            present += usize::from(value.is_some());
            values[feature] = normal.deviation(feature, value, gap, &mut self.present[feature]);
        }
        let ready = self.cells > Scaling::HOST.warm_up_cells && present >= MIN_PRESENT;
        Vector { time: cell.end(), values, ready }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.closed.is_some()));
        out.extend_from_slice(&self.closed.unwrap_or_default().to_le_bytes());
        out.extend_from_slice(&self.cells.to_le_bytes());
        self.normals.iter().for_each(|normal| normal.encode(out));
        self.present.iter().for_each(|cells| out.extend_from_slice(&cells.to_le_bytes()));
        out.extend_from_slice(&(self.open.len() as u32).to_le_bytes());
        self.open.iter().for_each(|cell| cell.encode(out));
        out.extend_from_slice(&(self.early.len() as u32).to_le_bytes());
        for vector in &self.early {
            out.extend_from_slice(&vector.time.to_le_bytes());
            vector.values.iter().for_each(|value| out.extend_from_slice(&value.to_bits().to_le_bytes()));
            out.push(u8::from(vector.ready));
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let known = reader.flag()?;
        let closed = reader.i64()?;
        let mut device = Self { closed: known.then_some(closed), cells: reader.u32()?, ..Self::default() };
        for normal in &mut device.normals {
            *normal = Normal::decode(reader)?;
        }
        for cells in &mut device.present {
            *cells = reader.u32()?;
        }
        device.open =
            (0..reader.count(Cell::BYTES)?).map(|_| Cell::decode(reader)).collect::<Result<_, _>>()?;
        for _ in 0..reader.count(8 + 4 * COUNT + 1)? {
            let time = reader.i64()?;
            let mut values = [0.0; COUNT];
            for value in &mut values {
                *value = f32::from_bits(reader.u32()?);
            }
            device.early.push(Vector { time, values, ready: reader.flag()? });
        }
        if !device.open.is_sorted_by(|a, b| a.index < b.index) {
            return Err(RestoreError::Damaged("cells out of order"));
        }
        Ok(device)
    }
}
