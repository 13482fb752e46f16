//! Who this host is: its name, its boot, its kind, its clock.

use telemetry::{DeviceClock, Record, Stamp};

/// The host's name, or "agent" where the kernel has none that could be used.
pub fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let clean: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(128).collect();
    if clean.is_empty() { "agent".into() } else { clean }
}

/// The kernel's boot id; all zero where there is none.
pub fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let mut id = [0; 16];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = hex.get(at * 2..at * 2 + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0);
    }
    id
}

/// What the collector shows beside the agent's name.
pub fn labels() -> Vec<(String, String)> {
    let uname = rustix::system::uname();
    [
        ("hostname", uname.nodename().to_string_lossy().into_owned()),
        ("os", uname.sysname().to_string_lossy().into_owned()),
        ("kernel", uname.release().to_string_lossy().into_owned()),
        ("arch", uname.machine().to_string_lossy().into_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// The record by which the fold learns that it is this moment.
pub fn tick(at: Stamp, boot: [u8; 16]) -> Record {
    Record::Tick(device_clock(at, boot))
}

/// What this host says of its clock at a moment.
pub fn device_clock(at: Stamp, boot: [u8; 16]) -> DeviceClock {
    DeviceClock { at, boot, synced: at.is_set() }
}
