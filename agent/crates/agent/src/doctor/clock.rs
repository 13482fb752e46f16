//! The clock: is it set, does something keep it right, how far is it from the collector's.

use telemetry::clock::SET_AFTER;

use super::{Finding, ok, problem, warning};
use crate::time_service::{Kernel, kernel};

/// Beyond this the collector's rules about late and future readings begin to show.
const WARN_MS: i64 = 1_000;
/// Readings without a time of their own are this wrong.
const FAR_MS: i64 = 60_000;

/// This host's clock, nanoseconds since the epoch.
pub fn now() -> i64 {
    use inputs::Clock;
    inputs::SystemClock.now().wall
}

/// All checks of the clock; `skew_ns` is this host's clock minus the collector's, where that is known.
pub fn examine(skew_ns: Option<i64>) -> Vec<Finding> {
    judge(now(), kernel(), skew_ns)
}

fn judge(now: i64, kernel: Option<Kernel>, skew_ns: Option<i64>) -> Vec<Finding> {
    const REMEDY: &str =
        "run a time service (chrony or systemd-timesyncd), and give it a server that this site reaches";
    let mut findings = Vec::new();
    if now < SET_AFTER {
        let found = format!("it says {}: it was never set", crate::human::moment(Some(now)));
        findings.push(problem("clock", found, REMEDY));
    }
    findings.push(match kernel {
        Some(Kernel { synchronized: true, max_error_us, .. }) => ok(
            "clock",
            format!("kept by a time service, right to within {:.1} ms", max_error_us as f64 / 1e3),
        ),
        Some(_) => warning("clock", "no time service keeps it: it drifts", REMEDY),
        None => warning("clock", "the kernel doesn't say whether a time service keeps it", REMEDY),
    });
    let Some(skew) = skew_ns.map(|ns| ns / 1_000_000) else { return findings };
    let direction = if skew > 0 { "ahead of" } else { "behind" };
    let found = format!("{} ms {direction} the collector's", skew.abs());
    findings.push(match skew.abs() {
        FAR_MS.. => problem("clock skew", found, "find out which of the two is wrong, and set it"),
        WARN_MS.. => warning("clock skew", found, "let a time service keep both hosts' clocks"),
        _ => ok("clock skew", found),
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const NOW: i64 = 1_800_000_000_000_000_000;
    const KEPT: Option<Kernel> = Some(Kernel { synchronized: true, max_error_us: 500, wall: NOW });

    fn levels(now: i64, kernel: Option<Kernel>, skew_ms: Option<i64>) -> Vec<Level> {
        judge(now, kernel, skew_ms.map(|ms| ms * 1_000_000)).iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn a_clock_that_is_kept_and_agrees_is_fine() {
        assert_eq!(levels(NOW, KEPT, Some(-20)), [Level::Ok, Level::Ok]);
        assert_eq!(levels(NOW, KEPT, None), [Level::Ok]);
    }

    #[test]
    fn a_clock_at_1970_is_a_problem_and_one_that_nobody_keeps_a_warning() {
        let drifting = Some(Kernel { synchronized: false, max_error_us: 16_000_000, wall: 0 });
        assert_eq!(levels(5_000_000_000, drifting, None), [Level::Problem, Level::Warning]);
        assert_eq!(levels(NOW, None, None), [Level::Warning]);
    }

    #[test]
    fn a_clock_far_from_the_collectors_is_a_problem_in_either_direction() {
        assert_eq!(levels(NOW, KEPT, Some(5_000)), [Level::Ok, Level::Warning]);
        assert_eq!(levels(NOW, KEPT, Some(3_600_000)), [Level::Ok, Level::Problem]);
        assert_eq!(levels(NOW, KEPT, Some(-3_600_000)), [Level::Ok, Level::Problem]);
        assert!(judge(NOW, KEPT, Some(-3_600_000_000_000))[1].found.contains("behind"));
    }
}
