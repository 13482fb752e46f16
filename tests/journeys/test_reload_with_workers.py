"""SIGHUP with several workers: they start anew one by one, somebody always answers, and what can't be started with changes nothing."""

import json
import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Collector, Stack, until
from tests.harness.postgres import PostgresServer, section

START = 300.0
"""Several processes end and start meanwhile, one after the other."""


@pytest.fixture(name="collector")
def _collector(stack: Stack) -> Iterator[Collector]:
    """Give a collector of two workers on PostgreSQL."""
    server = PostgresServer()
    try:
        server.start()
        collector = stack.collector(section(server, server.database()), ("--workers", "2"))
        yield collector
        assert collector.process is not None
        collector.process.stop()
    finally:
        server.remove()


def workers(collector: Collector) -> set[int]:
    """Return the ids of the workers that run now."""
    assert collector.process is not None
    pid = collector.process.pid
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def lines(collector: Collector, event: str) -> list[dict[str, object]]:
    """Return the log's lines of an event."""
    found = (collector.folder / "collector.log").read_text().splitlines()
    read = [json.loads(line) for line in found if line.startswith("{")]
    return [line for line in read if line.get("event") == event]


def hup(collector: Collector) -> None:
    """Have it read its configuration anew."""
    assert collector.process is not None
    os.kill(collector.process.pid, signal.SIGHUP)


def body_limit(collector: Collector) -> bool:
    """Whether an answer is of a worker with the small limit on bodies."""
    body = b'{"user": "' + b"x" * 3_000 + b'"}'
    asked = urllib.request.Request(
        f"http://127.0.0.1:{collector.http}/api/v1/login",
        data=body,
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=120):
            return False
    except urllib.error.HTTPError as error:
        return error.code == 413


def change(collector: Collector, more: str) -> str:
    """Write more keys into [api]; return what stood in the file before."""
    before = collector.config.read_text()
    collector.config.write_text(before.replace("[api]\n", f"[api]\n{more}\n"))
    return before


class Asking(threading.Thread):
    """Somebody who asks all the time, on a new connection each; keeps what wasn't answered."""

    def __init__(self, collector: Collector) -> None:
        """Begin at once."""
        super().__init__(daemon=True)
        self._url = f"http://127.0.0.1:{collector.http}/livez"
        self._ended = threading.Event()
        self.answered = 0
        self.refused: list[str] = []
        self.start()

    def run(self) -> None:
        """Ask."""
        while not self._ended.wait(0.05):
            try:
                with urllib.request.urlopen(self._url, timeout=120):
                    self.answered += 1
            except OSError as error:
                # What waited in a worker's queue when it closed its socket is reset by the kernel: asked again, it is answered.
                if "refused" in str(error):
                    self.refused.append(str(error))

    def end(self) -> None:
        """Stop."""
        self._ended.set()
        self.join(60)


def test_a_good_configuration_is_put_in_force_worker_by_worker(collector: Collector) -> None:
    """All are other processes afterwards, with the new configuration; the port was never closed."""
    before = workers(collector)
    assert not body_limit(collector)
    asking = Asking(collector)
    change(collector, 'max_body = "2KiB"')
    hup(collector)
    until("it is taken", lambda: lines(collector, "config_taken"), START)
    asking.end()
    assert asking.refused == []
    assert asking.answered > 0
    assert workers(collector).isdisjoint(before)
    assert len(workers(collector)) == 2
    assert all(body_limit(collector) for _ in range(20))
    # Whoever dies comes back with what is in force, whatever stands in the file by then.
    collector.config.write_text("nonsense")
    died = workers(collector).pop()
    os.kill(died, signal.SIGKILL)
    until("another takes its place", lambda: len(workers(collector) - {died}) == 2)
    until("it is ready", lambda: len(lines(collector, "collector_ready")) == 6, START)
    assert all(body_limit(collector) for _ in range(20))


def test_a_configuration_that_cannot_be_used_changes_nothing(collector: Collector) -> None:
    """Unknown keys, rules that aren't there, another data directory: no worker is touched, and the log says why."""
    before = workers(collector)
    for number, (old, new) in enumerate(
        (
            ("[api]\n", "[api]\nnonsense = 1\n"),
            ("[api]\n", '[rules]\nfiles = ["/nowhere.yaml"]\n[api]\n'),
            ("[api]\n", '[api]\ntoken_file = "/nowhere"\n'),
            ("data_dir = ", 'shutdown_timeout = "9s"\ndata_dir = "/tmp/elsewhere" # '),
        ),
        start=1,
    ):
        good = collector.config.read_text()
        collector.config.write_text(good.replace(old, new, 1))
        hup(collector)
        until("it is refused", lambda number=number: len(lines(collector, "config_refused")) == number)  # type: ignore[misc]
        collector.config.write_text(good)
        assert workers(collector) == before
    reasons = " ".join(str(line["reason"]) for line in lines(collector, "config_refused"))
    for word in ("nonsense", "/nowhere.yaml", "token file /nowhere", "restart the service"):
        assert word in reasons


def test_one_that_no_worker_starts_with_is_taken_back(collector: Collector, stack: Stack) -> None:
    """A certificate that can't be used is found by the first worker: it goes on with what was in force, and the second never stops."""
    del stack
    cert = collector.folder / "no.pem"
    cert.write_text("no certificate")
    good = change(collector, f'tls_cert_file = "{cert}"\ntls_key_file = "{cert}"')
    before = workers(collector)
    hup(collector)
    (refused,) = until("it is refused", lambda: lines(collector, "config_refused"), START)
    assert "didn't start with it" in str(refused["reason"])
    assert len(workers(collector) & before) == 1
    # The refusal is said when the first has ended; its next life begins at that moment.
    until("the first lives again", lambda: len(workers(collector)) == 2)
    until("the first is back", lambda: len(lines(collector, "collector_ready")) == 4, START)
    assert collector.get("/livez") is not None
    collector.config.write_text(good)
    hup(collector)
    until("the good one is taken", lambda: lines(collector, "config_taken"), START)
