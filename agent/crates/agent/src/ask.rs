//! Asks the running agent through its control socket. Every wait has an end: an agent that was stopped (SIGSTOP), or whose
//! disk stands still, still has its socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
use serde_json::Value;

use crate::control;

/// Within this time an agent takes a question, and answers it: longer than its pipeline takes to begin anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer: far more than any status.
const LARGEST: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no agent is running on {path} ({source}): start one with `telemetryx-agent run`, or name its file with --config"
    )]
    NotRunning {
        /// The socket.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It may not be asked.
    #[error(
        "the agent's socket {path} may not be opened by this user: run the command as the agent's user (sudo -u telemetryx-agent telemetryx-agent …), or as root"
    )]
    NotAllowed {
        /// The socket.
        path: String,
    },
    /// It is there and says nothing.
    #[error(
        "the agent on {path} doesn't answer within {} s: it is stopped (kill -CONT goes on with it), its disk stands still, or the host is overloaded; see its log, and restart it if that lasts",
        PATIENCE.as_secs()
    )]
    Silent {
        /// The socket.
        path: String,
    },
    /// It ended, or is ending.
    #[error("the agent on {path} went away without an answer: it has ended or is ending; ask again")]
    Gone {
        /// The socket.
        path: String,
    },
    /// It answers that it can't answer now.
    #[error("the agent says: {0}")]
    Unable(String),
    /// The connection or standard output broke.
    #[error("asking the agent: {0}")]
    Io(#[from] std::io::Error),
    /// The answer is no JSON.
    #[error("the agent's answer can't be read: {0}")]
    Answer(#[from] serde_json::Error),
}

/// One request; the answer as it comes, each wait for it bounded by `patience` where there is one.
///
/// # Errors
/// [`AskError`].
pub fn ask(
    data_dir: &Path,
    request: &str,
    patience: Option<Duration>,
) -> Result<BufReader<UnixStream>, AskError> {
    let path = control::socket(data_dir).display().to_string();
    let mut stream = reach(data_dir).map_err(|source| match source.kind() {
        std::io::ErrorKind::PermissionDenied => AskError::NotAllowed { path: path.clone() },
        // Whoever is stopped takes no more connections once so many wait.
        std::io::ErrorKind::WouldBlock => AskError::Silent { path: path.clone() },
        _ => AskError::NotRunning { path: path.clone(), source },
    })?;
    stream.set_read_timeout(patience)?;
    // A broken pipe is the agent's end here, and not that of whoever reads what we print.
    stream.write_all(format!("{request}\n").as_bytes()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => AskError::Gone { path },
        _ => error.into(),
    })?;
    Ok(BufReader::new(stream))
}

/// Opens the socket; `WouldBlock` when nobody takes the connection in time.
fn reach(data_dir: &Path) -> std::io::Result<UnixStream> {
    let address = control::address(data_dir)?;
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &SocketAddrUnix::new(address.path())?)?;
    Ok(socket.into())
}

/// One request, one answer.
///
/// # Errors
/// [`AskError`].
pub fn ask_once(data_dir: &Path, request: &str) -> Result<Value, AskError> {
    ask_within(data_dir, request, PATIENCE)
}

fn ask_within(data_dir: &Path, request: &str, patience: Duration) -> Result<Value, AskError> {
    let path = control::socket(data_dir).display().to_string();
    let mut line = String::new();
    let read = ask(data_dir, request, Some(patience))?.take(LARGEST).read_line(&mut line);
    match read {
        Ok(0) => return Err(AskError::Gone { path }),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            return Err(AskError::Silent { path });
        }
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            return Err(AskError::Gone { path });
        }
        read => read?,
    };
    let answer: Value = serde_json::from_str(&line)?;
    match answer["error"].as_str() {
        Some(error) => Err(AskError::Unable(error.to_owned())),
        None => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn asking_where_no_agent_runs_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(ask_once(folder.path(), "status"), Err(AskError::NotRunning { .. })));
    }

    #[test]
    fn an_agent_that_was_stopped_is_not_waited_for_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let _stopped = UnixListener::bind(control::socket(folder.path())).unwrap();
        let said = ask_within(folder.path(), "status", Duration::from_millis(20));
        assert!(matches!(said, Err(AskError::Silent { .. })), "{said:?}");
    }

    #[test]
    fn an_agent_that_ends_before_it_answers_is_told_from_one_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(control::socket(folder.path())).unwrap();
        let ended = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let said = ask_once(folder.path(), "status");
        assert!(matches!(said, Err(AskError::Gone { .. })), "{said:?}");
        ended.join().unwrap();
    }

    #[test]
    fn a_data_folder_with_a_name_longer_than_a_sockets_address_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a-folder-with-a-long-name/".repeat(8));
        std::fs::create_dir_all(&data).unwrap();
        let listener = control::listener(&data).unwrap();
        listener.set_nonblocking(false).unwrap();
        let answering = std::thread::spawn(move || {
            let mut question = listener.accept().unwrap().0;
            // Who closes before it has heard the question refuses it.
            assert!(question.read(&mut [0; 64]).unwrap() > 0);
            question.write_all(b"{\"agent\":\"far\"}\n").unwrap();
        });
        assert_eq!(ask_once(&data, "status").unwrap()["agent"], "far");
        answering.join().unwrap();
        assert!(control::socket(&data).exists());
    }
}
