//! The hours of the day in which the backlog may travel: `22:00-06:00`, in the host's time zone, in UTC, or in a named one.

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

/// A daily span of time that may pass midnight.
#[derive(Clone, Debug)]
pub(crate) struct Hours {
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl Hours {
    /// `HH:MM-HH:MM`, then nothing (the host's zone), `UTC` or a zone's name; `None` when it isn't that.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let zone = match words.next() {
            None => TimeZone::system(),
            Some("UTC") => TimeZone::UTC,
            Some(name) => TimeZone::get(name).ok()?,
        };
        let (from, to) = (time(from)?, time(to)?);
        (from != to && words.next().is_none()).then_some(Self { from, to, zone })
    }

    /// Whether a moment lies within: from the first minute on, up to and without the last.
    pub(crate) fn open(&self, wall_ns: i64) -> bool {
        let moment = Timestamp::from_nanosecond(i128::from(wall_ns)).unwrap_or_default();
        let time = self.zone.to_datetime(moment).time();
        if self.from < self.to {
            self.from <= time && time < self.to
        } else {
            self.from <= time || time < self.to
        }
    }
}

/// `06:00`; `24:00` is the day's end.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |part: &str| (part.len() == 2).then(|| part.parse::<i8>().ok()).flatten();
    match (two(hour)?, two(minute)?) {
        (24, 0) => Some(Time::midnight()),
        (hour, minute) => Time::new(hour, minute, 0, 0).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(hours: &str, at: &str) -> bool {
        let at: Timestamp = at.parse().unwrap();
        Hours::parse(hours).unwrap().open(at.as_nanosecond() as i64)
    }

    #[test]
    fn a_night_passes_midnight() {
        for (at, expected) in
            [("21:59:59", false), ("22:00:00", true), ("05:59:59", true), ("06:00:00", false)]
        {
            assert_eq!(open("22:00-06:00 UTC", &format!("2026-01-05T{at}Z")), expected, "{at}");
        }
        assert!(open("06:00-24:00 UTC", "2026-01-05T23:59:59Z"));
        assert!(!open("06:00-24:00 UTC", "2026-01-05T00:00:00Z"));
    }

    #[test]
    fn a_zone_by_name_follows_its_summer_time() {
        assert!(open("22:00-06:00 Europe/Berlin", "2026-07-01T20:00:00Z"));
        assert!(!open("22:00-06:00 Europe/Berlin", "2026-01-05T20:00:00Z"));
    }

    #[test]
    fn what_is_no_span_of_the_day_is_refused() {
        for text in
            ["", "22:00", "22-06", "22:00-25:00", "06:00-06:00", "22:00-06:00 Mars/Base", "22:00-06:00 UTC x"]
        {
            assert!(Hours::parse(text).is_none(), "{text}");
        }
    }
}
