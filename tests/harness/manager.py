"""A service manager's ear: the socket that NOTIFY_SOCKET names, and what came on it."""

import socket
import threading
from pathlib import Path

from tests.harness.processes import until


class Manager:
    """Hears what a service says, as systemd would."""

    def __init__(self, folder: Path, watchdog_s: float | None = None) -> None:
        """Listen; with `watchdog_s` the service is asked to say so often that it is alive."""
        path = folder / "notify"
        self.env = {"NOTIFY_SOCKET": str(path)}
        if watchdog_s is not None:
            self.env["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        self._messages: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while text := self._socket.recv(65536).decode():
            self._messages.append(dict(line.split("=", 1) for line in text.splitlines()))

    def heard(self, since: int = 0) -> list[dict[str, str]]:
        """Return the messages so far, from a number on."""
        return self._messages[since:]

    def __len__(self) -> int:
        """How many there were so far."""
        return len(self._messages)

    def wait(self, key: str, part: str = "", since: int = 0) -> dict[str, str]:
        """Wait for a message with `key` whose value holds `part`."""
        return until(
            f"a message with {key}, in it {part!r}",
            lambda: next((said for said in self.heard(since) if key in said and part in said[key]), None),
        )
