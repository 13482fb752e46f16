//! Every reading of a run: which it is, who was told what of it, and what the collector has of it.
//!
//! A reading is its value: a number that no other reading of the run has. So whatever arrives can be
//! asked where it came from.

use std::collections::BTreeMap;

use crate::clock::Time;

/// What the sender knows of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Sent, and not answered yet.
    Nothing,
    /// Acknowledged, at this time: it must be in the store in the end.
    Acked(Time),
    /// The agent died or its disk failed before it could answer: the reading may be stored, once.
    Unknown,
    /// The agent said that it did not take it: it must not be stored.
    Refused,
}

/// One reading.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Its sender, which is also its device label.
    pub device: u32,
    /// Which of that one's series it is of.
    pub series: u32,
    /// Its event time.
    pub time: i64,
    /// What its sender knows.
    pub told: Told,
    /// Further ahead of the clock than the agent takes.
    pub ahead: bool,
    /// When it was stored as a sample, and how often.
    pub stored: Option<Time>,
    /// How often it was stored as a sample.
    pub times: u32,
    /// It was in a batch that the collector refused for good.
    pub refused: bool,
    /// It was in a rotten record at the end of the journal, or in one of the spool that the cursor can't name any more: it
    /// may be gone without a word.
    pub silent: bool,
    /// It was in the spool's last record when that rotted: it may be stored again.
    pub again: bool,
}

/// All of them, by value.
#[derive(Default)]
pub struct Readings {
    /// The value is the index.
    pub all: Vec<Reading>,
    /// Of windows stored: readings and the sum of their values, by device.
    pub windows: BTreeMap<u32, (u64, f64)>,
    /// Readings in windows stored, by device and series, and by start and end.
    pub spans: BTreeMap<(u32, u32), BTreeMap<(i64, i64), u64>>,
    /// Readings of windows in batches that were refused for good, and the sum of their values, by device.
    pub refused: BTreeMap<u32, (u64, f64)>,
    /// The same of windows that may be stored again, and readings that may be counted again.
    pub again: BTreeMap<u32, (u64, f64)>,
    pub received_again: u64,
    /// Readings of windows that may be gone without a word, with their batch.
    pub received_gone: u64,
}

impl Readings {
    /// A new one; gives its value.
    pub fn send(&mut self, device: u32, series: u32, time: i64, ahead: bool) -> u64 {
        self.all.push(Reading {
            device,
            series,
            time,
            told: Told::Nothing,
            ahead,
            stored: None,
            times: 0,
            refused: false,
            silent: false,
            again: false,
        });
        self.all.len() as u64 - 1
    }

    /// Whether any of these lay in the spool's last record when that rotted, so that they may have been cut again.
    pub fn may_come_again(&self, samples: &[u64], windows: &[(u32, u64, f64)]) -> bool {
        samples.iter().any(|value| self.all[*value as usize].again)
            || windows.iter().any(|(device, ..)| self.again.contains_key(device))
    }

    /// The sender learned something.
    pub fn tell(&mut self, values: &[u64], told: Told) {
        for value in values {
            self.all[*value as usize].told = told;
        }
    }
}
