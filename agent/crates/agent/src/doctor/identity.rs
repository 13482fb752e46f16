//! The enrolment: whose this host is, and how long its certificate is good.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::Value;
use telemetry::clock::SET_AFTER;
use uplink::certificate::Validity;
use uplink::enrolment::{Broken, Doubt, Enrolled, Joined};

use super::{Finding, Level, ok, problem, warning};
use crate::config::Config;
use crate::human::moment;

const CHECK: &str = "identity";
const SECOND: i64 = 1_000_000_000;

/// Nothing of a host that never joined: a token may be all that it has. `console` is what a try of the console showed.
pub fn examine(
    config: &Config,
    status: Option<&Value>,
    console: Option<&Doubt>,
    now: i64,
) -> Option<Finding> {
    let damaged = |broken| unusable(broken, Rights::of(&config.agent.data_dir));
    if let Some(broken) = config.uplink.broken.clone() {
        return Some(damaged(broken));
    }
    let enrolled = config.uplink.enrolled.as_ref()?;
    let Enrolled { folder, joined } = enrolled;
    if let Err(error) = folder.check(true) {
        return Some(damaged(error.into()));
    }
    let key = folder.key_file();
    match std::fs::metadata(&key).map(|key| key.permissions().mode() & 0o777) {
        Ok(mode) if mode & 0o077 != 0 => Some(warning(
            CHECK,
            format!("others on this host may read the host's key {} (mode {mode:o})", key.display()),
            format!(
                "chmod 600 {}; whoever has read it can speak as this agent: enroll the host again if that may be",
                key.display()
            ),
        )),
        _ => {
            let validity = folder.validity();
            let shut_out = shut_out(joined, validity, status, now);
            let renews = shut_out.is_none() && validity.is_some_and(|validity| in_time(validity, now));
            let found = shut_out.unwrap_or_else(|| judge(joined, validity, now));
            // By a clock that isn't set no certificate of the console's is good.
            let console = console.filter(|_| now >= SET_AFTER).cloned();
            Some(match console.or_else(|| enrolled.console_doubt()) {
                Some(doubt) => doubtful(found, doubt, renews),
                None => found,
            })
        }
    }
}

/// Told while the certificate is still good: a console that isn't believed would renew none. `renews`: all that is left to do
/// is to renew the certificate, so that what keeps it from that is what has to be mended.
fn doubtful(found: Finding, doubt: Doubt, renews: bool) -> Finding {
    let Doubt { found: why, remedy } = doubt;
    let remedy = match renews || found.remedy.is_empty() {
        true => remedy,
        false => format!("{remedy}; {}", found.remedy),
    };
    Finding {
        level: found.level.max(Level::Warning),
        found: format!("{}; {why}", found.found),
        remedy,
        ..found
    }
}

/// Whether this host's clock can be right, by when its certificate was issued.
fn in_time(validity: Validity, now: i64) -> bool {
    now >= SET_AFTER && now / SECOND >= validity.from
}

/// What the running agent was told when it asked for a certificate, as long as there is none that is good.
fn shut_out(
    joined: &Joined,
    validity: Option<Validity>,
    status: Option<&Value>,
    now: i64,
) -> Option<Finding> {
    if validity.is_some_and(|validity| now / SECOND < validity.to) {
        return None;
    }
    let told = &status?["link"]["shut_out"];
    let (why, remedy) = (told["why"].as_str()?, told["remedy"].as_str()?);
    let Joined { agent, collector, .. } = joined;
    let found = format!("this host joined {collector} as {agent}, and gets no certificate: {why}");
    Some(problem(CHECK, found, remedy))
}

/// Who looks, and whose the data folder is.
#[derive(Clone, Copy)]
struct Rights {
    us: u32,
    owner: u32,
}

impl Rights {
    fn of(data: &Path) -> Self {
        let us = rustix::process::geteuid().as_raw();
        // What may not even be looked at is somebody else's, whoever that is.
        Self { us, owner: std::fs::metadata(data).map_or(0, |data| data.uid()) }
    }

    fn remedy(self) -> String {
        let owner = self.owner;
        format!(
            "run this command as the agent's user, who is user {owner}: setpriv --reuid {owner} --clear-groups telemetryx-agent doctor (sudo -u telemetryx-agent telemetryx-agent doctor where a package made that user)"
        )
    }
}

/// What to do where this user may not read the enrolment, so that no link can be tried; `None` where it can, or is known to be bad.
pub fn hidden(config: &Config) -> Option<String> {
    let rights = Rights::of(&config.agent.data_dir);
    let broken = config.uplink.broken.as_ref().filter(|broken| broken.withheld && rights.us != rights.owner);
    broken.map(|_| rights.remedy())
}

fn unusable(Broken { found, remedy, withheld }: Broken, rights: Rights) -> Finding {
    if withheld && rights.us != rights.owner {
        let found = format!("{found}, user {}: whether the enrolment is sound can't be told", rights.us);
        return warning(CHECK, found, rights.remedy());
    }
    problem(CHECK, format!("{found}: there is no link, and readings are kept"), remedy)
}

