//! The senders: each reading is a number that no other has, and each sender remembers what it was told.

use telemetry::{Cause, Intake, Record, SeriesDef, SeriesKey};

use crate::clock::{SECOND, Time};
use crate::readings::Told;
use crate::world::{Event, World};

/// Further ahead than the fold takes.
const AHEAD: i64 = 3_600 * SECOND as i64;

impl World {
    /// A device sends what it has, and plans the next time.
    pub(crate) fn send(&mut self, at: usize) {
        if self.over {
            return;
        }
        let (device, host) = self.devices[at];
        let pause = self.rng.range(device.pause / 4, device.pause * 7 / 4).max(1);
        self.agenda.after(pause, Event::Send(at));
        let stamp = self.hosts[host].stamp(self.agenda.now());
        let wall = self.wall();
        let count = self.rng.range(1, device.readings);
        let draws: Vec<(u64, Time, bool)> = (0..count)
            .map(|_| {
                let late = if self.rng.chance(1, 3) { self.rng.range(0, device.late) } else { 0 };
                (self.rng.range(0, device.series - 1), late, self.rng.chance(1, 100))
            })
            .collect();
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let mut intake = Intake::new(at as u16, stamp);
        for series in 0..device.series {
            let name = format!("{}.{series}", if device.windowed { "flow" } else { "level" });
            let Ok(key) = SeriesKey::new(name, [("device", format!("d{at}"))]) else { return };
            let Ok(series) = agent.table.intern(SeriesDef::bare(key)) else { return };
            intake.series.push(series);
        }
        let mut values = Vec::new();
        for (series, late, ahead) in draws {
            let time = if ahead { wall + AHEAD } else { wall - late as i64 };
            let value = self.readings.send(at as u32, series as u32, time, ahead);
            intake.push(series as u32, time, value as f64, 0);
            values.push(value);
        }
        intake.counts.add(Cause::Received, count);
        match agent.journal.append(&Record::Intake(intake)) {
            Ok(position) => agent.waiting.push((position, values)),
            Err(_) => self.readings.tell(&values, Told::Refused),
        }
        self.note("sends", [at as u64, count, 0]);
        self.wake_commit(host);
    }
}
