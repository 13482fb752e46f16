//! The ways to the collector, as a real try of each shows them.

use std::time::Duration;

use anyhow::Context;
use uplink::Identity;
use uplink::certificate::Validity;
use uplink::enrolment::Doubt;
use uplink::probe::{Greeted, ProbeReport, SessionRefused, TlsRefused};

use super::{Finding, Level, ok, problem, warning};
use crate::config::Config;
use crate::human::moment;
use crate::identity;

/// A certificate is renewed in good time when it has this long to go.
const RENEW_DAYS: i64 = 14;
const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// What a try of each way showed.
pub struct Probe {
    url: ProbeReport,
    fallback: Option<ProbeReport>,
    console: Option<Doubt>,
}

impl Probe {
    /// That the console isn't trusted, where certificates are renewed.
    pub fn console(&self) -> Option<&Doubt> {
        self.console.as_ref()
    }

    /// This host's clock minus the collector's, nanoseconds.
    pub fn skew(&self) -> Option<i64> {
        [Some(&self.url), self.fallback.as_ref()].into_iter().flatten().find_map(greeted).map(|it| it.skew_ns)
    }
}

fn greeted(report: &ProbeReport) -> Option<&Greeted> {
    report.session.as_ref()?.as_ref().ok()
}

/// Tries both ways, and the door where the certificate is renewed.
///
/// # Errors
/// When the system gives no runtime.
pub fn probe(config: &Config) -> anyhow::Result<Probe> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let identity = Identity {
        agent: config.agent.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        boot: identity::boot_id(),
        labels: Vec::new(),
    };
    let (uplink, now) = (&config.uplink, super::clock::now);
    let patience = Duration::from_secs(uplink.connect_timeout);
    let console = async {
        match &uplink.enrolled {
            Some(enrolled) => enrolled.console_refused(patience).await,
            None => None,
        }
    };
    let ways = async {
        let url = uplink::probe::probe(uplink, &identity, now).await;
        (url, uplink::probe::probe_fallback(uplink, &identity, now).await)
    };
    let (console, (url, fallback)) = runtime.block_on(async { tokio::join!(console, ways) });
    let probe = Probe { url, fallback, console };
    // A name service that doesn't answer must not hold the command up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(probe)
}

/// Says it; `now` is this host's clock in nanoseconds.
pub fn judge(probe: &Probe, now: i64) -> Vec<Finding> {
    let mut findings = way(&probe.url, &CHECKS, now);
    let Some(fallback) = &probe.fallback else { return findings };
    if probe.url.settings.as_ref().is_some_and(Result::is_err) {
        // What is wrong with the section was said.
        return findings;
    }
    let works = greeted(&probe.url).is_some();
    findings.extend(way(fallback, &FALLBACK, now).into_iter().map(|finding| match finding.level {
        Level::Problem if works => Finding {
            level: Level::Warning,
            found: format!("{}; uplink.url works, and there is no second way now", finding.found),
            ..finding
        },
        _ => finding,
    }));
    findings
}

/// What the steps of a way are called.
struct Checks {
    name: &'static str,
    connection: &'static str,
    certificate: &'static str,
    tls: &'static str,
    session: &'static str,
}

const CHECKS: Checks = Checks {
    name: "name",
    connection: "connection",
    certificate: "certificate",
    tls: "tls",
    session: "session",
};
const FALLBACK: Checks = Checks {
    name: "fallback name",
    connection: "fallback connection",
    certificate: "fallback certificate",
    tls: "fallback tls",
    session: "fallback session",
};

fn way(report: &ProbeReport, checks: &Checks, now: i64) -> Vec<Finding> {
    let (url, key) = (&report.url, report.key);
    let who = if report.broker { "broker" } else { "collector" };
    let mut findings = Vec::new();
    if report.waits {
        let found = format!("this host has no certificate yet to connect to {url} with");
        findings.push(problem("link", found, "see `identity`: the agent keeps everything meanwhile"));
        return findings;
    }
    if let Some(Err(error)) = &report.settings {
        let remedy = "mend [uplink] in the config file, or the file that it names: the agent reads it anew for each connection, and keeps everything meanwhile";
        findings.push(problem("link", error, remedy));
        return findings;
    }
    match &report.addresses {
        Some(Ok(addresses)) if addresses.is_empty() => {
            let found = format!("the name in {url} has no address");
            findings.push(problem(
                checks.name,
                found,
                format!("check uplink.{key} and this site's name service"),
            ));
        }
        Some(Ok(addresses)) => {
            let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            findings.push(ok(checks.name, format!("{url} is at {}", list.join(", "))));
        }
        Some(Err(error)) => {
            let found = format!("the name in {url} isn't known: {error}");
            findings.push(problem(checks.name, found, format!("check uplink.{key} and /etc/resolv.conf")));
        }
        None => {}
    }
    match &report.connection {
        Some(Ok(took)) => {
            findings.push(ok(checks.connection, format!("accepted after {:.1} ms", took.as_secs_f64() * 1e3)));
        }
        Some(Err(error)) => findings.push(problem(
            checks.connection,
            format!("{url} doesn't accept connections: {error}"),
            format!("is the {who} running, is the port right, and does a firewall between let it through? Until then the agent keeps everything in its spool"),
        )),
        None => {}
    }
    if let Some(validity) = report.certificate {
        findings.push(certificate(checks.certificate, &format!("the {who}'s certificate"), validity, now));
    }
    match &report.tls {
        Some(Ok(())) => findings.push(ok(checks.tls, "the certificate is trusted and bears the right name")),
        Some(Err(error)) => findings.push(no_tls(checks.tls, report, error)),
        None => {}
    }
    match &report.session {
        Some(Ok(greeted)) => {
            let over = if report.broker { " over the broker" } else { "" };
            let took = greeted.round_trip.as_secs_f64() * 1e3;
            let found = format!("collector {} greets{over} after {took:.1} ms", greeted.collector);
            findings.push(ok(checks.session, found));
        }
        Some(Err(error)) => findings.push(refused(checks.session, key, error)),
        None => {}
    }
    findings
}

