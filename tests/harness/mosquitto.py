"""A site's broker: mosquitto on a port of its own, restartable in place, with TLS where a test wants it."""

import os
import subprocess
from pathlib import Path

from tests.harness.processes import Process, free_port, until
from tests.harness.stack import listens


class Mosquitto:
    """One broker; `kill` and `start` keep its port, and nothing else: it persists nothing."""

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        """Write its config; with TLS also a certificate for `localhost`, signed by an authority of its own (`ca`)."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.ca, self._ca_key = folder / "ca.pem", folder / "ca.key"
        self._cert, self._key = folder / "cert.pem", folder / "key.pem"
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
            self._certify()
            lines += [f"certfile {self._cert}", f"keyfile {self._key}"]
        self.config = folder / "mosquitto.conf"
        self.config.write_text("\n".join(lines) + "\n")
        self.process: Process | None = None

    def _certify(self) -> None:
        make = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]
        authority = ["-subj", "/CN=a site", "-keyout", self._ca_key, "-out", self.ca]
        server = [
            "-CA",
            self.ca,
            "-CAkey",
            self._ca_key,
            "-subj",
            "/CN=localhost",
            "-keyout",
            self._key,
            "-out",
            self._cert,
        ]
        extensions = ["subjectAltName=DNS:localhost", "basicConstraints=critical,CA:FALSE"]
        server += [word for extension in extensions for word in ("-addext", extension)]
        for words in (authority, server):
            subprocess.run([*make, *map(str, words)], check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.process = Process("mosquitto", ["mosquitto", "-c", self.config], self.folder / "mosquitto.log")
        until(f"mosquitto listens on {self.port}", lambda: listens(self.port))

    def kill(self) -> None:
        """Kill it."""
        if self.process is not None and self.process.running:
            self.process.kill()
