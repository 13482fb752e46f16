//! Rows to a payload.

use std::collections::HashMap;

use telemetry::{Event, Rows, SeriesRef};

use super::samples::Grouping;
use super::{Encoded, TooLarge, VERSION, windows};
use crate::column::{self, Scratch};
use crate::compression::Packer;
use crate::limits::{MAX_ATTRIBUTES, MAX_PAYLOAD, MAX_PAYLOAD_RAW, MAX_ROWS, MAX_SAMPLES};
use crate::msgpack::{put_array, put_attribute, put_map, put_nil, put_text, put_unsigned};

/// Encodes batches, keeping its scratch space between them.
pub struct Encoder {
    packer: Packer,
    grouping: Grouping,
    scratch: Scratch,
    raw: Vec<u8>,
}

impl Encoder {
    /// An encoder with a zstd level from 1 to 19.
    pub fn new(level: i32) -> Self {
        Self {
            packer: Packer::new(level),
            grouping: Grouping::default(),
            scratch: Scratch::new(),
            raw: Vec::new(),
        }
    }

    /// Encodes rows. `number` gives a series its number in this epoch; it is asked once for each
    /// series of the samples and once for each window, in order of first use.
    ///
    /// # Errors
    /// [`TooLarge`] when a limit of the format is exceeded: fewer rows will fit.
    pub fn encode(
        &mut self,
        rows: &Rows,
        mut number: impl FnMut(SeriesRef) -> u32,
    ) -> Result<Encoded, TooLarge> {
        within("samples", rows.series.len(), MAX_SAMPLES)?;
        within("windows", rows.windows.len(), MAX_ROWS)?;
        within("events", rows.events.len(), MAX_ROWS)?;
        let mut out = std::mem::take(&mut self.raw);
        out.clear();
        put_map(&mut out, 6);
        put_text(&mut out, "v");
        put_unsigned(&mut out, VERSION);
        put_text(&mut out, "c");
        put_map(&mut out, rows.counts.iter().count());
        for (cause, count) in rows.counts.iter() {
            put_unsigned(&mut out, u64::from(cause as u8));
            put_unsigned(&mut out, count);
        }
        self.samples(&mut out, rows, &mut number);
        let mut series = self.grouping.ids.clone();
        put_text(&mut out, "w");
        let windows = match rows.windows.is_empty() {
            true => {
                put_nil(&mut out);
                Ok(Vec::new())
            }
            false => windows::encode(&mut out, &rows.windows, &mut number, &mut self.scratch),
        };
        put_text(&mut out, "e");
        match rows.events.is_empty() {
            true => put_nil(&mut out),
            false => events(&mut out, &rows.events, &mut self.scratch),
        }
        let bytes = within("bytes", out.len(), MAX_PAYLOAD_RAW).map(|()| self.packer.pack(&out));
        self.raw = out;
        let (windows, bytes) = (windows?, bytes?);
        within("compressed bytes", bytes.len(), MAX_PAYLOAD)?;
        series.extend(windows);
        series.sort_unstable();
        series.dedup();
        let (t0, t1) = rows.time_range().unwrap_or_default();
        Ok(Encoded {
            checksum: crate::checksum(&bytes, [0; 4]),
            bytes,
            series,
            samples: rows.series.len(),
            t0,
            t1,
        })
    }

    fn samples(&mut self, out: &mut Vec<u8>, rows: &Rows, number: impl FnMut(SeriesRef) -> u32) {
        let (grouping, scratch) = (&mut self.grouping, &mut self.scratch);
        grouping.group(rows, number);
        put_text(out, "t");
        put_array(out, grouping.timelines.len());
        for line in &grouping.timelines {
            column::encode(out, &grouping.times[line.clone()], scratch);
        }
        put_text(out, "s");
        put_map(out, 5);
        put_text(out, "id");
        column::encode(out, &grouping.ids, scratch);
        put_text(out, "tl");
        column::encode(out, &grouping.lines, scratch);
        put_text(out, "n");
        column::encode(out, &grouping.lengths, scratch);
        put_text(out, "v");
        column::encode_floats(out, &grouping.values, &grouping.lengths, scratch);
        put_text(out, "f");
        match grouping.flags.iter().all(|flags| *flags == 0) {
            true => put_nil(out),
            false => column::encode(out, &grouping.flags, scratch),
        }
    }
}

fn within(what: &'static str, size: usize, max: usize) -> Result<(), TooLarge> {
    if size <= max { Ok(()) } else { Err(TooLarge { what, size, max }) }
}

fn events(out: &mut Vec<u8>, events: &[Event], scratch: &mut Scratch) {
    put_map(out, 5);
    put_text(out, "src");
    put_array(out, events.len());
    events.iter().for_each(|event| put_text(out, &event.source));
    put_text(out, "t");
    column::encode(out, &events.iter().map(|event| event.time).collect::<Vec<_>>(), scratch);
    put_text(out, "sev");
    column::encode(out, &events.iter().map(|event| event.severity as u8).collect::<Vec<_>>(), scratch);
    put_text(out, "body");
    put_array(out, events.len());
    events.iter().for_each(|event| put_text(out, &event.body));
    put_text(out, "attr");
    put_array(out, events.len());
    for event in events {
        attributes(out, event);
    }
}

/// A map has each key once: of attributes with one name the last is written, in the first one's place.
/// Inputs take fewer than [`MAX_ATTRIBUTES`]; what is beyond is left out rather than the whole event.
fn attributes(out: &mut Vec<u8>, event: &Event) {
    let mut last: HashMap<&str, usize> = HashMap::with_capacity(event.attributes.len());
    let mut order = Vec::with_capacity(event.attributes.len());
    for (at, (name, _)) in event.attributes.iter().enumerate() {
        if last.insert(name, at).is_none() {
            order.push(name.as_str());
        }
    }
    order.truncate(MAX_ATTRIBUTES);
    put_map(out, order.len());
    for name in order {
        put_text(out, name);
        put_attribute(out, &event.attributes[last[name]].1);
    }
}
