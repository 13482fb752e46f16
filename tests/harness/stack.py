"""A collector and its agents in a folder of their own, each on free ports, restartable in place."""

import json
import os
import socket
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.harness.processes import PATIENCE, Process, free_port, until

ROOT = Path(__file__).resolve().parents[2]
AGENT = Path(os.environ.get("TELEMETRYX_AGENT", ROOT / "agent/target/debug/telemetryx-agent"))


#: Keeps readings of any age: for tests whose times stand in them.
KEEPS_ALL = '[store]\nraw_retention = "36500d"\nrollup_retention = "36500d"\nevent_retention = "36500d"\n'


class Collector:
    """One collector; `kill` and `start` keep its data and its ports."""

    def __init__(self, folder: Path, extra: str = "", arguments: Sequence[str] = ()) -> None:
        """Write its config; `extra` is TOML that is appended, `arguments` are the command's."""
        self.folder = folder
        self.arguments = arguments
        folder.mkdir(parents=True, exist_ok=True)
        self.http = free_port()
        self.grpc = free_port()
        self.config = folder / "collector.toml"
        self.config.write_text(
            f'[collector]\ndata_dir = "{folder / "data"}"\nlog_format = "json"\n'
            f'[api]\nlisten = "127.0.0.1:{self.http}"\nmax_requests_per_second = 10000.0\n'
            f'[gateway]\nlisten = "127.0.0.1:{self.grpc}"\n{extra}'
        )
        self.env: dict[str, str] = {}
        self.authority: Path | None = None
        """Whose certificate its people's door shows, where it speaks TLS."""
        self.process: Process | None = None

    @property
    def home(self) -> str:
        """Where people meet it."""
        return f"http{'' if self.authority is None else 's'}://127.0.0.1:{self.http}"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "data/telemetry.db"

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until it is ready."""
        self.process = Process(
            "collector",
            [sys.executable, "-m", "telemetryx", "collector", "--config", self.config, *self.arguments],
            self.folder / "collector.log",
            {"PYTHONPATH": str(ROOT / "collector/src"), **self.env},
        )
        if wait:
            self.ready()

    def ready(self) -> None:
        """Wait until it says so."""
        until("the collector is ready", lambda: self._alive() and self.get("/readyz") is not None)

    def _alive(self) -> bool:
        assert self.process is not None
        assert self.process.running, f"the collector ended:\n{self.process.tail()}"
        return True

    def get(self, path: str, **query: object) -> Any:
        """GET JSON (or text)."""
        url = f"{self.home}{path}"
        if query:
            url += "?" + urllib.parse.urlencode(query, doseq=True)
        trusted = None if self.authority is None else ssl.create_default_context(cafile=self.authority)
        with urllib.request.urlopen(url, timeout=PATIENCE, context=trusted) as answer:
            body = answer.read()
        try:
            return json.loads(body)
        except ValueError:
            return body.decode()

    def post(self, path: str, **body: str) -> dict[str, Any]:
        """Post JSON, and return the answer's."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return dict(json.load(answer))

    def latest(self, selector: str) -> list[dict[str, Any]]:
        """Return the series that match, with their latest values."""
        return list(self.get("/api/v1/series", match=selector, limit=1000)["series"])

    def values(self, selector: str, start: str = "-1d", end: str = "now") -> list[list[float]]:
        """Return the raw values of every series that matches."""
        answer = self.get(
            "/api/v1/query_range", match=selector, start=start, end=end, agg="raw", max_points=1_000_000
        )
        # A start before the oldest reading that is kept raw takes nothing away; nor does a series that is still to come.
        harmless = ("raw readings from before", "no series matches")
        missing = [said for said in answer["warnings"] if not said.startswith(harmless)]
        assert not missing, missing
        return [series["values"] for series in answer["series"]]


