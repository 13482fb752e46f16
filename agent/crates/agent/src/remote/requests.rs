//! What the collector asks for now: another log level for a while, a diagnostics bundle. Both in turn, beside the pipeline.

use std::path::PathBuf;
use std::sync::Arc;

use inputs::Clock;
use tokio_util::sync::CancellationToken;
use uplink::Care;
use wire::v1::{self, request::What};

use super::bundle::{self, Sources};
use super::state::Remote;
use crate::logging::Logging;
use crate::stage::Seat;

/// Whoever answers, and what is needed for that.
pub struct Desk {
    /// Where requests come from and answers go.
    pub care: Arc<Care>,
    /// Whether any are taken.
    pub remote: Arc<Remote>,
    /// The log.
    pub logging: Arc<Logging>,
    /// The pipeline.
    pub seat: Seat,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// The config file.
    pub path: PathBuf,
    /// The data folder.
    pub data_dir: PathBuf,
}

/// Answers until the token is cancelled.
pub async fn serve(mut desk: Desk, done: CancellationToken) {
    let (care, logging) = (Arc::clone(&desk.care), Arc::clone(&desk.logging));
    let answering = async {
        loop {
            let v1::Request { id, what } = care.next_request().await;
            let outcome = desk.answer(what).await;
            if let Err(error) = &outcome {
                tracing::warn!("a request of the collector was not met: {error}");
            }
            care.answer(&id, outcome);
        }
    };
    tokio::select! {
        () = logging.keep() => {}
        () = answering => {}
        () = done.cancelled() => {}
    }
}

impl Desk {
    async fn answer(&mut self, what: Option<What>) -> Result<Vec<u8>, String> {
        if !self.remote.takes().requests {
            return Err("the host's file says [remote] requests = false".into());
        }
        match what {
            Some(What::LogLevel(level)) => {
                let now = self.clock.now().wall;
                let asked = self.logging.ask(&level.filter, u64::from(level.for_s), now);
                asked.map(|()| Vec::new()).map_err(|error| error.to_string())
            }
            Some(What::Diagnostics(_)) => self.bundle().await,
            None => Err(format!("this agent ({}) doesn't know such a request", env!("CARGO_PKG_VERSION"))),
        }
    }

    async fn bundle(&mut self) -> Result<Vec<u8>, String> {
        let Some(shown) = self.seat.shown().await else {
            return Err("the agent's pipeline is beginning anew: ask again".into());
        };
        let sources = Sources {
            status: serde_json::to_value(shown.reporter.status()).unwrap_or_default(),
            rejects: serde_json::to_value(shown.reporter.rejects()).unwrap_or_default(),
            config: shown.config.lock().clone(),
            log: self.logging.lines(),
            path: self.path.clone(),
            data_dir: self.data_dir.clone(),
            at_ns: self.clock.now().wall,
        };
        // Its logs are opened anew when the pipeline begins anew meanwhile.
        drop(shown);
        tracing::info!("a diagnostics bundle is made, as the collector asked");
        match tokio::task::spawn_blocking(move || bundle::make(&sources)).await {
            Ok(made) => made.map_err(|error| format!("the bundle can't be made: {error:#}")),
            Err(error) => Err(format!("the bundle can't be made: {error}")),
        }
    }
}
