//! What changes while the port is open: who may do what (the configuration is read again), and the files of TLS
//! (a certificate is renewed, a list of revoked ones grows).
//!
//! What was taken away is taken away here and now: connections that would not be let in any more are cut, sessions of
//! users who are gone are ended, and what waits for a session that may not read it any more is dropped. Files that
//! can't be used change nothing: what was read before stays in force, `status` says so, and they are tried again.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::MqttError;
use super::access::Access;
use super::broker::Broker;
use super::config::MqttConfig;
use super::session::{Cut, Session};
use super::tls::Secure;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How often the certificates of open connections are judged again: they expire.
const JUDGE: Duration = Duration::from_secs(3_600);

/// The section as it stands in the config file: who may do what follows it while the port is open, all else at the next
/// start.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    newest: watch::Sender<(u64, MqttConfig)>,
    in_force: watch::Sender<u64>,
}

impl LiveConfig {
    /// As it is at the start.
    pub fn new(config: MqttConfig) -> Self {
        Self { newest: watch::Sender::new((1, config)), in_force: watch::Sender::new(0) }
    }

    /// The newest.
    pub fn config(&self) -> MqttConfig {
        self.newest.borrow().1.clone()
    }

    /// Another from now on; the port takes it in soon, and when it is opened again.
    pub fn set(&self, config: MqttConfig) {
        self.newest.send_modify(|newest| *newest = (newest.0 + 1, config));
    }

    /// Waits until the port has judged by the newest: whoever may not stay is told so, and what may not be delivered
    /// isn't.
    pub async fn in_force(&self) {
        let newest = self.newest.borrow().0;
        // Fails only when every sender is gone, and this is one.
        let _ = self.in_force.subscribe().wait_for(|judged| *judged >= newest).await;
    }

    /// The newest, to begin by.
    pub(super) fn begin(&self) -> MqttConfig {
        let (number, config) = self.newest.borrow().clone();
        self.in_force.send_replace(number);
        config
    }
}

/// What is told of here: no port, and beside both.
const FILES: u8 = 2;

/// Runs until shutdown.
pub(super) async fn run(broker: Arc<Broker>, live: LiveConfig, shutdown: CancellationToken) {
    let mut configs = live.newest.subscribe();
    let judged_by = *live.in_force.borrow();
    if configs.borrow().0 > judged_by {
        configs.mark_changed();
    }
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = state_of(&broker.access().config);
    let mut judged = Instant::now();
    loop {
        let mut changed_keys = false;
        tokio::select! {
            () = shutdown.cancelled() => return,
            // `live` is a sender: it can't end.
            Ok(()) = configs.changed() => {
                let (number, config) = configs.borrow_and_update().clone();
                match apply(&broker, config) {
                    Ok(()) => tracing::info!("who may use the MQTT port was read again"),
                    Err(error) => tracing::error!(%error, "who may use the MQTT port stays as it was"),
                }
                live.in_force.send_replace(number);
                changed_keys = true;
            }
            _ = look.tick() => {}
        }
        // Until the port could be opened, those who open it look.
        if broker.secure.read().is_none() {
            continue;
        }
        let now = state_of(&broker.access().config);
        if changed_keys || now != seen {
            match load(&broker).await {
                Ok(()) => {
                    if now != seen {
                        tracing::info!("the certificates of the MQTT port were read again");
                    }
                    broker.door.stats.recovered(FILES);
                    seen = now;
                }
                Err(error) => {
                    let why = format!("{error}; until then the certificates of before stay in force");
                    if broker.door.stats.stumbled(FILES, &why) {
                        tracing::error!("{why}");
                    }
                    continue;
                }
            }
        } else if judged.elapsed() < JUDGE {
            continue;
        }
        judged = Instant::now();
        judge(&broker);
    }
}

/// Reads the files of TLS and puts them in force.
pub(super) async fn load(broker: &Arc<Broker>) -> Result<(), MqttError> {
    let access = broker.access();
    let secure = tokio::task::spawn_blocking(move || Secure::load(&access.config)).await??;
    *broker.secure.write() = secure.map(Arc::new);
    Ok(())
}

/// Which files, and which content as far as the file system tells.
type State = Vec<Option<(std::path::PathBuf, u64, u64, i64, i64)>>;

fn state_of(config: &MqttConfig) -> State {
    let files = [&config.cert_file, &config.key_file, &config.client_ca_file, &config.crl_file];
    let of = |path: &Path| {
        let meta = std::fs::metadata(path).ok();
        let read = meta.map(|meta| (meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec()));
        let (inode, length, seconds, nanos) = read.unwrap_or_default();
        (path.to_owned(), inode, length, seconds, nanos)
    };
    files.into_iter().map(|file| file.as_deref().map(of)).collect()
}

/// Puts another configuration in force, as far as it says who may do what.
fn apply(broker: &Broker, config: MqttConfig) -> Result<(), MqttError> {
    config.check()?;
    let before = broker.access();
    let access = Access::new(config, Some(&before))?;
    // From here on whoever is let in is so by the new one, or is found below.
    *broker.access.write() = Arc::clone(&access);
    let sessions: Vec<_> = broker.sessions.lock().values().cloned().collect();
    for session in sessions {
        renew(broker, &before, &access, &session);
    }
    Ok(())
}

fn renew(broker: &Broker, before: &Access, access: &Access, session: &Arc<Session>) {
    let (user, address) = {
        let state = session.state();
        (state.user.clone(), state.owner.as_ref().map(|owner| owner.address))
    };
    let user = user.as_deref();
    let gone = session.narrow(access.rights(user, &session.client));
    broker.dropped(session, &gone);
    let knows = access.knows(user);
    let ends_session = !access.keeps_session(user, &session.client);
    match address {
        None if ends_session => {
            tracing::info!(client = %session.client, "the session of a user who may not connect any more, or not as this client, is ended");
            broker.end_session(session);
        }
        Some(address) if ends_session || !access.keeps(before, user, address) => {
            let why = match user {
                _ if ends_session && knows => "its client id is another user's now, or none of its user's",
                Some(_) if ends_session => "its user was taken out or revoked",
                Some(_) => "its user has another password, or must show something else now",
                None => "clients without a name aren't let in from there any more",
            };
            session.cut(Cut { why: why.into(), ends_session });
        }
        _ => {}
    }
}

/// Cuts connections whose certificates wouldn't be trusted now.
fn judge(broker: &Broker) {
    let Some(secure) = broker.secure.read().clone() else { return };
    let sessions: Vec<_> = broker.sessions.lock().values().cloned().collect();
    for session in sessions {
        let chain = session.state().owner.as_ref().and_then(|owner| owner.chain.clone());
        if let Some(Err(error)) = chain.map(|chain| secure.trusts(&chain)) {
            session.cut(Cut {
                why: format!("its certificate is trusted no more: {error}"),
                ends_session: false,
            });
        }
    }
}
