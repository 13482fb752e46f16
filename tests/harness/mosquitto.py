"""A site's broker: mosquitto on a port of its own, restartable in place, with TLS where a test wants it."""

import os
from pathlib import Path

from tests.harness.certificates import authority, signed
from tests.harness.processes import Process, free_port, until
from tests.harness.stack import listens


class Mosquitto:
    """One broker; `kill` and `start` keep its port, and nothing else: it persists nothing."""

    def __init__(self, folder: Path, *, tls: bool = False, extra: str = "") -> None:
        """Write its config; with TLS also a certificate for `localhost`, signed by an authority of its own (`ca`)."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.ca = folder / "ca.pem"
        self.url = f"{'mqtts' if tls else 'mqtt'}://localhost:{self.port}"
        lines = [
            "per_listener_settings false",
            f"listener {self.port} localhost",
            "socket_domain ipv4",
            "allow_anonymous true",
            "persistence false",
            "log_type all",
        ]
        if os.geteuid() == 0:
            # It would become another user, who can't read a test's key.
            lines.append("user root")
        if tls:
            cert, key = signed(folder, authority(folder, "ca"))
            lines += [f"certfile {cert}", f"keyfile {key}"]
        self.config = folder / "mosquitto.conf"
        self.config.write_text("\n".join([*lines, extra]) + "\n")
        self.process: Process | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.process = Process("mosquitto", ["mosquitto", "-c", self.config], self.folder / "mosquitto.log")
        until(f"mosquitto listens on {self.port}", lambda: listens(self.port))

    def kill(self) -> None:
        """Kill it."""
        if self.process is not None and self.process.running:
            self.process.kill()
