"""`telemetryx demo`: a collector and an agent on this machine, its real metrics, until Ctrl-C or for a given time.

Both are the real programs with real config files in one folder; the demo only starts them, looks at them from outside
(the agent's control socket, the collector's HTTP API, the store's file) and sums up at the end: books.py has the sums.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

from telemetryx.cli.books import Books, Intake, Kept
from telemetryx.cli.ports import reserved
from telemetryx.cli.store import file as place_of
from telemetryx.cli.store import opened
from telemetryx.cli.text import printable
from telemetryx.store.tables.store import measure

READY_TIMEOUT: Final = 60.0
#: How long the end waits for a moment in which everything taken is stored.
DRAIN_TIMEOUT: Final = 20.0
STOP_TIMEOUT: Final = 20.0
#: The states of an alert that isn't over.
OPEN: Final = {"pending", "firing", "unknown"}
#: The ports that are tried first; a busy one is replaced by a free one.
PORTS: Final = {"mqtt": 1883, "agent_http": 8186, "agent_tcp": 8187, "http": 8420, "grpc": 8421}

#: What is asked with `telemetryx sql`.
QUESTION: Final = "SELECT name, avg(value) FROM samples GROUP BY name"

COLLECTOR_TOML: Final = """\
# Written by `telemetryx demo`.
[collector]
data_dir = "{folder}/collector"
log_format = "json"

[api]
listen = "127.0.0.1:{http}"

[gateway]
listen = "127.0.0.1:{grpc}"

[store]
# Only at the start: the summary counts the rows that have come since.
retention_interval = "3650d"
"""

AGENT_TOML: Final = """\
# Written by `telemetryx demo`.
[agent]
# Not the host's name: an agent that is installed on it may find this collector too.
name = "demo"
data_dir = "{folder}/agent"

[uplink]
url = "http://127.0.0.1:{grpc}"

[input.mqtt]
listen = "127.0.0.1:{mqtt}"

[input.http]
listen = "127.0.0.1:{agent_http}"

[input.tcp]
listen = "127.0.0.1:{agent_tcp}"

[input.host]
interval = "1s"
"""


class DemoError(Exception):
    """The demo can't go on; the text says why and what to do."""


@dataclass(slots=True)
class Summary:
    """What came of it: received + derived = rejected + deduplicated + reduced + stored + lost + waiting - duplicated.

    Readings are samples, windows and events. `received` is what the agent's inputs counted (and what an earlier demo had left
    in the agent), `stored` the rows in the store's file, `ledger` what the collector was told by batches.
    """

    seconds: float = 0.0
    received: int = 0
    derived: int = 0
    stored: int = 0
    reduced: int = 0
    rejected: int = 0
    deduplicated: int = 0
    lost: int = 0
    lost_by_cause: dict[str, int] = field(default_factory=dict)
    duplicated: int = 0
    waiting: int = 0
    carried_over: int = 0
    wire_bytes: int = 0
    delay_p50_ms: float | None = None
    delay_p99_ms: float | None = None
    alerts: int = 0
    alerts_fired: int = 0
    ledger: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def run(*, agent: Path, folder: Path, seconds: float | None, fresh: bool, as_json: bool) -> int:
    """Run the demo and return the exit code: 0 when readings came, the books balance and nothing was lost, 1 otherwise."""
    if not agent.is_file():
        raise DemoError(
            f"{agent} is no agent program: build it with `just build`, or give its place with --agent or TELEMETRYX_AGENT"
        )
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with reserved(PORTS) as ports:
        demo = _Demo(agent, folder.resolve(), ports, quiet=as_json)
        try:
            demo.start()
            demo.watch(seconds)
            summary = demo.finish()
        finally:
            demo.kill()
    if as_json:
        print(json.dumps(asdict(summary)))
    else:
        _show(summary)
    for fault in summary.faults:
        print(f"the books don't balance: {fault}", file=sys.stderr)
    return 1 if summary.lost or summary.duplicated or summary.faults else 0