class Agent:
    """One agent; `kill` and `start` keep its data and its ports."""

    def __init__(
        self,
        folder: Path,
        collector_grpc: int,
        name: str = "edge",
        extra: str = "",
        inputs: str | None = None,
    ) -> None:
        """Write its config: MQTT, HTTP and TCP inputs, unless `inputs` says otherwise."""
        self.folder = folder
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        self.mqtt, self.http, self.tcp = free_port(), free_port(), free_port()
        self.config = folder / "agent.toml"
        default = (
            f'[input.mqtt]\nlisten = "127.0.0.1:{self.mqtt}"\n'
            f'[input.http]\nlisten = "127.0.0.1:{self.http}"\n'
            f'[input.tcp]\nlisten = "127.0.0.1:{self.tcp}"\n'
        )
        self.config.write_text(
            f'[agent]\nname = "{name}"\ndata_dir = "{folder / "data"}"\n'
            f'[uplink]\nurl = "http://127.0.0.1:{collector_grpc}"\nmax_backoff = 1\n'
            f"{default if inputs is None else inputs}{extra}"
        )
        self.env: dict[str, str] = {}
        self.process: Process | None = None

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    def start(self, *, wait: bool = True) -> None:
        """Start it, and wait until its inputs listen."""
        self.process = Process(
            f"agent {self.name}",
            [AGENT, "run", "--config", self.config],
            self.folder / "agent.log",
            self.env,
        )
        if wait:
            until("the agent answers", lambda: self._alive() and self.status() is not None)
            self.listening()

    def listening(self) -> None:
        """Wait until the inputs of its config listen: each opens its port by itself."""
        for port in (self.mqtt, self.http, self.tcp):
            if f":{port}" in self.config.read_text():
                until(f"port {port} listens", lambda port=port: self._alive() and listens(port))

    def _alive(self) -> bool:
        assert self.process is not None
        assert self.process.running, f"the agent ended:\n{self.process.tail()}"
        return True

    def status(self) -> dict[str, Any]:
        """Ask it through its control socket."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(PATIENCE)
            link.connect(str(self.data / "agent.sock"))
            link.sendall(b"status\n")
            with link.makefile("rb") as answer:
                return dict(json.loads(answer.readline()))

    def linked(self) -> None:
        """Wait until the collector has greeted it: what is cut before is backlog, what is cut from now on is live."""
        until("the link is up", lambda: self._alive() and self.status()["link"]["connected"])

    def in_batches(self) -> bool:
        """Whether everything it took is in batches."""
        status = self.status()
        fold, spool = status["fold"], status["spool"]
        return not (fold["behind"] or fold["recovering"] or spool["pending"])

    def drained(self) -> bool:
        """Whether everything it took was acknowledged by the collector."""
        return self.in_batches() and self.status()["spool"]["batches"] == 0

    def wait_drained(self) -> None:
        """Wait for that."""
        until("the agent has nothing left to send", lambda: self._alive() and self.drained())

    def write(self, lines: str, path: str = "/write", headers: dict[str, str] | None = None) -> int:
        """POST line protocol (or what `path` takes) and return the HTTP status."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", data=lines.encode(), headers=headers or {}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return int(error.code)


class Stack:
    """Everything a test started, stopped at its end."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing running."""
        self.folder = folder
        self.collectors: list[Collector] = []
        self.agents: list[Agent] = []

    def collector(self, extra: str = "", arguments: Sequence[str] = (), *, start: bool = True) -> Collector:
        """Add a collector."""
        collector = Collector(self.folder / f"collector{len(self.collectors)}", extra, arguments)
        self.collectors.append(collector)
        if start:
            collector.start()
        return collector

    def agent(
        self,
        collector: Collector,
        name: str = "edge",
        extra: str = "",
        inputs: str | None = None,
        *,
        start: bool = True,
    ) -> Agent:
        """Add an agent."""
        agent = Agent(self.folder / f"agent{len(self.agents)}", collector.grpc, name, extra, inputs)
        self.agents.append(agent)
        if start:
            agent.start()
        return agent

    def close(self) -> None:
        """Kill what still runs."""
        for process in [part.process for part in (*self.agents, *self.collectors)]:
            if process is not None and process.running:
                process.kill()


def listens(port: int) -> bool:
    """Tell whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
