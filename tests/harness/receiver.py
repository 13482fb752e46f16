"""A webhook's other end, which keeps what it was told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Receiver:
    """Answers every POST with 200; `told` holds the messages in the order in which they came."""

    def __init__(self) -> None:
        """Listen on a free port."""
        told: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Take a message."""
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.told = told
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def config(self) -> str:
        """The collector's TOML that names it."""
        return f'[[notify.webhook]]\nurl = "http://127.0.0.1:{self._server.server_port}/hook"\n'

    def alerts(self, rule: str) -> list[dict[str, Any]]:
        """Return what was told of a rule's alerts."""
        told = [alert for message in list(self.told) for alert in message["alerts"]]
        return [alert for alert in told if alert["labels"]["alertname"] == rule]

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)