/// What a running agent has found out of the size of messages that its broker takes.
pub fn messages(limit: &uplink::BrokerLimit) -> Finding {
    let judged = if limit.stuck { problem } else { warning };
    judged("messages", limit.found(), limit.remedy())
}

fn no_tls(check: &'static str, report: &ProbeReport, error: &TlsRefused) -> Finding {
    let (url, key) = (&report.url, report.key);
    match error {
        TlsRefused::Untrusted(_) => problem(
            check,
            format!("the certificate of {url} is refused: {error}"),
            format!(
                "set uplink.ca_file to the authority that signed it, and uplink.server_name where its name differs from the host in uplink.{key}"
            ),
        ),
        TlsRefused::WrongHost(_) => problem(
            check,
            format!("the certificate of {url} is another host's: {error}"),
            format!(
                "name the host in uplink.{key} as its certificate does, or set uplink.server_name to a name in it; if something else answers there, find out what"
            ),
        ),
        TlsRefused::OutOfTime(_) => problem(
            check,
            format!("by this host's clock the certificate of {url} isn't valid now: {error}"),
            "is this host's clock right? (see `clock`) If it is, the certificate must be renewed there; a collector renews its own when it is started",
        ),
        TlsRefused::Plain(_) => problem(
            check,
            format!("{url} is asked for TLS, and {error}"),
            match report.broker {
                true => {
                    "name the broker's TLS port (8883, mostly), or set up TLS there: plain mqtt:// is for a broker on this host only"
                }
                false => {
                    "name the gateway's port in uplink.url, and set tls_cert_file and tls_key_file in the collector's [gateway]: plain http:// is for a collector on this host only"
                }
            },
        ),
        TlsRefused::Broken(_) => problem(
            check,
            format!("no TLS with {url}: {error}"),
            "is that the right port, and does nothing between end the connection?",
        ),
    }
}

fn refused(check: &'static str, key: &str, error: &SessionRefused) -> Finding {
    let found = error.to_string();
    match error {
        SessionRefused::Token(_) => problem(
            check,
            found,
            "enroll this host with `telemetryx-agent enroll`, or set uplink.token_file to a token that the collector knows: `telemetryx token new --out FILE` there makes one",
        ),
        SessionRefused::Certificate(_) => problem(
            check,
            format!("the collector doesn't accept this agent: {found}"),
            "see `identity`: an expired certificate is renewed by the running agent, any other is replaced by `telemetryx-agent enroll`",
        ),
        SessionRefused::Revoked(_) => problem(
            check,
            found,
            "if that was a mistake: on the collector, `telemetryx enroll token --agent NAME --replace` makes a token, and here `telemetryx-agent enroll URL --token … --replace` joins again; nothing that is spooled is lost",
        ),
        SessionRefused::Name(_) => problem(
            check,
            found,
            "an agent can write only as itself: leave agent.name out of the config file, or enroll the host under that name",
        ),
        SessionRefused::Refused(_) => {
            problem(check, found, "update the older of the two, or rename the agent")
        }
        SessionRefused::Later(_) => {
            warning(check, found, "wait: the agent tries again by itself, and keeps everything meanwhile")
        }
        SessionRefused::Broker(_) => problem(
            check,
            found,
            "is there an MQTT broker on that port? If so, check uplink.mqtt_user, mqtt_password_file and client_cert_file, and that the broker's rights let this agent publish to PREFIX/v1/up/NAME and read PREFIX/v1/down/NAME",
        ),
        SessionRefused::Silent(_) => problem(
            check,
            found,
            "is the collector running with [gateway.mqtt] on this broker, is its prefix the same as uplink.mqtt_prefix, and does it know this host's enrolment, or the token in uplink.token_file? An envelope with a wrong signature gets no answer",
        ),
        SessionRefused::Broken(_) => problem(
            check,
            found,
            format!(
                "is uplink.{key} the collector's [gateway] port, and not its web port? Does it want https? Does a proxy between take HTTP/2? Does the collector stand still?"
            ),
        ),
    }
}

/// Judges a certificate's dates.
pub fn certificate(check: &'static str, whose: &str, validity: Validity, now: i64) -> Finding {
    let until = moment(validity.to.checked_mul(SECOND));
    let now = now / SECOND;
    if now < validity.from {
        let found = format!("{whose} is valid from {} only", moment(validity.from.checked_mul(SECOND)));
        return problem(check, found, "set this host's clock, or wait");
    }
    let days = (validity.to - now) / DAY;
    if now > validity.to {
        return problem(check, format!("{whose} expired on {until}"), "renew it");
    }
    if days < RENEW_DAYS {
        let found =
            format!("{whose} expires in {}, on {until}", crate::human::things(days.unsigned_abs(), "day"));
        return warning(check, found, "renew it");
    }
    ok(check, format!("{whose} is valid until {until}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_its_dates_and_this_hosts_clock() {
        let validity = Validity { from: 1_700_000_000, to: 1_800_000_000 };
        let level = |seconds: i64| certificate("tls", "it", validity, seconds * SECOND).level;
        assert_eq!(level(1_750_000_000), Level::Ok);
        assert_eq!(level(1_800_000_000 - 13 * DAY), Level::Warning);
        assert_eq!(level(1_800_000_001), Level::Problem);
        assert_eq!(level(5), Level::Problem);
    }
}
