//! Checkpoints: everything that later rows depend on, so that the journal before them can go.
//!
//! Bytes (little-endian; `n*` a u32 count, `text` and `blob` a u32 length and the bytes, `?x` a flag and x if it is 1):
//! ```text
//! checkpoint := version u8 (2, or 3 where a window has a trace), position u64, generation u64, configs refused u64, ?config error text,
//!               late u64, rejected u64, scores u64, ?boot 16, synced u8, config blob (JSON),
//!               ?last tick (wall i64, mono u64), clock steps u64, ?newest of them (to i64, by i64),
//!               devices n*(input u16, unset u8, site text, name text, newest i64, arrival u64, watermark i64),
//!               series n*(device u32, def, open n*(window, [?trace 32 bytes, in version 3])), models n*(slot text, ?(id text, version text),
//!               ?error text, ?(manifest blob, onnx blob)), scorer blob
//! ```
//! Devices and series stand in the order of their first use; no number of a process's table is in here.
//! The same state gives the same bytes. Version 1 lacked the line of the last tick, and `unset`. A trace is as in a journal's record.

use std::sync::Arc;

use telemetry::record::encode_def;
use telemetry::{SeriesRef, SeriesTable, Stamp};

use crate::bytes::{Reader, put_blob, put_maybe_text};
use crate::fold::{Model, Totals};
use crate::window::OpenWindow;
use crate::{ClockStep, Fold, FoldConfig, ModelStatus, Scorer};

const VERSION: u8 = 2;
/// Of one with sampled records in open windows: a build that doesn't know of traces reads all others.
const TRACED: u8 = 3;

/// Why bytes are not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Written by a build with another format.
    #[error("the checkpoint has format {0}; this build reads format {1}: replay the journal from its start")]
    Version(u8, u8),
    /// Damaged or cut short.
    #[error("the checkpoint is damaged ({0}): replay the journal from its start")]
    Damaged(&'static str),
}

impl Fold {
    /// Everything that later rows depend on, as deterministic bytes.
    pub fn checkpoint(&self) -> Vec<u8> {
        let traced = self.series.iter().flat_map(|series| &series.open).any(|window| window.trace.is_some());
        let mut out = vec![if traced { TRACED } else { VERSION }];
        self.put_totals(&mut out);
        out.extend_from_slice(&(self.devices.len() as u32).to_le_bytes());
        for device in &self.devices {
            out.extend_from_slice(&device.input.to_le_bytes());
            out.push(u8::from(device.unset));
            put_blob(&mut out, device.site.as_bytes());
            put_blob(&mut out, device.name.as_bytes());
            out.extend_from_slice(&device.newest.to_le_bytes());
            out.extend_from_slice(&device.arrival.to_le_bytes());
            out.extend_from_slice(&device.watermark.to_le_bytes());
        }
        out.extend_from_slice(&(self.series.len() as u32).to_le_bytes());
        for series in &self.series {
            out.extend_from_slice(&series.device.to_le_bytes());
            encode_def(&mut out, &series.def);
            out.extend_from_slice(&(series.open.len() as u32).to_le_bytes());
            for window in &series.open {
                window.encode(&mut out);
                if traced {
                    window.encode_trace(&mut out);
                }
            }
        }
        out.extend_from_slice(&(self.models.len() as u32).to_le_bytes());
        self.models.iter().for_each(|model| put_model(&mut out, model));
        let mut scorer = Vec::new();
        self.scorer.checkpoint(&mut scorer);
        put_blob(&mut out, &scorer);
        out
    }

    fn put_totals(&self, out: &mut Vec<u8>) {
        let totals = &self.totals;
        for number in [totals.position, totals.generation, totals.configs_refused] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        put_maybe_text(out, totals.config_error.as_deref());
        for number in [totals.late_samples, totals.rejected_time, totals.scores] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let clock = &self.clock;
        out.push(u8::from(clock.boot.is_some()));
        out.extend_from_slice(clock.boot.as_ref().map_or(&[], |boot| boot.as_slice()));
        out.push(u8::from(clock.synced));
        put_blob(out, &self.config.to_json());
        out.push(u8::from(clock.last.is_some()));
        if let Some(last) = clock.last {
            out.extend_from_slice(&last.wall.to_le_bytes());
            out.extend_from_slice(&last.mono.to_le_bytes());
        }
        out.extend_from_slice(&clock.steps.to_le_bytes());
        out.push(u8::from(clock.step.is_some()));
        if let Some(step) = clock.step {
            out.extend_from_slice(&step.at_ns.to_le_bytes());
            out.extend_from_slice(&step.by_ns.to_le_bytes());
        }
    }