class _Demo:
    """The two processes and what is seen of them."""

    def __init__(self, agent: Path, folder: Path, ports: Mapping[str, int], *, quiet: bool) -> None:
        self._agent_program = agent
        self._folder = folder
        self._ports = ports
        self._quiet = quiet
        self._started = time.monotonic()
        self._collector: subprocess.Popen[bytes] | None = None
        self._agent: subprocess.Popen[bytes] | None = None
        self._logs: list[IO[bytes]] = []
        self._interrupted = False
        self._before = Kept({}, 0, 0)
        self._carried: int | None = 0
        #: Each alert's state as it was told; alerts of a demo before are known from the start.
        self._told: dict[int, str] = {}
        self._fired = 0

    # --- starting

    def start(self) -> None:
        """Start collector, then agent; each is waited for."""
        for name, text in (("collector", COLLECTOR_TOML), ("agent", AGENT_TOML)):
            (self._folder / f"{name}.toml").write_text(text.format(folder=self._folder, **self._ports))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)
        self._say(f"starting the collector and the agent in {self._folder}")
        self._collector = self._spawn(
            "collector",
            [
                sys.executable,
                "-m",
                "telemetryx",
                "collector",
                "--config",
                str(self._folder / "collector.toml"),
            ],
        )
        self._wait("collector", self._collector, lambda: self._get("/readyz") is not None)
        self._before = self._calm()
        self._told = {alert["id"]: alert["state"] for alert in self._alerts()}
        self._agent = self._spawn(
            "agent", [str(self._agent_program), "run", "--config", str(self._folder / "agent.toml")]
        )
        self._wait("agent", self._agent, lambda: bool(self._status()["link"]["connected"]))
        self._started = time.monotonic()
        if self._before.rows:
            self._carried = self._left_over()
        here, url = self._folder, f"http://127.0.0.1:{self._ports['http']}"
        program, agent = telemetryx_command(), shlex.quote(_near(self._agent_program))
        self._say(
            f"console   {url}/",
            f"try       mosquitto_pub -p {self._ports['mqtt']} -q 1 -t plant1/pump7/temperature -m 21.5",
            f"or        curl --data-binary 'weather,site=roof temperature=19.4' http://127.0.0.1:{self._ports['agent_http']}/write",
            f"then      {program} query temperature --since 5m --url {url}",
            f"sql       {program} sql -c {shlex.quote(str(here / 'collector.toml'))} '{QUESTION}'",
            f"agent     {agent} status -c {shlex.quote(str(here / 'agent.toml'))}    (or tap, to see readings as they come)",
            f"folder    {here}    (both config files, both logs, all data)",
            "anomaly   this host is scored three minutes from now; load on it then raises an alert, here and on the console",
        )

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        log = (self._folder / f"{name}.log").open("ab")
        self._logs.append(log)
        # A session of its own: Ctrl-C reaches only us, and we stop the two in the direction of the flow.
        return subprocess.Popen(  # noqa: S603 - our own two programs
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def _wait(self, name: str, child: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
        end = time.monotonic() + READY_TIMEOUT
        while time.monotonic() < end and not self._interrupted:
            if child.poll() is not None:
                raise DemoError(f"the {name} ended by itself; its last words:\n{self._last_words(name)}")
            try:
                if ready():
                    return
            except (OSError, ValueError, KeyError):
                pass  # not there yet
            time.sleep(0.05)
        if not self._interrupted:
            raise DemoError(
                f"the {name} was not ready within {READY_TIMEOUT:.0f} s; its last words:\n{self._last_words(name)}"
            )

    def _last_words(self, name: str) -> str:
        return "\n".join((self._folder / f"{name}.log").read_text(errors="replace").splitlines()[-15:])

    # --- watching

    def watch(self, seconds: float | None) -> None:
        """Show a line of progress until the time is over or Ctrl-C."""
        self._say(f"running for {seconds:g} s" if seconds else "running; Ctrl-C ends it with a summary")
        terminal = sys.stdout.isatty() and not self._quiet
        tick = 0
        while not self._interrupted and (seconds is None or time.monotonic() - self._started < seconds):
            time.sleep(min(1.0, max(0.0, (seconds or 1e9) - (time.monotonic() - self._started))))
            for name, child in (("collector", self._collector), ("agent", self._agent)):
                if child is not None and child.poll() is not None:
                    raise DemoError(f"the {name} ended by itself; its last words:\n{self._last_words(name)}")
            tick += 1
            for line in self._news():
                self._say(("\r\x1b[K" if terminal else "") + line)
            if terminal or (not self._quiet and tick % 5 == 0):
                print(
                    ("\r\x1b[K" if terminal else "") + self._progress(),
                    end="" if terminal else "\n",
                    flush=True,
                )
        if terminal:
            print()

    def _progress(self) -> str:
        try:
            status, totals = self._status(), self._totals()
        except (OSError, ValueError, KeyError):
            return "… (no answer)"
        received = sum(entry["received"] for entry in status["inputs"])
        rate = sum(entry["rate"] for entry in status["inputs"])
        spool = status["spool"]
        return (
            f"{time.monotonic() - self._started:4.0f} s  received {received:,} ({rate:,.0f}/s)  "
            f"stored {int(totals.get('samples_total', 0)):,}  waiting {spool['batches']} batches  "
            f"sent {status['link']['sent_bytes'] / 1024:,.0f} KiB  alerts {int(totals.get('alerts', 0))}"
        )

    def _news(self) -> list[str]:
        """Say which alerts fire, and which of those are over, since it was asked last."""
        try:
            alerts = self._alerts()
        except (OSError, ValueError, KeyError):
            return []  # the progress says that there is no answer
        lines = []
        for alert in reversed(alerts):
            before, now = self._told.get(alert["id"]), alert["state"]
            self._told[alert["id"]] = now
            if now == "firing" and before in {None, "pending"}:
                self._fired += 1
                lines.append(
                    f"alert     {printable(alert['rule'])}: {printable(alert['summary'])}; http://127.0.0.1:{self._ports['http']}/alerts"
                )
            elif now == "resolved" and before in {"firing", "unknown"}:
                lines.append(f"resolved  {printable(alert['rule'])}")
        return lines

    # --- ending

    def finish(self) -> Summary:
        """Balance the books, then stop in the direction of the flow."""
        assert self._agent is not None  # noqa: S101 - start() has set it
        seconds = time.monotonic() - self._started
        books = self._settle()
        status, totals = self._status(), self._totals()
        self._say("stopping: the agent first, then the collector")
        self._terminate("agent", self._agent)
        self._news()
        alerts = self._alerts()
        if self._collector is not None:
            self._terminate("collector", self._collector)
        return Summary(
            seconds=round(seconds, 1),
            received=books.received,
            derived=books.cut("derived"),
            stored=books.stored,
            reduced=books.cut("reduced"),
            rejected=books.cut("rejected"),
            deduplicated=books.cut("deduplicated"),
            lost=books.lost,
            lost_by_cause=books.lost_by_cause,
            duplicated=books.duplicated,
            waiting=books.waiting,
            carried_over=self._carried or 0,
            wire_bytes=int(status["link"]["sent_bytes"]),
            delay_p50_ms=totals.get("delay_p50_ms"),
            delay_p99_ms=totals.get("delay_p99_ms"),
            alerts=sum(alert["state"] in OPEN for alert in alerts),
            alerts_fired=self._fired,
            ledger=books.told,
            faults=books.faults(),
        )

    def _settle(self) -> Books:
        """Wait for a moment in which everything taken is stored, and give the books of it, or of now when there is none."""
        end = time.monotonic() + DRAIN_TIMEOUT
        while True:
            intake = Intake.read(self._status())
            books = Books(self._before, intake, self._kept(), self._carried)
            # Nothing came in between: both sides speak of the same readings.
            if (intake.idle and Intake.read(self._status()) == intake) or time.monotonic() > end:
                return books
            time.sleep(0.05)

    def _left_over(self) -> int | None:
        """Count what a demo before, killed, had left in the agent: it comes before or with the first readings of this one."""
        end = time.monotonic() + DRAIN_TIMEOUT / 2
        while time.monotonic() < end and not self._interrupted:
            intake = Intake.read(self._status())
            if intake.idle and Intake.read(self._status()) == intake:
                return max(0, -Books(self._before, intake, self._before).uncut)
            time.sleep(0.05)
        return None

    def _calm(self) -> Kept:
        """Look at the store before anything comes; retention may still be at work."""
        kept = self._kept()
        while True:
            time.sleep(0.1 if kept.rows else 0)
            again = self._kept()
            if again == kept or self._interrupted:
                return again
            kept = again

    def _terminate(self, name: str, child: subprocess.Popen[bytes]) -> None:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise DemoError(
                f"the {name} did not end within {STOP_TIMEOUT:.0f} s; its last words:\n{self._last_words(name)}"
            ) from None

    def kill(self) -> None:
        """Leave nothing behind, whatever happened."""
        for child in (self._agent, self._collector):
            if child is not None and child.poll() is None:
                child.kill()
                child.wait(STOP_TIMEOUT)
        for log in self._logs:
            log.close()

    # --- looking

    def _status(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5)
            link.connect(str(self._folder / "agent/agent.sock"))
            link.sendall(b"status\n")
            with link.makefile("rb") as answer:
                return dict(json.loads(answer.readline()))

    def _get(self, path: str) -> Any:  # noqa: ANN401 - JSON is anything
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports['http']}{path}", timeout=10) as answer:
            body = answer.read()
        try:
            return json.loads(body)
        except ValueError:
            return body

    def _totals(self) -> dict[str, float]:
        return dict(self._get("/api/v1/status")["totals"])

    def _kept(self) -> Kept:
        """Look at the collector's side: its ledgers, and the rows of its store, counted in the file."""
        with opened(place_of(self._folder / "collector/telemetry.db")) as file:
            (stored,) = file.execute("SELECT coalesce(sum(stored), 0) FROM agent").fetchone()
            usage = measure(file)
        ledgers: dict[str, dict[str, int]] = {}
        for row in self._get("/api/v1/loss")["loss"]:
            ledgers.setdefault(row["agent"], {})[row["cause"]] = int(row["count"])
        rows = usage.batch_samples + usage.chunk_samples + usage.windows + usage.events
        return Kept(ledgers, stored, rows)

    def _alerts(self) -> list[dict[str, Any]]:
        """Return alerts in every state, newest start first."""
        return list(self._get("/api/v1/alerts?state=all")["alerts"])

    def _say(self, *lines: str) -> None:
        if not self._quiet:
            print("\n".join(lines), flush=True)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupted = True


def _show(summary: Summary) -> None:
    def delay(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f} ms"

    carried = f"; {summary.carried_over:,} of the demo before" if summary.carried_over else ""
    by_cause = "".join(f"  ({cause} {count:,})" for cause, count in summary.lost_by_cause.items())
    waiting = f"\n  still in the agent {summary.waiting:,}" if summary.waiting else ""
    print(
        f"""
summary of {summary.seconds:g} s
  readings in        {summary.received:,}  (and {summary.derived:,} made by the agent: scores, windows{carried})
  stored             {summary.stored:,}
  rejected           {summary.rejected:,}
  deduplicated       {summary.deduplicated:,}
  reduced            {summary.reduced:,}
  lost               {summary.lost:,}{by_cause}
  duplicated         {summary.duplicated:,}{waiting}
  bytes on the wire  {summary.wire_bytes:,}  ({summary.wire_bytes / max(1, summary.stored):.1f} a stored reading)
  delay to the store p50 {delay(summary.delay_p50_ms)}, p99 {delay(summary.delay_p99_ms)}
  alerts             {summary.alerts_fired} fired, {summary.alerts} open
  loss ledger        {", ".join(f"{cause} {count:,}" for cause, count in summary.ledger.items()) or "empty"}"""
    )


def default_folder() -> Path:
    """Return where the demo keeps its data unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "telemetryx-demo"


def default_agent() -> Path:
    """Return the agent on the path, or the one built in this checkout."""
    found = shutil.which("telemetryx-agent")
    if found:
        return Path(found)
    return Path(__file__).resolve().parents[4] / "agent/target/debug/telemetryx-agent"


def telemetryx_command() -> str:
    """Return how `telemetryx` is called from this folder by a shell that may not have our virtual environment on its path."""
    beside = Path(sys.executable).parent
    path = os.pathsep.join(
        entry for entry in os.environ.get("PATH", "").split(os.pathsep) if Path(entry) != beside
    )
    if shutil.which("telemetryx", path=path):
        return "telemetryx"
    if (beside / "telemetryx").is_file():
        return shlex.quote(_near(beside / "telemetryx"))
    source = Path(__file__).resolve().parents[2]
    return f"PYTHONPATH={shlex.quote(_near(source))} {shlex.quote(_near(Path(sys.executable)))} -m telemetryx"


def _near(path: Path) -> str:
    """Shorten a path in the current folder."""
    path = Path.cwd() / path
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
