//! Batch frames around a payload, each with what a reader must make of its times: as they are, corrected by the offset of
//! a boot whose clock was not set, or corrected by a guess, which leaves its mark.

use telemetry::{Rows, SampleFlags, SeriesDef, SeriesKey, SeriesRef};
use wire::v1;

use crate::Error;
use crate::expect::{list, quoted, whole};

const SECOND: i64 = 1_000_000_000;
const T: i64 = 1_700_000_000_000_000_000;
/// The agent's numbering, and the series' number in it.
const EPOCH: [u8; 16] = *b"vectors of proto";
const NUMBER: u32 = 7;

/// A frame with what is in it.
pub struct Frame {
    pub name: &'static str,
    about: &'static str,
    pub batch: v1::Batch,
    /// As a reader stores them.
    times: Vec<i64>,
    flags: Vec<u8>,
}

pub fn frames() -> Result<Vec<Frame>, Error> {
    let marks = [SampleFlags::CLOCK_UNCERTAIN | SampleFlags::ARRIVAL_TIME, SampleFlags::CLOCK_UNCERTAIN];
    let boot = [5 * SECOND, 6 * SECOND];
    Ok(vec![
        frame("as-it-is", "Times of a set clock: no offset.", (0, false), [T, T + SECOND], [1, 0], [1, 0])?,
        frame(
            "device-uncertain",
            "Without an offset a mark stays: it speaks of the device's clock.",
            (0, false),
            [T, T + SECOND],
            [4, 0],
            [4, 0],
        )?,
        frame(
            "since-boot",
            "Times since a boot, and when that was: the offset is added, the mark of uncertainty goes, others stay.",
            (T, false),
            boot,
            marks,
            [1, 0],
        )?,
        frame(
            "since-boot-guess",
            "The same, but when the boot was is a guess: the mark stays.",
            (T, true),
            boot,
            marks,
            marks,
        )?,
        frame(
            "before-1970",
            "An offset may be negative, and times before 1970.",
            (-20 * SECOND, false),
            boot,
            [4, 4],
            [0, 0],
        )?,
        traced(frame(
            "traced",
            "A sampled trace goes beside the payload: all else is as without it.",
            (0, false),
            [T, T + SECOND],
            [1, 0],
            [1, 0],
        )?),
    ])
}

/// With the trace of the example in W3C's Trace Context.
fn traced(mut frame: Frame) -> Frame {
    frame.batch.trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into();
    frame
}

fn frame(
    name: &'static str,
    about: &'static str,
    (offset, uncertain): (i64, bool),
    times: [i64; 2],
    marks: [u8; 2],
    flags: [u8; 2],
) -> Result<Frame, Error> {
    let mut rows = Rows::default();
    for (at, time) in times.iter().enumerate() {
        rows.push_sample(SeriesRef(0), *time, 21.5, marks[at]);
    }
    let payload = wire::payload::encode(&rows, |_| NUMBER)?.bytes;
    let def = SeriesDef { key: SeriesKey::new("temperature", [("device", "pump7")])?, unit: "Cel".into() };
    let digest = wire::definitions::digest(std::iter::once((NUMBER, &def)));
    let checksum = wire::checksum(&payload, digest).to_vec();
    let batch = v1::Batch {
        epoch: EPOCH.to_vec(),
        seq: 3,
        t0_ns: times[0],
        t1_ns: times[1],
        clock_offset_ns: offset,
        clock_uncertain: uncertain,
        codec: wire::payload::CODEC,
        payload: payload.into(),
        checksum,
        definitions: wire::definitions::encode(&[(NUMBER, def.into())])?.into(),
        first_position: 1,
        last_position: 2,
        ..v1::Batch::default()
    };
    let times = times.iter().map(|time| time + offset).collect();
    Ok(Frame { name, about, batch, times, flags: flags.to_vec() })
}

/// All of them as one document: `frame` is the message's bytes in hexadecimal.
pub fn json(frames: &[Frame]) -> String {
    use prost::Message;
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let one = |frame: &Frame| {
        let Frame { name, about, batch, times, flags } = frame;
        format!(
            "  {{\"name\": {}, \"about\": {},\n   \"frame\": \"{}\",\n   \"epoch\": \"{}\", \"seq\": \"{}\", \"clock_offset_ns\": {}, \"clock_uncertain\": {}, \"trace\": {},\n   \"times\": {}, \"flags\": {}}}",
            quoted(name),
            quoted(about),
            hex(&batch.encode_to_vec()),
            hex(&batch.epoch),
            batch.seq,
            whole(batch.clock_offset_ns),
            batch.clock_uncertain,
            quoted(&batch.trace),
            list(times, |time| whole(time)),
            list(flags, |flags| flags.to_string()),
        )
    };
    let all: Vec<String> = frames.iter().map(one).collect();
    format!("{{\n \"frames\": [\n{}\n ]\n}}\n", all.join(",\n"))
}
