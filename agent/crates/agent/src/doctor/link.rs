//! The way to the collector, as a real try shows it.

use std::time::Duration;

use anyhow::Context;
use uplink::certificate::Validity;
use uplink::probe::{ProbeReport, SessionRefused};
use uplink::{Identity, UplinkConfig};

use super::{Finding, ok, problem, warning};
use crate::config::Config;
use crate::human::moment;
use crate::identity;

/// A certificate is renewed in good time when it has this long to go.
const RENEW_DAYS: i64 = 14;
const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// What a try showed.
pub struct Probe(ProbeReport);

impl Probe {
    /// This host's clock minus the collector's, nanoseconds.
    pub fn skew(&self) -> Option<i64> {
        Some(self.0.session.as_ref()?.as_ref().ok()?.skew_ns)
    }
}

/// Tries.
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
    let report = runtime.block_on(uplink::probe::probe(&config.uplink, &identity, super::clock::now));
    // A name service that doesn't answer must not hold the command up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(Probe(report))
}

/// Says it; `now` is this host's clock in nanoseconds.
pub fn judge(probe: &Probe, config: &UplinkConfig, now: i64) -> Vec<Finding> {
    let Probe(report) = probe;
    let url = &config.url;
    let mut findings = Vec::new();
    if let Some(Err(error)) = &report.settings {
        findings.push(problem("link", error, "mend [uplink] in the config file"));
        return findings;
    }
    match &report.addresses {
        Some(Ok(addresses)) if addresses.is_empty() => {
            let found = format!("the name in {url} has no address");
            findings.push(problem("name", found, "check uplink.url and this site's name service"));
        }
        Some(Ok(addresses)) => {
            let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            findings.push(ok("name", format!("{url} is at {}", list.join(", "))));
        }
        Some(Err(error)) => {
            let found = format!("the name in {url} isn't known: {error}");
            findings.push(problem("name", found, "check uplink.url and /etc/resolv.conf"));
        }
        None => {}
    }
    match &report.connection {
        Some(Ok(took)) => findings.push(ok("connection", format!("accepted after {:.1} ms", took.as_secs_f64() * 1e3))),
        Some(Err(error)) => findings.push(problem(
            "connection",
            format!("{url} doesn't accept connections: {error}"),
            "is the collector running, is the port right, and does a firewall between let it through? Until then the agent keeps everything in its spool",
        )),
        None => {}
    }
    if let Some(validity) = report.certificate {
        findings.push(certificate("certificate", "the collector's certificate", validity, now));
    }
    if let Some(Err(error)) = &report.tls {
        findings.push(problem(
            "tls",
            format!("the certificate of {url} is refused: {error}"),
            "set uplink.ca_file to the authority that signed it, and uplink.server_name where its name differs from the host in uplink.url",
        ));
    } else if report.tls.is_some() {
        findings.push(ok("tls", "the certificate is trusted and bears the right name"));
    }
    match &report.session {
        Some(Ok(greeted)) => findings.push(ok(
            "session",
            format!(
                "collector {} greets after {:.1} ms",
                greeted.collector,
                greeted.round_trip.as_secs_f64() * 1e3
            ),
        )),
        Some(Err(error)) => findings.push(refused(error)),
        None if report.broker && report.connection.as_ref().is_some_and(Result::is_ok) => {
            findings.push(ok(
                "session",
                "over a broker: whether the collector listens there, `status` tells once the agent runs",
            ));
        }
        None => {}
    }
    findings
}

fn refused(error: &SessionRefused) -> Finding {
    match error {
        SessionRefused::Token(_) => problem(
            "session",
            error.to_string(),
            "set uplink.token_file to a token that the collector knows: `telemetryx token new --out FILE` there makes one",
        ),
        SessionRefused::Refused(_) => {
            problem("session", error.to_string(), "update the older of the two, or rename the agent")
        }
        SessionRefused::Later(_) => warning(
            "session",
            error.to_string(),
            "wait: the agent tries again by itself, and keeps everything meanwhile",
        ),
        SessionRefused::Broken(_) => problem(
            "session",
            error.to_string(),
            "is uplink.url the collector's [gateway] port, and not its web port? Does it want https? Does a proxy between take HTTP/2?",
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
    use super::super::Level;
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
