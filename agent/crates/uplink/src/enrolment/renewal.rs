//! The next certificate: at two thirds of a life, and after its end too. It is asked for over HTTPS with the host's key, not
//! with the certificate: a TLS handshake refuses an expired one, and months without a link are normal.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use telemetry::clock::SET_AFTER;
use tokio_util::sync::CancellationToken;

use super::console;
use super::folder::Folder;
use super::join::{Read, door};
use super::{EnrolError, Enrolled, ShutOut};
use crate::certificate::Validity;
use crate::state::LinkState;
use crate::{Backoff, Host};

const LABEL: &str = "telemetryx-renew-1";
const SECOND: i64 = 1_000_000_000;
/// The schedule is looked at this often at least: a clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(3_600);
/// Pauses after a failure while the certificate is good, and while there is none that is.
const PATIENT: Duration = Duration::from_secs(3_600);
const URGENT: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(1);

/// When the next certificate is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Now. `urgent`: without it there is no link.
    Due {
        /// There is no certificate that is good now.
        urgent: bool,
    },
    /// Look again after this.
    Wait(Duration),
}

impl Schedule {
    /// By this host's clock, nanoseconds since the epoch; `linked`: whether the link works now.
    pub fn at(validity: Option<Validity>, now: i64, linked: bool) -> Self {
        let Some(Validity { from, to }) = validity else { return Self::Due { urgent: true } };
        if now < SET_AFTER {
            // This clock tells nothing: while the link works, so does the certificate.
            return if linked { Self::Wait(URGENT) } else { Self::Due { urgent: true } };
        }
        let now = now / SECOND;
        let due = from + (to - from) / 3 * 2;
        if now >= due {
            return Self::Due { urgent: now >= to };
        }
        let left = Duration::from_secs((due - now).unsigned_abs());
        Self::Wait(left.clamp(SHORTEST, LOOK))
    }
}

/// Asks for the next certificate and keeps it; `false` while an operator has to approve the host.
///
/// # Errors
/// [`EnrolError`]; the certificate stays as it is.
pub async fn renew(enrolled: &Enrolled) -> Result<bool, EnrolError> {
    let door = door(enrolled)?;
    let key = enrolled.folder.key()?;
    let agent = &enrolled.joined.agent;
    let given = door.ask("/api/v1/enroll/challenge", None).await?;
    let challenge = Read { door: &door, answer: &given }.text("challenge")?;
    let signature = key.sign(format!("{LABEL}\n{agent}\n{challenge}").as_bytes())?;
    let body = json!({"agent": agent, "challenge": challenge, "signature": STANDARD.encode(signature)});
    let answer = door.ask("/api/v1/enroll/renew", Some(&body)).await?;
    match answer["certificate"].as_str() {
        Some(certificate) => enrolled.folder.renewed(certificate).map(|()| true),
        None => Ok(false),
    }
}

