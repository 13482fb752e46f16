//! The table of inputs: which are configured, what they are called, how each is started.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fold::Span;
use inputs::mqtt::LiveConfig;
use inputs::{Clock, Door, Limits, Rejects, Retry, Timeline};
use journal::Journal;
use seglog::Storage;
use telemetry::{SeriesTable, Tracer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::InputsConfig;

/// What every door is made of.
pub struct Frame {
    /// Where readings go.
    pub journal: Journal,
    /// Series.
    pub table: Arc<SeriesTable>,
    /// Refused readings.
    pub rejects: Arc<Rejects>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Ages.
    pub timeline: Arc<Timeline>,
    /// How far ahead of this host's clock the fold takes readings.
    pub future_limit: Span,
    /// Where an input may keep state of its own.
    pub data_dir: std::path::PathBuf,
    /// The disk there, for what must be written so that the journal comes free.
    pub storage: Arc<dyn Storage>,
    /// Where traces begin, if anywhere.
    pub tracer: Option<Arc<Tracer>>,
}

/// The way to inputs that take a changed configuration without a restart.
pub struct Reloads {
    mqtt: Option<LiveConfig>,
}

impl Reloads {
    /// To the inputs of this configuration.
    pub fn new(config: &InputsConfig) -> Self {
        Self { mqtt: config.mqtt.clone().map(LiveConfig::new) }
    }

    /// Could they take it? The files that it names are read for that.
    ///
    /// # Errors
    /// With section, key and remedy.
    pub fn check(&self, config: &InputsConfig) -> anyhow::Result<()> {
        match (&self.mqtt, &config.mqtt) {
            (Some(_), Some(config)) => config.files().map_err(|error| anyhow::anyhow!("input.mqtt: {error}")),
            _ => Ok(()),
        }
    }

    /// Hands it to them. A section that is new, or gone, takes a restart.
    pub fn send(&self, config: &InputsConfig) {
        if let (Some(live), Some(config)) = (&self.mqtt, &config.mqtt) {
            live.set(config.clone());
        }
    }
}

/// What the sections allow and few want: the section, and a sentence.
pub fn warnings(config: &InputsConfig) -> Vec<(String, String)> {
    let mqtt = config.mqtt.iter().flat_map(inputs::mqtt::MqttConfig::warnings);
    let host = config.host.iter().flat_map(inputs::host::HostConfig::warnings);
    let all = mqtt.map(|said| ("input.mqtt", said)).chain(host.map(|said| ("input.host", said)));
    all.map(|(section, said)| (section.to_owned(), format!("{section}: {said}"))).collect()
}

/// As far ahead of this host's clock as the fold takes readings, their senders must be able to hand them over.
fn limits(future_limit: Span) -> Limits {
    let standard = Limits::default();
    let fold = Duration::from_nanos(future_limit.nanos().unsigned_abs());
    Limits { future: standard.future.max(fold), ..standard }
}

/// An input that can be started.
#[derive(Clone)]
enum Kind {
    Mqtt(inputs::mqtt::MqttConfig),
    MqttClient(inputs::mqtt_client::MqttClientConfig),
    Http(inputs::http::HttpConfig),
    Tcp(inputs::tcp::TcpConfig),
    Host(inputs::host::HostConfig),
}

/// What can't work: of each section the first problem, as the section's name and a sentence with key, value and remedy.
pub fn problems(config: &InputsConfig) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, kind) in table(config) {
        let checked = match &kind {
            Kind::Mqtt(config) => config.check().map_err(|error| error.to_string()),
            Kind::MqttClient(config) => config.check().map_err(|error| error.to_string()),
            Kind::Http(config) => config.check().map_err(|error| error.to_string()),
            Kind::Tcp(config) => config.check().map_err(|error| error.to_string()),
            Kind::Host(config) => config.check().map_err(|error| error.to_string()),
        };
        if let Err(error) = checked {
            found.push((format!("input.{name}"), format!("input.{name}: {error}")));
        }
    }
    found
}

/// Two inputs that want one port: the second one's section, and a sentence.
pub fn clashes(config: &InputsConfig) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    for (name, kind) in table(config) {
        let ports = match &kind {
            Kind::Mqtt(config) => vec![("listen", config.listen), ("tls_listen", config.tls_listen)],
            Kind::Http(config) => vec![("listen", Some(config.listen))],
            Kind::Tcp(config) => vec![("listen", Some(config.listen))],
            Kind::MqttClient(_) | Kind::Host(_) => Vec::new(),
        };
        for (key, port) in ports {
            let Some(port) = port.filter(|port| port.port() != 0) else { continue };
            if let Some((other, owner)) = taken.iter().find(|(other, _)| is_one_port(*other, port)) {
                let said = format!(
                    "input.{name}: {key} = \"{port}\" is taken by input.{owner}, which listens on {other}: give each a port of its own"
                );
                found.push((format!("input.{name}"), said));
            }
            taken.push((port, name.clone()));
        }
    }
    found
}