    /// Goes on from a checkpoint. Its series are entered in the table again. A scorer that can't use
    /// its own part of it begins anew; the status of each model says so.
    ///
    /// # Errors
    /// [`RestoreError`] when the bytes aren't a checkpoint of this build.
    pub fn restore(
        table: Arc<SeriesTable>,
        scorer: Box<dyn Scorer>,
        bytes: &[u8],
    ) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if !(1..=TRACED).contains(&version) {
            return Err(RestoreError::Version(version, TRACED));
        }
        let mut fold = Fold::new(table, scorer);
        fold.take_totals(&mut reader, version)?;
        for _ in 0..reader.count(34)? {
            let input = reader.u16()?;
            let unset = version > 1 && reader.flag()?;
            let number = fold.device(input, unset, reader.text()?, reader.text()?);
            let device = &mut fold.devices[number as usize];
            (device.newest, device.arrival, device.watermark) = (reader.i64()?, reader.u64()?, reader.i64()?);
        }
        // Models go in after the series here but before them in life: the scorer takes either order.
        let series = (0..reader.count(20)?)
            .map(|_| Ok((reader.u32()?, reader.def()?, windows(&mut reader, version)?)))
            .collect::<Result<Vec<_>, RestoreError>>()?;
        for _ in 0..reader.count(8)? {
            let model = take_model(&mut reader)?;
            fold.models.push(model);
        }
        let scorer_state = reader.blob()?;
        reader.end()?;
        fold.set_models();
        for (device, def, open) in series {
            let at = fold.table.restore(def);
            fold.readmit(device, at, open)?;
        }
        if let Err(error) = fold.scorer.restore(scorer_state) {
            for model in &mut fold.models {
                model.status.error = Some(format!("scoring begins anew: {error}"));
            }
        }
        Ok(fold)
    }

    fn take_totals(&mut self, reader: &mut Reader<'_>, version: u8) -> Result<(), RestoreError> {
        self.totals = Totals {
            position: reader.u64()?,
            generation: reader.u64()?,
            configs_refused: reader.u64()?,
            config_error: reader.maybe_text()?,
            late_samples: reader.u64()?,
            rejected_time: reader.u64()?,
            scores: reader.u64()?,
        };
        self.clock.boot = if reader.flag()? { Some(reader.bytes16()?) } else { None };
        self.clock.synced = reader.flag()?;
        self.config = FoldConfig::from_json(reader.blob()?)
            .map_err(|_| RestoreError::Damaged("its configuration can't be read"))?;
        self.routes = self.config.fingerprint();
        if version > 1 {
            let clock = &mut self.clock;
            clock.last = match reader.flag()? {
                true => Some(Stamp { wall: reader.i64()?, mono: reader.u64()? }),
                false => None,
            };
            clock.steps = reader.u64()?;
            clock.step = match reader.flag()? {
                true => Some(ClockStep { at_ns: reader.i64()?, by_ns: reader.i64()? }),
                false => None,
            };
        }
        Ok(())
    }

    fn set_models(&mut self) {
        for model in &mut self.models {
            let Some((manifest, onnx)) = &model.bytes else { continue };
            if let Err(error) = self.scorer.set_model(&model.status.slot, Some((manifest, onnx))) {
                model.status.model = None;
                model.status.error = Some(error.to_string());
            }
        }
    }

    fn readmit(&mut self, device: u32, at: SeriesRef, open: Vec<OpenWindow>) -> Result<(), RestoreError> {
        let Some(owner) = self.devices.get_mut(device as usize) else {
            return Err(RestoreError::Damaged("a series of no device"));
        };
        open.iter().for_each(|window| owner.opened(window.end, window.late));
        let held = open.iter().try_fold(self.held, |held, window| held.checked_add(window.count()));
        self.held = held.ok_or(RestoreError::Damaged("more readings in open windows than there can be"))?;
        let def = self.table.get(at).ok_or(RestoreError::Damaged("a series has no place in the table"))?;
        let number = self.enter_for(device, at, def);
        self.series[number as usize].open = open;
        Ok(())
    }
}

fn windows(reader: &mut Reader<'_>, version: u8) -> Result<Vec<OpenWindow>, RestoreError> {
    let n = reader.count(OpenWindow::MIN_BYTES)?;
    let window = |_| {
        let mut window = OpenWindow::decode(reader)?;
        if version >= TRACED {
            window.decode_trace(reader)?;
        }
        Ok(window)
    };
    (0..n).map(window).collect()
}

fn put_model(out: &mut Vec<u8>, model: &Model) {
    put_blob(out, model.status.slot.as_bytes());
    out.push(u8::from(model.status.model.is_some()));
    if let Some((id, version)) = &model.status.model {
        put_blob(out, id.as_bytes());
        put_blob(out, version.as_bytes());
    }
    put_maybe_text(out, model.status.error.as_deref());
    out.push(u8::from(model.bytes.is_some()));
    if let Some((manifest, onnx)) = &model.bytes {
        put_blob(out, manifest);
        put_blob(out, onnx);
    }
}

fn take_model(reader: &mut Reader<'_>) -> Result<Model, RestoreError> {
    let slot = reader.text()?.to_owned();
    let model =
        if reader.flag()? { Some((reader.text()?.to_owned(), reader.text()?.to_owned())) } else { None };
    let error = reader.maybe_text()?;
    let bytes = if reader.flag()? { Some((reader.blob()?.to_vec(), reader.blob()?.to_vec())) } else { None };
    Ok(Model { status: ModelStatus { slot, model, error }, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoScorer;

    #[test]
    fn windows_of_more_readings_than_can_be_counted_are_damage() {
        let mut bytes = Vec::new();
        OpenWindow::new(0, 10, false).encode(&mut bytes);
        bytes[17..25].copy_from_slice(&u64::MAX.to_le_bytes());
        let windows = |n| (0..n).map(|_| OpenWindow::decode(&mut Reader::new(&bytes)).unwrap()).collect();
        for n in [1, 2] {
            let mut fold = Fold::new(SeriesTable::new(10), Box::new(NoScorer));
            let device = fold.device(0, false, "plant", "pump");
            let key = telemetry::SeriesKey::new("pressure", [("device", "pump")]).unwrap();
            let at = fold.table.restore(telemetry::SeriesDef::bare(key));
            assert_eq!(fold.readmit(device, at, windows(n)).is_err(), n == 2);
        }
    }
}
