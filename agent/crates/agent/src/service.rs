//! What a service manager is told (systemd's `Type=notify`): one datagram a message, lines of `NAME=value`, to the socket
//! that `NOTIFY_SOCKET` names. Without that variable nobody is told, and nothing differs.
//!
//! Sixty lines over std rather than a crate: std speaks abstract sockets by itself, and the protocol is frozen.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use parking_lot::Mutex;

/// A manager that doesn't read must not stop us.
const PATIENCE: Duration = Duration::from_secs(1);
/// The manager shows one line.
const LONGEST_STATUS: usize = 400;

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Service {
    link: Option<Link>,
    /// How soon it wants to hear from us, again and again.
    watchdog: Option<Duration>,
    said: Mutex<String>,
}

#[derive(Debug)]
struct Link {
    socket: UnixDatagram,
    to: SocketAddr,
}

impl Service {
    /// As the environment says. A socket that can't be used is told in the log: then the manager gives up by its own time-out.
    pub fn from_env() -> Self {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Self::default();
        };
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(Duration::from_micros);
        match Link::open(path.as_encoded_bytes()) {
            Ok(link) => Self { link: Some(link), watchdog, said: Mutex::default() },
            Err(error) => {
                tracing::error!(%error, socket = %path.display(), "the service manager can't be told how the agent is: NOTIFY_SOCKET");
                Self::default()
            }
        }
    }

    /// Whether anybody listens.
    pub fn listens(&self) -> bool {
        self.link.is_some()
    }

    /// Within this time [`Service::feed`] must be called, again and again; `None` when nobody wants that.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The start, or a reload, is done.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", self.remember(status)));
    }

    /// How it is, in one line; what was said last isn't said again.
    pub fn status(&self, status: &str) {
        let line = one_line(status);
        if *self.said.lock() != line {
            self.send(&format!("STATUS={}", self.remember(status)));
        }
    }

    /// The start takes longer: until so much later nobody shall give up.
    pub fn extend(&self, by: Duration, status: &str) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}\nSTATUS={}", by.as_micros(), self.remember(status)));
    }

    /// The configuration is read again; [`Service::ready`] ends that.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = now.tv_sec as i128 * 1_000_000 + now.tv_nsec as i128 / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The end begins.
    pub fn stopping(&self) {
        self.send(&format!(
            "STOPPING=1\nSTATUS={}",
            self.remember("stopping: what is here goes to disk, then as far as it can to the collector")
        ));
    }

    /// All is well.
    pub fn feed(&self) {
        self.send("WATCHDOG=1");
    }

    fn remember(&self, status: &str) -> String {
        let line = one_line(status);
        self.said.lock().clone_from(&line);
        line
    }

    fn send(&self, message: &str) {
        if let Some(Link { socket, to }) = &self.link
            && let Err(error) = socket.send_to_addr(message.as_bytes(), to)
        {
            tracing::warn!(%error, "the service manager doesn't hear how the agent is");
        }
    }
}

impl Link {
    /// A path, or `@` and the name of an abstract socket.
    fn open(path: &[u8]) -> std::io::Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let to = match path.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, to })
    }
}

fn one_line(text: &str) -> String {
    let line = crate::human::printable(text);
    match line.char_indices().nth(LONGEST_STATUS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let size = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..size].to_vec()).unwrap()
    }

    fn speaking_to(path: &str) -> Service {
        Service { link: Some(Link::open(path.as_bytes()).unwrap()), ..Service::default() }
    }

    #[test]
    fn a_socket_in_the_file_system_and_an_abstract_one_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        speaking_to(path.to_str().unwrap()).feed();
        assert_eq!(heard(&socket), "WATCHDOG=1");

        let name = format!("telemetryx-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        speaking_to(&format!("@{name}")).ready("here");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=here");
    }

    #[test]
    fn a_status_is_one_line_and_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let service = speaking_to(path.to_str().unwrap());
        service.status("first\nREADY=1");
        service.status("first\nREADY=1");
        service.status(&"é".repeat(1000));
        assert_eq!(heard(&socket), "STATUS=first READY=1");
        assert_eq!(heard(&socket).chars().count(), "STATUS=".len() + LONGEST_STATUS + 1);
    }

    #[test]
    fn a_manager_that_is_gone_hurts_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        drop(UnixDatagram::bind(&path).unwrap());
        speaking_to(path.to_str().unwrap()).feed();
    }
}