/// Whether the system would refuse the second: the same port on the same address, or on all of them.
fn is_one_port(one: SocketAddr, other: SocketAddr) -> bool {
    let all = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (all || one.ip() == other.ip())
}

/// Files that inputs need and can't use now: they start without, say so, and try again.
pub fn unusable_files(config: &InputsConfig) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, kind) in table(config) {
        let read = match &kind {
            Kind::Mqtt(config) => config.files().map_err(|error| error.to_string()),
            Kind::MqttClient(config) => config.files().map_err(|error| error.to_string()),
            Kind::Http(config) => config.files().map_err(|error| error.to_string()),
            Kind::Tcp(config) => config.files().map_err(|error| error.to_string()),
            Kind::Host(config) => config.files().map_err(|error| error.to_string()),
        };
        if let Err(error) = read {
            found.push((format!("input.{name}"), format!("input.{name}: {error}")));
        }
    }
    found
}

fn table(config: &InputsConfig) -> Vec<(String, Kind)> {
    let mut table = Vec::new();
    table.extend(config.mqtt.clone().map(|config| ("mqtt".to_owned(), Kind::Mqtt(config))));
    for (at, client) in config.mqtt_client.iter().enumerate() {
        table.push((format!("mqtt_client.{}", at + 1), Kind::MqttClient(client.clone())));
    }
    table.extend(config.http.clone().map(|config| ("http".to_owned(), Kind::Http(config))));
    table.extend(config.tcp.clone().map(|config| ("tcp".to_owned(), Kind::Tcp(config))));
    table.extend(config.host.clone().map(|config| ("host".to_owned(), Kind::Host(config))));
    table
}

/// Starts every configured input in `tasks`; one that fails is reported, tried again, and hurts no other.
pub fn start(
    config: &InputsConfig,
    frame: &Frame,
    reloads: &Reloads,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Vec<Door> {
    let mut doors = Vec::new();
    for (number, (name, kind)) in table(config).into_iter().enumerate() {
        let door = Door::new(
            number as u16,
            &name,
            frame.journal.clone(),
            Arc::clone(&frame.table),
            Arc::clone(&frame.rejects),
            Arc::clone(&frame.clock),
        )
        .with_limits(limits(frame.future_limit))
        .with_timeline(Arc::clone(&frame.timeline))
        .with_tracer(frame.tracer.clone());
        doors.push(door.clone());
        let mqtt = reloads.mqtt.clone();
        let place = (frame.data_dir.clone(), Arc::clone(&frame.storage));
        tasks.spawn(keep(kind, mqtt, door, place, shutdown.clone()));
    }
    doors
}

/// Runs an input until shutdown, again and again if need be.
async fn keep(
    kind: Kind,
    mqtt: Option<LiveConfig>,
    door: Door,
    place: (std::path::PathBuf, Arc<dyn Storage>),
    shutdown: CancellationToken,
) {
    let mut retry = Retry::default();
    loop {
        let result = run(kind.clone(), mqtt.clone(), door.clone(), &place, shutdown.clone()).await;
        if shutdown.is_cancelled() {
            return;
        }
        let why = result.err().unwrap_or_else(|| "it ended by itself".to_owned());
        if matches!(kind, Kind::Mqtt(_)) {
            // Nobody moves the sessions' mark meanwhile, and no session has a mark up to here that isn't in
            // its store or lost with it: without this the journal would fill.
            door.journal.release(journal::Holder::Sessions, door.journal.last());
        }
        if !retry.after(&door, &why, &shutdown).await {
            return;
        }
    }
}

async fn run(
    kind: Kind,
    mqtt: Option<LiveConfig>,
    door: Door,
    (data_dir, storage): &(std::path::PathBuf, Arc<dyn Storage>),
    shutdown: CancellationToken,
) -> Result<(), String> {
    match kind {
        Kind::Mqtt(config) => {
            // By the newest configuration that was taken.
            let live = mqtt.unwrap_or_else(|| LiveConfig::new(config));
            inputs::mqtt::run(live, door, &data_dir.join("sessions"), Arc::clone(storage), shutdown)
                .await
                .map_err(|e| e.to_string())
        }
        Kind::MqttClient(config) => {
            inputs::mqtt_client::run(config, door, shutdown).await.map_err(|e| e.to_string())
        }
        Kind::Http(config) => {
            // Idempotency keys outlive the journal's records.
            let door = door.with_state(Arc::new(seglog::Disk), data_dir.join("http-keys"));
            inputs::http::run(config, door, shutdown).await.map_err(|e| e.to_string())
        }
        Kind::Tcp(config) => inputs::tcp::run(config, door, shutdown).await.map_err(|e| e.to_string()),
        Kind::Host(config) => inputs::host::run(config, door, shutdown).await.map_err(|e| e.to_string()),
    }
}
