//! The control socket: how `status`, `tap` and `rejects` ask the running agent.
//!
//! A Unix socket in the data folder (mode 0600). One request line a connection, answered with JSON
//! lines: `status` one object, `rejects` one array, `tap` a line a reading until the client leaves.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::status::Reporter;
use crate::tap::Taps;

const MAX_CLIENTS: usize = 32;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the socket of a data folder is.
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("agent.sock")
}

/// Binds the socket; a stale one of a crashed agent is replaced (the data folder's lock is ours).
///
/// # Errors
/// As the system says.
pub fn bind(data_dir: &Path) -> std::io::Result<UnixListener> {
    let path = socket(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until shutdown.
pub async fn serve(
    listener: UnixListener,
    reporter: Arc<Reporter>,
    taps: Arc<Taps>,
    shutdown: CancellationToken,
) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < MAX_CLIENTS => match accepted {
                Ok((stream, _)) => {
                    let (reporter, taps, shutdown) = (Arc::clone(&reporter), Arc::clone(&taps), shutdown.clone());
                    clients.spawn(async move {
                        tokio::select! {
                            // A client that leaves in the middle is no event.
                            _ = answer(stream, &reporter, &taps) => {}
                            () = shutdown.cancelled() => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = clients.join_next() => {}
            () = shutdown.cancelled() => break,
        }
    }
    while clients.join_next().await.is_some() {}
}

async fn answer(stream: UnixStream, reporter: &Reporter, taps: &Arc<Taps>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut request = String::new();
    let mut limited = BufReader::new(read).take(256);
    tokio::time::timeout(REQUEST_TIMEOUT, limited.read_line(&mut request)).await??;
    match request.trim() {
        "status" => write.write_all(line(&reporter.status()).as_bytes()).await,
        "rejects" => write.write_all(line(&reporter.rejects()).as_bytes()).await,
        "tap" => {
            let mut viewer = taps.watch();
            while let Some(next) = viewer.next().await {
                let text = match next {
                    Ok(reading) => line(&reading),
                    Err(missed) => line(&serde_json::json!({"kind": "missed", "count": missed})),
                };
                write.write_all(text.as_bytes()).await?;
            }
            Ok(())
        }
        other => {
            let error = format!("unknown request {other:?}: ask for status, rejects or tap");
            write.write_all(line(&serde_json::json!({ "error": error })).as_bytes()).await
        }
    }
}

fn line(value: &impl serde::Serialize) -> String {
    let mut text =
        serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()));
    text.push('\n');
    text
}
