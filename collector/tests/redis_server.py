"""A Redis server of a test's own: Debian's program, a folder in /tmp, a free port and a socket; gone when it is stopped.

A missing server is a failure, not a skip: packaging/bootstrap.sh installs it.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from free_ports import free_port

WAIT_S: Final = 120.0


class RedisServer:
    """One server; `kill`, `freeze`, `thaw` and `start` keep its port. It keeps nothing on disk."""

    def __init__(self, *options: str) -> None:
        """Choose a port and write down the options (as on redis-server's command line)."""
        self._program = shutil.which("redis-server")
        assert self._program, "redis-server is missing: apt-get install redis-server (packaging/bootstrap.sh)"
        self.folder = Path(tempfile.mkdtemp(prefix="telemetryx-redis-"))
        self.socket = self.folder / "socket"
        self.port = free_port()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.password: str | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        tls = "--tls-port" in self._options
        listen = ["--port", "0" if tls else str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._program), *listen, "--bind", "127.0.0.1", "--unixsocket", str(self.socket), "--save", "",
                    "--appendonly", "no", "--dir", str(self.folder), *self._options,
                ],
                stdout=log,
                stderr=log,
            )  # fmt: skip
        end = time.monotonic() + WAIT_S
        while not self._answers():
            log_text = (self.folder / "log").read_text(errors="replace")
            assert self._process.poll() is None, f"redis-server ended:\n{log_text}"
            assert time.monotonic() < end, f"redis-server doesn't answer:\n{log_text}"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(("+PONG", "-LOADING", "-NOAUTH"))
        except OSError:
            return False

    def command(self, *words: str) -> str:
        """Send a command beside whoever uses the server (over its socket); return the raw answer."""
        sent = [words] if self.password is None else [("AUTH", self.password), words]
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(WAIT_S)
            link.connect(str(self.socket))
            answer = ""
            for one in sent:
                link.sendall(
                    f"*{len(one)}\r\n".encode()
                    + b"".join(f"${len(word.encode())}\r\n{word}\r\n".encode() for word in one)
                )
                answer = link.recv(1 << 20).decode(errors="replace")
        return answer

    def kill(self) -> None:
        """Kill it: everything that it held is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let it hang: connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop it and delete everything."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGCONT)
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
