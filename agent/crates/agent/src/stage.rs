//! The pipeline that is there now, for whoever asks from outside while it may begin anew: the control socket, requests of the
//! collector.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use toml::Table;

use crate::status::Reporter;
use crate::tap::Taps;

/// A pipeline that begins anew is there again within this time, or somebody is told that it isn't.
const PATIENCE: Duration = Duration::from_secs(8);

/// What can be asked of it.
pub struct Shown {
    /// How it is.
    pub reporter: Arc<Reporter>,
    /// What flows.
    pub taps: Arc<Taps>,
    /// The configuration that it goes by.
    pub config: Mutex<Table>,
}

/// Shows one pipeline after the other.
pub struct Stage(watch::Sender<Option<Arc<Shown>>>);

/// Looks at the one that is there.
#[derive(Clone)]
pub struct Seat(watch::Receiver<Option<Arc<Shown>>>);

impl Stage {
    /// Empty.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Another place to look from.
    pub fn seat(&self) -> Seat {
        Seat(self.0.subscribe())
    }

    /// This one is there now.
    pub fn enter(&self, shown: Arc<Shown>) {
        self.0.send_replace(Some(shown));
    }

    /// None is.
    pub fn leave(&self) {
        self.0.send_replace(None);
    }
}

impl Seat {
    /// The one that is there, or soon is.
    pub async fn shown(&mut self) -> Option<Arc<Shown>> {
        match tokio::time::timeout(PATIENCE, self.0.wait_for(Option::is_some)).await {
            Ok(Ok(shown)) => shown.clone(),
            _ => None,
        }
    }

    /// Returns when another one is there, or none. False when there will be no more.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}
