//! The hours of the day in which the backlog may travel: `22:00-06:00`, in the host's time zone, in UTC, or in a named one.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use telemetry::clock;

/// Nobody plans further ahead: a year of nights.
const MOST_CHANGES: usize = 2 * 366;

/// The moment whose hour counts. A clock that was never set doesn't tell the hour: the collector's does.
pub(crate) fn hour(wall: i64, skew_ns: i64) -> i64 {
    if wall < clock::SET_AFTER { wall - skew_ns } else { wall }
}

/// A daily span of time that may pass midnight.
#[derive(Clone, Debug)]
pub(crate) struct Hours {
    from: Time,
    to: Time,
    zone: TimeZone,
}

impl Hours {
    /// `HH:MM-HH:MM`, then nothing (the host's zone), `UTC` or a zone's name; `None` when it isn't that, or is the whole day.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let zone = match words.next() {
            None => TimeZone::system(),
            Some("UTC") => TimeZone::UTC,
            Some(name) => TimeZone::get(name).ok()?,
        };
        // As a beginning it would be the next day's.
        let (from, to) = (time(from).filter(|_| from != DAYS_END)?, time(to)?);
        (from != to && words.next().is_none()).then_some(Self { from, to, zone })
    }

    /// Whether a text says from one time of the day to the same: then there is nothing to wait for.
    pub(crate) fn is_whole_day(text: &str) -> bool {
        let span = text.split_ascii_whitespace().next().and_then(|span| span.split_once('-'));
        span.is_some_and(|(from, to)| time(from).is_some_and(|from| time(to) == Some(from)))
    }

    /// The zone of a text that isn't a span, and would be one if there were such a zone.
    pub(crate) fn unknown_zone(text: &str) -> Option<&str> {
        let mut words = text.split_ascii_whitespace();
        let (span, zone) = (words.next()?, words.next()?);
        (words.next().is_none() && Self::parse(span).is_some()).then_some(zone)
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

impl Hours {
    /// When that next becomes otherwise; `None` where time ends.
    fn next_change(&self, wall_ns: i64) -> Option<i64> {
        let now = Timestamp::from_nanosecond(i128::from(wall_ns)).ok()?;
        let until = now.checked_add(72.hours()).ok()?;
        let mut day = self.zone.to_datetime(now).date();
        // Where clocks are set, an hour may be skipped or come twice: that is a change too, or makes two of one.
        let mut moments: Vec<Timestamp> = self
            .zone
            .following(now)
            .map(|transition| transition.timestamp())
            .take_while(|at| *at <= until)
            .collect();
        for _ in 0..3 {
            for time in [self.from, self.to] {
                let at = self.zone.to_ambiguous_timestamp(day.to_datetime(time));
                moments.extend(at.earlier());
                moments.extend(at.later());
            }
            day = day.tomorrow().ok()?;
        }
        let open = self.open(wall_ns);
        moments.sort_unstable();
        let later = moments.into_iter().filter(|at| *at > now);
        later.filter_map(|at| i64::try_from(at.as_nanosecond()).ok()).find(|at| self.open(*at) != open)
    }

    /// When they open; `None` while they are open.
    pub(crate) fn opens(&self, wall_ns: i64) -> Option<i64> {
        if self.open(wall_ns) { None } else { self.next_change(wall_ns) }
    }

    /// After how many seconds what takes so many open ones is done; `None` beyond a year.
    pub(crate) fn done_after(&self, wall_ns: i64, seconds: f64) -> Option<f64> {
        let (mut at, mut left) = (wall_ns, seconds);
        for _ in 0..MOST_CHANGES {
            let open = self.open(at);
            let change = self.next_change(at)?;
            let span = change.saturating_sub(at) as f64 / 1e9;
            if open && left <= span {
                return Some(at.saturating_sub(wall_ns) as f64 / 1e9 + left);
            }
            left -= if open { span } else { 0.0 };
            at = change;
        }
        None
    }
}

/// How the day's end is written.
const DAYS_END: &str = "24:00";

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

    fn ns(at: &str) -> i64 {
        at.parse::<Timestamp>().unwrap().as_nanosecond() as i64
    }

    #[test]
    fn closed_hours_name_the_moment_when_they_open() {
        let opens = |hours: &str, at: &str| Hours::parse(hours).unwrap().opens(ns(at));
        assert_eq!(opens("22:00-06:00 UTC", "2026-01-05T08:00:00Z"), Some(ns("2026-01-05T22:00:00Z")));
        assert_eq!(opens("22:00-06:00 UTC", "2026-01-05T05:59:59Z"), None, "they are open");
        assert_eq!(opens("01:00-02:00 UTC", "2026-01-05T02:00:00Z"), Some(ns("2026-01-06T01:00:00Z")));
        let berlin = "22:00-06:00 Europe/Berlin";
        assert_eq!(opens(berlin, "2026-07-01T08:00:00Z"), Some(ns("2026-07-01T20:00:00Z")));
        // At 02:00 it becomes 03:00: what begins at 02:30 begins then.
        let spring = "02:30-05:00 Europe/Berlin";
        assert_eq!(opens(spring, "2026-03-29T00:00:00Z"), Some(ns("2026-03-29T01:00:00Z")));
        // At 03:00 it becomes 02:00: it opens at 02:30, is closed again at 02:00, and opens once more.
        assert_eq!(opens(spring, "2026-10-25T00:00:00Z"), Some(ns("2026-10-25T00:30:00Z")));
        assert_eq!(opens(spring, "2026-10-25T01:00:00Z"), Some(ns("2026-10-25T01:30:00Z")));
    }

    #[test]
    fn what_takes_longer_than_the_open_hours_takes_the_closed_ones_too() {
        let hours = Hours::parse("22:00-06:00 UTC").unwrap();
        let after = |at: &str, open_hours: f64| {
            hours.done_after(ns(at), open_hours * 3600.0).map(|seconds| seconds / 3600.0)
        };
        assert_eq!(after("2026-01-05T23:00:00Z", 2.0), Some(2.0));
        assert_eq!(after("2026-01-05T23:00:00Z", 7.0), Some(7.0), "to the last minute");
        assert_eq!(after("2026-01-05T23:00:00Z", 8.0), Some(24.0), "an hour is left for the next night");
        assert_eq!(after("2026-01-05T08:00:00Z", 1.0), Some(15.0), "it waits for the evening first");
        assert_eq!(after("2026-01-05T08:00:00Z", 1e9), None);
    }

    proptest::proptest! {
        /// Minute by minute, over the days when clocks are set.
        #[test]
        fn the_next_change_is_the_first_minute_that_is_otherwise(
            from in 0u32..1440, to in 0u32..1440, start in 0i64..5 * 1440, autumn: bool,
        ) {
            proptest::prop_assume!(from != to);
            let text = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
            let hours = Hours::parse(&format!("{}-{} Europe/Berlin", text(from), text(to))).unwrap();
            let begin = ns(if autumn { "2026-10-23T00:00:00Z" } else { "2026-03-27T00:00:00Z" });
            let minute = 60_000_000_000;
            let at = begin + start * minute;
            let open = hours.open(at);
            let first = (1..3 * 1440).map(|n| at + n * minute).find(|at| hours.open(*at) != open);
            proptest::prop_assert_eq!(hours.next_change(at), first);
        }
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
