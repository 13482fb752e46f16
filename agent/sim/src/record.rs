//! What arrived at the collector, written down so that the real one can be asked the same: one JSON
//! line an event, in the order of the commits. `tests/sim/replay.py` reads it.
//!
//! ```text
//! {"greeting": Hello, "answer": Greeting}         both as protobuf, base64
//! {"commit": [[frame, outcome], …]}               a FromAgent frame; "stored", "duplicate", "conflict", "need_definitions"
//! {"crash": true}                                 the collector's process died here
//! {"end": {"readings": n, "values": s, "windows": [n, s], "counts": {code: n}, "rows": n}}
//! ```

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Value, json};
use wire::v1;

use crate::clock::{Time, WALL};
use crate::collector::{Collector, Committed, Conn, Outcome};
use crate::readings::Readings;

/// Writes one run's file. What can't be written is remembered and told at the end.
pub struct Recorder {
    out: BufWriter<File>,
    failed: Option<std::io::Error>,
}

impl Recorder {
    /// Into `DIR/<seed>.jsonl`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(dir: &Path, seed: u64) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let file = File::create(dir.join(format!("{seed}.jsonl")))?;
        Ok(Self { out: BufWriter::new(file), failed: None })
    }

    fn line(&mut self, value: &Value) {
        if let Err(error) = writeln!(self.out, "{value}") {
            self.failed.get_or_insert(error);
        }
    }

    pub(crate) fn greeting(&mut self, conn: Conn, hello: &v1::Hello, greeting: &v1::Greeting) {
        let (hello, greeting) =
            (STANDARD.encode(hello.encode_to_vec()), STANDARD.encode(greeting.encode_to_vec()));
        self.line(&json!({ "conn": conn, "greeting": hello, "answer": greeting }));
    }

    pub(crate) fn commit(&mut self, committed: &[Committed], now: Time) {
        let frames: Vec<Value> = committed
            .iter()
            .filter_map(|one| {
                let outcome = match &one.outcome {
                    Outcome::Stored => "stored",
                    Outcome::Duplicate => "duplicate",
                    Outcome::Conflict(_) => "conflict",
                    Outcome::NeedDefinitions(_) => "need_definitions",
                    // Only by order of the plan: the real one knows no reason to.
                    Outcome::Forgot(_) | Outcome::Refused => return None,
                };
                let frame = v1::FromAgent { frame: Some(one.frame.clone()) };
                Some(json!([STANDARD.encode(frame.encode_to_vec()), outcome]))
            })
            .collect();
        if !frames.is_empty() {
            self.line(&json!({ "commit": frames, "now_ns": WALL + now as i64 }));
        }
    }

    pub(crate) fn crash(&mut self) {
        self.line(&json!({ "crash": true }));
    }

    /// What the reference collector has in the end.
    ///
    /// # Errors
    /// Anything that could not be written.
    pub fn finish(mut self, collector: &Collector, readings: &Readings) -> std::io::Result<()> {
        // As often as it is there: what rotted may be stored again.
        let times = |value: u64| std::iter::repeat_n(value, readings.all[value as usize].times as usize);
        let stored: Vec<u64> = (0..readings.all.len() as u64).flat_map(times).collect();
        let windows = readings.windows.values().fold((0, 0.0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        let counts: serde_json::Map<String, Value> =
            collector.counts.iter().map(|(cause, n)| ((cause as u8).to_string(), n.into())).collect();
        self.line(&json!({ "end": {
            "readings": stored,
            "windows": [windows.0, windows.1],
            "counts": counts,
            "rows": collector.rows,
        }}));
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}
