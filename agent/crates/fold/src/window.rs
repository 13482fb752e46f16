//! One open window of one series: what its samples have added up to so far.

use telemetry::trace::Context;
pub(crate) use telemetry::window_bounds as bounds;
use telemetry::{Aggregate, Bins, SeriesRef, Traced, WindowRow};

use crate::RestoreError;
use crate::bytes::Reader;

/// What windows note as they leave.
#[derive(Debug)]
pub(crate) struct Left {
    /// The latest end of one that has left, since this process began or batches say so. Not checkpointed.
    pub by: i64,
    /// Sampled records whose readings leave with this record. Emptied after each; kept for its allocation.
    pub traces: Vec<Traced>,
}

impl Default for Left {
    fn default() -> Self {
        Self { by: i64::MIN, traces: Vec::new() }
    }
}

/// An aggregate that still takes samples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OpenWindow {
    pub start: i64,
    /// One past its last nanosecond; saturated at the end of time.
    pub end: i64,
    /// Opened when the watermark had already passed its end: it leaves with the next tick.
    pub late: bool,
    /// The last sampled record with a reading in it.
    pub trace: Option<Box<Traced>>,
    of: Aggregate,
}

impl OpenWindow {
    pub(crate) fn new(start: i64, end: i64, late: bool) -> Self {
        Self { start, end, late, trace: None, of: Aggregate::default() }
    }

    /// Takes a finite value. Of equal times the earlier arrival is first and the later one last.
    #[inline]
    pub(crate) fn add(&mut self, time: i64, value: f64) {
        self.of.add(time, value);
    }

    /// Readings in it.
    pub(crate) fn count(&self) -> u64 {
        self.of.row().count
    }

    /// Its row; a sampled record's trace goes on with it. The only way out of a fold for what is in a window,
    /// so that each end is noted once, however many rows wait for the cut.
    pub(crate) fn leave(self, series: SeriesRef, left: &mut Left) -> WindowRow {
        left.by = left.by.max(self.end);
        left.traces.extend(self.trace.as_deref());
        let length = self.end.wrapping_sub(self.start);
        self.of.into_row(series, self.start, length)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.push(u8::from(self.late));
        let WindowRow { count, sum, min, max, first, last, bins, .. } = self.of.row();
        out.extend_from_slice(&count.to_le_bytes());
        for value in [sum, min, max] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for (time, value) in [first, last] {
            out.extend_from_slice(&time.to_le_bytes());
            out.extend_from_slice(&value.to_le_bytes());
        }
        for side in [&bins.positive, &bins.negative] {
            out.extend_from_slice(&(side.len() as u32).to_le_bytes());
            for (key, n) in side {
                out.extend_from_slice(&key.to_le_bytes());
                out.extend_from_slice(&n.to_le_bytes());
            }
        }
        out.extend_from_slice(&bins.zero.to_le_bytes());
    }

    pub(crate) fn encode_trace(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.trace.is_some()));
        if let Some(Traced { context, parent }) = self.trace.as_deref() {
            out.extend_from_slice(&context.trace);
            out.extend_from_slice(&context.span);
            out.extend_from_slice(parent);
        }
    }

    pub(crate) fn decode_trace(&mut self, reader: &mut Reader<'_>) -> Result<(), RestoreError> {
        if reader.flag()? {
            let context = Context { trace: reader.bytes16()?, span: reader.u64()?.to_le_bytes() };
            self.trace = Some(Box::new(Traced { context, parent: reader.u64()?.to_le_bytes() }));
        }
        Ok(())
    }

    /// The fewest bytes that [`OpenWindow::encode`] writes.
    pub(crate) const MIN_BYTES: usize = 97;

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let side = |reader: &mut Reader<'_>| {
            (0..reader.count(12)?).map(|_| Ok((reader.i32()?, reader.u64()?))).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            start: reader.i64()?,
            end: reader.i64()?,
            late: reader.flag()?,
            trace: None,
            of: Aggregate::of(WindowRow {
                series: SeriesRef(0),
                start: 0,
                length: 0,
                count: reader.u64()?,
                sum: reader.f64()?,
                min: reader.f64()?,
                max: reader.f64()?,
                first: (reader.i64()?, reader.f64()?),
                last: (reader.i64()?, reader.f64()?),
                bins: Bins { positive: side(reader)?, negative: side(reader)?, zero: reader.u64()? },
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_window_survives_its_own_bytes() {
        let mut window = OpenWindow::new(0, 10, true);
        [(3, 1.5), (1, -2.0), (9, 0.0)].iter().for_each(|(time, value)| window.add(*time, *value));
        let mut bytes = Vec::new();
        window.encode(&mut bytes);
        let back = OpenWindow::decode(&mut Reader::new(&bytes)).unwrap();
        assert_eq!((window.late, window.of.row()), (back.late, back.of.row()));
        let mut empty = Vec::new();
        OpenWindow::new(0, 1, false).encode(&mut empty);
        assert_eq!(empty.len(), OpenWindow::MIN_BYTES);
    }
}
