//! The control socket: how `status`, `tap`, `rejects` and `remote forget` ask the running agent.
//!
//! A Unix socket in the data folder (mode 0600). One request line a connection, answered with JSON
//! lines: `status` one object, `rejects` one array, `tap` a line a reading until the client leaves. It goes on
//! while the pipeline begins anew.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use uplink::{Asked, Care};
use wire::v1;

use crate::remote::Pushed;
use crate::stage::Seat;

const MAX_CLIENTS: usize = 32;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a socket that can't be made is tried again.
const BIND_RETRY: Duration = Duration::from_secs(5);
/// What the address of a Unix socket has room for, without the zero at its end.
const LONGEST_ADDRESS: usize = 107;

/// Where the socket of a data folder is.
pub fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("agent.sock")
}

/// A name of the socket that fits into a socket's address.
pub struct Address {
    path: PathBuf,
    /// Open for as long as that name is used.
    _folder: Option<File>,
}

impl Address {
    /// The name.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// How the socket is named to the system: an address has room for a short name only, and a data folder may have a long one.
///
/// # Errors
/// When the folder can't be opened.
pub fn address(data_dir: &Path) -> std::io::Result<Address> {
    let path = socket(data_dir);
    if path.as_os_str().len() <= LONGEST_ADDRESS {
        return Ok(Address { path, _folder: None });
    }
    let folder = File::open(data_dir)?;
    let path = socket(&PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())));
    Ok(Address { path, _folder: Some(folder) })
}

/// Binds the socket; a stale one of a crashed agent is replaced (the data folder's lock is ours).
///
/// # Errors
/// As the system says.
pub fn listener(data_dir: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    let path = socket(data_dir);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(address(data_dir)?.path())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Binds the socket, and where that can't be done tries it again and again: whom nobody can ask takes readings all the same.
async fn bound(data_dir: &Path, first: std::io::Result<UnixListener>) -> UnixListener {
    let mut bound = first;
    let mut told = false;
    loop {
        match bound {
            Ok(listener) if told => {
                tracing::info!("the control socket is there now");
                return listener;
            }
            Ok(listener) => return listener,
            Err(error) if !std::mem::replace(&mut told, true) => tracing::error!(
                socket = %socket(data_dir).display(),
                %error,
                "the control socket can't be made: `status`, `top` and `tap` can't ask this agent until it can; readings are taken. Look after that folder and the inodes of its disk (df -i)"
            ),
            Err(_) => {}
        }
        tokio::time::sleep(BIND_RETRY).await;
        bound = bind(data_dir);
    }
}

/// As [`listener`], for the runtime.
///
/// # Errors
/// As the system says.
pub fn bind(data_dir: &Path) -> std::io::Result<UnixListener> {
    UnixListener::from_std(listener(data_dir)?)
}

/// Serves until shutdown, on what [`bind`] gave.
pub async fn serve(
    data_dir: PathBuf,
    first: std::io::Result<UnixListener>,
    seat: Seat,
    remote: Arc<Care>,
    shutdown: CancellationToken,
) {
    let listener = tokio::select! {
        listener = bound(&data_dir, first) => listener,
        () = shutdown.cancelled() => return,
    };
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < MAX_CLIENTS => match accepted {
                Ok((stream, _)) => {
                    let (seat, remote, shutdown) = (seat.clone(), Arc::clone(&remote), shutdown.clone());
                    clients.spawn(async move {
                        tokio::select! {
                            // A client that leaves in the middle is no event.
                            _ = answer(stream, seat, &remote) => {}
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

async fn answer(stream: UnixStream, mut seat: Seat, remote: &Care) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut request = String::new();
    let mut limited = BufReader::new(read).take(256);
    tokio::time::timeout(REQUEST_TIMEOUT, limited.read_line(&mut request)).await??;
    let Some(shown) = seat.shown().await else {
        let error = serde_json::json!({"error": "the agent's pipeline is beginning anew: ask again"});
        return write.write_all(line(&error).as_bytes()).await;
    };
    // Nothing of the pipeline is held while the client reads: its logs are opened anew when it begins anew.
    match request.trim() {
        "status" => {
            let text = line(&shown.reporter.status());
            drop(shown);
            write.write_all(text.as_bytes()).await
        }
        "rejects" => {
            let text = line(&shown.reporter.rejects());
            drop(shown);
            write.write_all(text.as_bytes()).await
        }
        "remote forget" => {
            drop(shown);
            // As if the collector took it back.
            let nothing = Pushed::default();
            let digest = nothing.digest().to_vec();
            remote.ask(Asked::Config(v1::PushedConfig { version: 0, toml: nothing.toml, digest }));
            write.write_all(line(&serde_json::json!({"ok": true})).as_bytes()).await
        }
        "tap" => {
            let mut viewer = shown.taps.watch();
            drop(shown);
            // What is folded last of one pipeline is shown before the next one's.
            loop {
                let more = tokio::select! {
                    biased;
                    next = viewer.next() => match next {
                        Some(next) => {
                            let text = match next {
                                Ok(reading) => line(&reading),
                                Err(missed) => line(&serde_json::json!({"kind": "missed", "count": missed})),
                            };
                            write.write_all(text.as_bytes()).await?;
                            continue;
                        }
                        None => seat.changed().await,
                    },
                    more = seat.changed() => more,
                };
                match (more, seat.shown().await) {
                    (true, Some(shown)) => viewer = shown.taps.watch(),
                    _ => return Ok(()),
                }
            }
        }
        other => {
            let error = format!("unknown request {other:?}: ask for status, rejects, tap or remote forget");
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
