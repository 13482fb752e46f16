//! What rot must not break either: no window holds a reading twice, and what is lost is counted as so much.
//!
//! A window says how many readings it has and not which. But it has a series and an interval, and so at most as many as were
//! sent with a time in there and are no samples. Windows of several lengths (the configuration changed) lie inside each
//! other, so that this is asked of each interval and everything in it: where it holds for all of them there is a way
//! to give each window readings of its own (Hall's condition), and else there is none.

use std::collections::BTreeMap;

use telemetry::Cause;

use crate::readings::{Readings, Told};
use crate::world::World;

/// Start and end of a window.
type Span = (i64, i64);

impl Readings {
    /// A window was stored.
    pub fn windowed(&mut self, device: u32, series: u32, span: Span, count: u64) {
        *self.spans.entry((device, series)).or_default().entry(span).or_default() += count;
    }
}

/// P2 in windows: how many readings they hold too many, and a sentence on the first that does.
pub fn twice_in_windows(readings: &Readings) -> (u64, Option<String>) {
    let (mut twice, mut first) = (0, None);
    for ((device, series), spans) in &readings.spans {
        let sent = sent(readings, *device, *series);
        // What was cut again after the spool's last record had rotted is let pass, and counted elsewhere.
        let again = readings.again.get(device).map_or(0, |again| again.0);
        for &(start, end) in spans.keys() {
            let inside = spans.range((start, i64::MIN)..(end, i64::MIN)).filter(|((_, to), _)| *to <= end);
            let stored: u64 = inside.map(|(_, count)| count).sum();
            let there = sent.partition_point(|time| *time < end) - sent.partition_point(|time| *time < start);
            let most = there as u64 + again;
            if stored > most {
                twice += stored - most;
                first.get_or_insert_with(|| {
                    format!(
                        "P2: windows of series {series} of device {device} between {start} and {end} hold {stored} of {most} readings"
                    )
                });
            }
        }
    }
    (twice, first)
}

/// Times of the readings of a series that may be in windows, ascending.
fn sent(readings: &Readings, device: u32, series: u32) -> Vec<i64> {
    let of = readings.all.iter().filter(|reading| (reading.device, reading.series) == (device, series));
    let may = of.filter(|reading| reading.times == 0 && !reading.ahead && reading.told != Told::Refused);
    let mut times: Vec<i64> = may.map(|reading| reading.time).collect();
    times.sort_unstable();
    times
}

/// P3 to the reading, where no batch was lost and so each lost row is one: what is stored, as samples and in windows,
/// refused or damaged is together what was acknowledged. What was sent and not answered may be there or not, and so
/// may what lay in a rotten record at the journal's very end. `None` when the sum is right.
pub fn sum_is_wrong(world: &World) -> Option<String> {
    let (readings, counts) = (&world.readings, &world.collector.counts);
    let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
    let mut samples = 0;
    for reading in &readings.all {
        samples += u64::from(reading.times > 0 || reading.refused);
        let is = match reading.told {
            Told::Refused => continue,
            Told::Acked(_) if !reading.silent => "acknowledged",
            Told::Acked(_) | Told::Unknown | Told::Nothing => "perhaps",
        };
        *sent.entry(is).or_default() += 1;
    }
    let of = |is| sent.get(is).copied().unwrap_or_default();
    let (low, high) = (of("acknowledged"), of("acknowledged") + of("perhaps"));
    let rows = |windows: &BTreeMap<u32, (u64, f64)>| windows.values().map(|row| row.0).sum::<u64>();
    let (windows, refused) = (rows(&readings.windows), rows(&readings.refused));
    let (damaged, ahead) = (counts.get(Cause::Damaged), counts.get(Cause::RejectedTime));
    let sum = samples + windows + damaged + ahead;
    // Of what was refused nobody knows whether it had been stored before.
    (sum + refused < low || sum > high).then(|| {
        format!(
            "P3: {samples} samples, {windows} readings in windows, {damaged} damaged, {ahead} with times ahead and {refused} in \
             refused windows are {}; {low} to {high} were sent",
            sum + refused
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(times: &[i64]) -> Readings {
        let mut readings = Readings::default();
        let all: Vec<u64> = times.iter().map(|time| readings.send(0, 1, *time, false)).collect();
        readings.tell(&all, Told::Acked(1));
        readings
    }

    #[test]
    fn a_window_that_holds_more_than_was_sent_for_it_is_found_and_no_other() {
        let mut readings = sent(&[1, 2, 3, 11, 12]);
        readings.windowed(0, 1, (0, 10), 2);
        readings.windowed(0, 1, (0, 10), 1);
        readings.windowed(0, 1, (10, 20), 1);
        assert_eq!(twice_in_windows(&readings), (0, None));
        readings.windowed(0, 1, (0, 10), 1);
        let (twice, told) = twice_in_windows(&readings);
        assert_eq!(twice, 1);
        assert!(told.unwrap().contains("between 0 and 10 hold 4 of 3"));
    }

    #[test]
    fn a_reading_in_a_window_inside_another_is_in_one_of_them() {
        let mut readings = sent(&[1, 6, 7]);
        readings.windowed(0, 1, (5, 10), 2);
        readings.windowed(0, 1, (0, 10), 1);
        assert_eq!(twice_in_windows(&readings), (0, None));
        readings.windowed(0, 1, (0, 10), 1);
        assert_eq!(twice_in_windows(&readings).0, 1);
    }

    #[test]
    fn a_reading_that_is_stored_as_a_sample_is_in_no_window() {
        let mut readings = sent(&[1, 2]);
        readings.all[0].times = 1;
        readings.windowed(0, 1, (0, 10), 2);
        assert_eq!(twice_in_windows(&readings).0, 1);
    }
}
