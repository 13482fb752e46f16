//! Other people's programs, and our client input beside them.

use std::process::{Output, Stdio};
use std::time::Duration;

use inputs::mqtt_client::{self, MqttClientConfig};
use inputs::{Door, Rejects, SystemClock};
use journal::{Journal, JournalConfig};
use seglog::sim::SimDisk;
use telemetry::{Cause, Record, SeriesTable};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::{WAIT, within};

pub fn there(program: &str) -> bool {
    let found = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"]
        .iter()
        .any(|dir| std::path::Path::new(dir).join(program).exists());
    if !found {
        eprintln!("skipped: {program} is not installed (apt-get install mosquitto mosquitto-clients)");
    }
    found
}

pub async fn mosquitto_pub(port: u16, arguments: &[&str]) -> Output {
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments).kill_on_drop(true);
    within(command.output()).await.unwrap()
}

/// A real broker.
pub struct Broker {
    child: Child,
    pub port: u16,
    listener: String,
    dir: tempfile::TempDir,
}

impl Broker {
    /// A mosquitto with persistence on a free port.
    pub async fn start() -> Self {
        Self::listening("").await
    }

    /// The same with further lines for its listeners.
    pub async fn listening(listener: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut broker =
            Self { child: Command::new("true").spawn().unwrap(), port, listener: listener.to_owned(), dir };
        broker.run().await;
        broker
    }

    async fn run(&mut self) {
        let dir = self.dir.path();
        let listeners: String = ["127.0.0.1", "::1"]
            .iter()
            .map(|address| format!("listener {} {address}\n{}\n", self.port, self.listener))
            .collect();
        let config = format!(
            "{listeners}allow_anonymous true\npersistence true\npersistence_location {}/\nautosave_interval 1\n",
            dir.display()
        );
        // mosquitto gives up root for its own user, which must reach the folder.
        std::fs::write(dir.join("mosquitto.conf"), config + "user root\n").unwrap();
        self.child = Command::new("mosquitto")
            .arg("-c")
            .arg(dir.join("mosquitto.conf"))
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        within(async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    pub async fn restart(&mut self) {
        let pid = self.child.id().unwrap().to_string();
        // SIGTERM: it saves its sessions.
        Command::new("kill").arg(pid).status().await.unwrap();
        within(self.child.wait()).await.unwrap();
        self.run().await;
    }
}

/// Our client input with a journal of its own.
pub struct Input {
    pub door: Door,
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<Result<(), mqtt_client::MqttClientError>>,
}

impl Input {
    pub fn start(disk: &SimDisk, port: u16) -> Self {
        Self::with(disk, MqttClientConfig { url: format!("mqtt://127.0.0.1:{port}"), ..Default::default() })
    }

    /// With these settings, apart from topics and client id.
    pub fn with(disk: &SimDisk, config: MqttClientConfig) -> Self {
        let table = SeriesTable::new(1_000);
        let storage = std::sync::Arc::new(disk.clone());
        let (journal, _) = Journal::open(JournalConfig::new("/journal"), storage, table.clone()).unwrap();
        let door = Door::new(
            2,
            "mqtt_client.1",
            journal,
            table,
            Rejects::new().into(),
            std::sync::Arc::new(SystemClock),
        );
        let stop = CancellationToken::new();
        let config =
            MqttClientConfig { topics: vec!["site/#".into()], client_id: "the-agent".into(), ..config };
        let task = tokio::spawn(mqtt_client::run(config, door.clone(), stop.clone()));
        Self { door, stop, task }
    }

    pub async fn received(&self, n: u64) {
        within(async {
            while self.door.stats.count(Cause::Received) < n {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    pub fn values(&self) -> Vec<f64> {
        let last = *self.door.journal.durable().borrow();
        let (mut reader, mut values, mut at) = (self.door.journal.reader(0), Vec::new(), 0);
        while at < last {
            let (position, record) = reader.next(WAIT).unwrap().unwrap();
            at = position;
            if let Record::Intake(intake) = record {
                values.extend(intake.values);
            }
        }
        values
    }

    pub async fn stop(self) {
        self.stop.cancel();
        within(self.task).await.unwrap().unwrap();
        self.door.journal.close();
    }
}