/// Keeps the certificate renewed until `shutdown`. What is in the folder counts anew each time: the host may be enrolled again.
pub async fn keep_renewed(
    folder: Folder,
    host: Arc<dyn Host>,
    link: Arc<LinkState>,
    shutdown: CancellationToken,
) {
    let (mut patient, mut urgent) = (Backoff::new(PATIENT), Backoff::new(URGENT));
    loop {
        let pause = match folder.load() {
            Ok(None) => {
                // Whoever was shut out as that host is none any more.
                link.shut_out(None);
                URGENT
            }
            Ok(Some(enrolled)) => {
                console::adopt(&enrolled);
                let linked = link.connected();
                // A damaged one is no certificate: the key gets the next one.
                match Schedule::at(folder.usable(), host.wall(), linked) {
                    // Without a link it may be that somebody looks after the files.
                    Schedule::Wait(pause) => {
                        link.shut_out(None);
                        tokio::select! {
                            () = console::refresh(&enrolled) => {}
                            () = shutdown.cancelled() => return,
                        }
                        if linked { pause } else { pause.min(URGENT) }
                    }
                    Schedule::Due { urgent: now } => {
                        let tried = tokio::select! {
                            tried = async {
                                let tried = renew(&enrolled).await;
                                if tried.is_ok() {
                                    console::refresh(&enrolled).await;
                                }
                                tried
                            } => tried,
                            () = shutdown.cancelled() => return,
                        };
                        tell(&link, &tried, now);
                        let backoff = if now { &mut urgent } else { &mut patient };
                        let linked = link.connected();
                        let next = Schedule::at(folder.usable(), host.wall(), linked);
                        after(&enrolled, tried, next, linked, backoff, host.draw())
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "the enrolment can't be read");
                URGENT
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Has the link's state say who was shut out: without a good certificate (`urgent`) no session tells it. A collector that can't
/// be reached, or has a fault of its own (a status from 500 on), says nothing new.
fn tell(link: &LinkState, tried: &Result<bool, EnrolError>, urgent: bool) {
    match tried {
        Ok(_) => link.shut_out(None),
        Err(EnrolError::Refused { message, hint, status }) if urgent && *status < 500 => {
            link.shut_out(Some(ShutOut { why: message.clone(), remedy: hint.clone() }));
        }
        Err(_) => {}
    }
}

/// Says what came of it, and how long to wait now; `next` is what the schedule says of the certificate that is there.
fn after(
    enrolled: &Enrolled,
    tried: Result<bool, EnrolError>,
    next: Schedule,
    linked: bool,
    backoff: &mut Backoff,
    draw: u32,
) -> Duration {
    match tried {
        Ok(true) => {
            let until = enrolled.folder.validity().map(|validity| validity.to);
            tracing::info!(agent = %enrolled.joined.agent, ?until, "the certificate is renewed");
            if let Err(error) = enrolled.folder.check(true) {
                // Not again and again for a damaged authority's sake.
                tracing::error!(%error, "the next certificate can't be used either");
                return SHORTEST + backoff.next(draw);
            }
            if matches!(next, Schedule::Due { .. }) {
                tracing::warn!(
                    "by this host's clock the certificate that was made just now is old already: the clock is ahead, set it"
                );
            }
            after_success(next, linked, backoff, draw)
        }
        Ok(false) => {
            let pause = SHORTEST + backoff.next(draw);
            tracing::info!(agent = %enrolled.joined.agent, pause_ms = pause.as_millis() as u64, "this host waits until somebody approves it: `telemetryx agents approve {}` on the collector", enrolled.joined.agent);
            pause
        }
        Err(error) => {
            let asked = match &error {
                EnrolError::Later { after, .. } => crate::backoff::asked(*after, draw),
                refused if refused.is_refusal() => URGENT,
                _ => Duration::ZERO,
            };
            let pause = (SHORTEST + backoff.next(draw)).max(asked);
            tracing::warn!(reason = %error, pause_ms = pause.as_millis() as u64, "the certificate can't be renewed now");
            pause
        }
    }
}

/// How long to wait with a new certificate. One that is due at once is so by this host's clock alone, which is ahead by most of a
/// life: the next would be no better, and where the link works it needs none.
fn after_success(next: Schedule, linked: bool, backoff: &mut Backoff, draw: u32) -> Duration {
    match (next, linked) {
        (Schedule::Wait(_), _) => {
            backoff.reset();
            SHORTEST
        }
        (Schedule::Due { .. }, true) => LOOK,
        (Schedule::Due { .. }, false) => SHORTEST + backoff.next(draw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: i64 = 1_800_000_000;
    const DAYS: i64 = 86_400;
    const VALID: Option<Validity> = Some(Validity { from: FROM, to: FROM + 90 * DAYS });

    fn at(day: i64) -> Schedule {
        Schedule::at(VALID, (FROM + day * DAYS) * SECOND, false)
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
        assert_eq!(at(0), Schedule::Wait(LOOK));
        assert_eq!(at(59), Schedule::Wait(LOOK));
        let soon = Schedule::at(VALID, (FROM + 60 * DAYS - 90) * SECOND, true);
        assert_eq!(soon, Schedule::Wait(Duration::from_secs(90)));
        assert_eq!(at(60), Schedule::Due { urgent: false });
        assert_eq!(at(89), Schedule::Due { urgent: false });
    }

    #[test]
    fn one_that_has_ended_or_never_came_is_asked_for_at_once() {
        assert_eq!(at(90), Schedule::Due { urgent: true });
        assert_eq!(at(900), Schedule::Due { urgent: true });
        assert_eq!(Schedule::at(None, 5, true), Schedule::Due { urgent: true });
    }

    #[test]
    fn a_clock_that_is_ahead_by_a_certificates_life_does_not_ask_for_one_again_and_again() {
        let mut backoff = Backoff::new(URGENT);
        let ahead = at(100);
        assert_eq!(after_success(ahead, true, &mut backoff, 0), LOOK);
        let pauses: Vec<_> = (0..12).map(|_| after_success(ahead, false, &mut backoff, u32::MAX)).collect();
        assert!(pauses.is_sorted() && *pauses.last().unwrap() > URGENT / 2, "{pauses:?}");
        assert_eq!(after_success(at(0), true, &mut backoff, 0), SHORTEST, "the clock was set");
    }

    #[test]
    fn who_is_shut_out_is_told_until_the_collector_says_otherwise() {
        let link = LinkState::default();
        link.down(0, "this host waits until somebody approves it");
        let refused = || {
            Err(EnrolError::Refused { status: 403, message: "it was rejected".into(), hint: "ask".into() })
        };
        tell(&link, &refused(), false);
        assert!(link.last_error().contains("waits"), "with a good certificate the session tells");
        let broken =
            EnrolError::Refused { status: 500, message: "something broke".into(), hint: String::new() };
        tell(&link, &Err(broken), true);
        assert!(link.last_error().contains("waits"), "that is the collector's own trouble");
        tell(&link, &refused(), true);
        assert_eq!(link.last_error(), "it was rejected; ask");
        let away = EnrolError::Connect { url: "https://c".into(), why: "away".into(), remedy: "" };
        tell(&link, &Err(away), true);
        link.down(0, "this host waits until somebody approves it");
        assert_eq!(link.last_error(), "it was rejected; ask");
        tell(&link, &Ok(false), true);
        assert!(link.last_error().contains("waits"));
    }

    struct Nobody;

    impl Host for Nobody {
        fn wall(&self) -> i64 {
            FROM * SECOND
        }
        fn mono(&self) -> u64 {
            0
        }
        fn status_json(&self) -> String {
            "{}".into()
        }
    }

    #[tokio::test]
    async fn who_was_shut_out_and_whose_enrolment_was_removed_is_not_told_so_any_more() {
        let data = tempfile::tempdir().unwrap();
        let link = Arc::new(LinkState::default());
        link.shut_out(Some(ShutOut { why: "it was rejected".into(), remedy: "ask".into() }));
        let shutdown = CancellationToken::new();
        let host: Arc<dyn Host> = Arc::new(Nobody);
        let kept = keep_renewed(Folder::of(data.path()), host, Arc::clone(&link), shutdown.clone());
        // It is done before it first waits.
        shutdown.cancel();
        kept.await;
        assert_eq!(link.last_error(), "");
    }

    #[test]
    fn a_clock_that_was_never_set_renews_only_what_does_not_work() {
        assert_eq!(Schedule::at(VALID, 5 * SECOND, true), Schedule::Wait(URGENT));
        assert_eq!(Schedule::at(VALID, 5 * SECOND, false), Schedule::Due { urgent: true });
    }
}
