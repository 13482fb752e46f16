//! The table of inputs: which are configured, what they are called, how each is started.

use std::sync::Arc;

use inputs::{Clock, Door, Rejects, Retry, Timeline};
use journal::Journal;
use telemetry::SeriesTable;
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
    /// Where an input may keep state of its own.
    pub data_dir: std::path::PathBuf,
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
        .with_timeline(Arc::clone(&frame.timeline));
        doors.push(door.clone());
        tasks.spawn(keep(kind, door, frame.data_dir.clone(), shutdown.clone()));
    }
    doors
}

/// Runs an input until shutdown, again and again if need be.
async fn keep(kind: Kind, door: Door, data_dir: std::path::PathBuf, shutdown: CancellationToken) {
    let mut retry = Retry::default();
    loop {
        let result = run(kind.clone(), door.clone(), &data_dir, shutdown.clone()).await;
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
    door: Door,
    data_dir: &std::path::Path,
    shutdown: CancellationToken,
) -> Result<(), String> {
    match kind {
        Kind::Mqtt(config) => inputs::mqtt::run(config, door, &data_dir.join("sessions"), shutdown)
            .await
            .map_err(|e| e.to_string()),
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