fn judge(joined: &Joined, validity: Option<Validity>, now: i64) -> Finding {
    let Joined { agent, collector, .. } = joined;
    let Some(Validity { from, to }) = validity else {
        return warning(
            CHECK,
            format!("this host joined {collector} as {agent}, and waits for approval"),
            format!(
                "on the collector: telemetryx agents approve {agent}; the running agent then fetches its certificate, or says here that the host was rejected"
            ),
        );
    };
    let (begins, ends) = (moment(from.checked_mul(SECOND)), moment(to.checked_mul(SECOND)));
    if !in_time(Validity { from, to }, now) {
        return problem(
            CHECK,
            format!(
                "this host's clock says {}, and its certificate was issued on {begins}",
                moment(Some(now))
            ),
            "set the clock, or run a time service (chrony, systemd-timesyncd): the certificate itself is good, and the link may work all the same",
        );
    }
    if now / SECOND >= to {
        return problem(
            CHECK,
            format!("the certificate of agent {agent} expired on {ends}"),
            format!(
                "run the agent: it renews it by itself once it reaches {collector}, however late; is that address right, and open from here?"
            ),
        );
    }
    if now / SECOND >= from + (to - from) / 6 * 5 {
        return warning(
            CHECK,
            format!("the certificate of agent {agent} is due for renewal, and good until {ends}"),
            format!("does the agent run, and does it reach {collector}? Its log says why a renewal failed"),
        );
    }
    ok(CHECK, format!("agent {agent}, joined at {collector}, certificate good until {ends}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    const GOOD: Validity = Validity { from: FROM, to: FROM + 90 * DAY };

    fn joined() -> Joined {
        Joined {
            agent: "pump".into(),
            site: String::new(),
            collector: "https://c:8420".into(),
            gateway: "https://c:8421".into(),
            server_name: String::new(),
            ca_file: None,
        }
    }

    fn at(seconds: i64) -> Finding {
        judge(&joined(), Some(GOOD), seconds * SECOND)
    }

    #[test]
    fn who_gets_no_certificate_reads_why_and_what_to_do() {
        let told =
            serde_json::json!({"link": {"shut_out": {"why": "it was rejected", "remedy": "ask again"}}});
        let found =
            |validity, status, day| shut_out(&joined(), validity, status, (FROM + day * DAY) * SECOND);
        for one in [found(None, Some(&told), 1), found(Some(GOOD), Some(&told), 91)].map(Option::unwrap) {
            assert_eq!((one.level, one.remedy.as_str()), (Level::Problem, "ask again"));
            assert!(one.found.contains("it was rejected"), "{}", one.found);
        }
        assert_eq!(found(Some(GOOD), Some(&told), 1), None, "that was before it joined again");
        let waits = serde_json::json!({"link": {"shut_out": null}});
        assert_eq!((found(None, Some(&waits), 1), found(None, None, 1)), (None, None));
    }

    #[test]
    fn what_only_the_agents_user_may_read_is_no_damage_to_another_and_what_that_user_may_not_is_a_problem() {
        let found = "key.pem can't be read by this user (denied)";
        let broken = |withheld| Broken { found: found.into(), remedy: "mend it".into(), withheld };
        let other = unusable(broken(true), Rights { us: 1000, owner: 990 });
        assert_eq!(other.level, Level::Warning);
        assert!(other.found.contains("can't be told") && other.remedy.contains("--reuid 990"), "{other:?}");
        for (withheld, us) in [(true, 990), (false, 1000), (false, 990)] {
            let own = unusable(broken(withheld), Rights { us, owner: 990 });
            assert_eq!((own.level, own.remedy.as_str()), (Level::Problem, "mend it"), "{own:?}");
        }
    }

    #[test]
    fn a_consoles_authority_that_is_not_at_hand_is_told_while_the_certificate_is_good() {
        let told = |day: i64| {
            let doubt =
                Doubt { found: "ca.pem can't be used (gone)".into(), remedy: "put it at /i/copy".into() };
            doubtful(at(FROM + day * DAY), doubt, in_time(GOOD, (FROM + day * DAY) * SECOND))
        };
        for (day, level) in [(1, Level::Warning), (80, Level::Warning), (91, Level::Problem)] {
            let told = told(day);
            assert_eq!(told.level, level);
            assert!(told.found.contains("ca.pem can't be used (gone)"), "{}", told.found);
            // What an expired certificate alone would take is of no use until that is mended.
            assert_eq!(told.remedy, "put it at /i/copy");
        }
        let unset = told(-1);
        assert!(unset.remedy.starts_with("put it at /i/copy; set the clock"), "{}", unset.remedy);
    }

    #[test]
    fn each_mistake_has_its_own_words_and_way_out() {
        assert_eq!(at(FROM + DAY).level, Level::Ok);
        assert_eq!(at(FROM + 80 * DAY).level, Level::Warning);
        let expired = at(FROM + 91 * DAY);
        assert!(expired.found.contains("expired on") && expired.remedy.contains("renews it by itself"));
        let unset = at(100);
        assert!(unset.found.contains("clock says 1970") && unset.remedy.starts_with("set the clock"));
    }
}
