"""What released agents left on disk is read by today's: each reading arrives once, exactly as it was sent.

The recordings are in tests/fixtures; record.py there tells how each was made.
"""

import json
import shutil
import sqlite3
import tarfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from tests.compat.stored import events, series
from tests.fixtures import record
from tests.harness import KEEPS_ALL, Agent, Collector, Stack, until
from tests.harness.ledger import ledger, settled

HERE = Path(record.__file__).parent
VERSIONS = sorted(path.stem.removeprefix("agent-") for path in HERE.glob("agent-*.json"))
#: The recorded times stay what they are while years pass.


def recorded(version: str) -> dict[str, Any]:
    """Say what was sent."""
    return dict(json.loads((HERE / f"agent-{version}.json").read_text()))


def opened(stack: Stack, version: str, *without: str) -> tuple[Agent, Collector]:
    """Start today's agent on a recorded folder, less what is named."""
    collector = stack.collector(KEEPS_ALL)
    agent = stack.agent(collector, extra=recorded(version)["config"], start=False)
    with tarfile.open(HERE / f"agent-{version}.tar.xz") as archive:
        archive.extractall(agent.data, filter="data")
    for part in without:
        path = agent.data / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    agent.start()
    return agent, collector


def samples(collector: Collector) -> dict[str, list[tuple[int, str]]]:
    """Return the raw samples by series, as (time, value to the last bit); windows and the retained orders apart."""
    return {
        f"{one['name']} {one['labels'].get('device', '')}": sorted(
            (int(at), float(value).hex()) for at, value in zip(one["times_ns"], one["values"], strict=True)
        )
        for one in series(collector)
        if one["name"] not in {"slow.v", "last"}
    }


def windows(collector: Collector) -> list[tuple[int, int, float, float, float]]:
    """Return the windows as (start, count, sum, min, max), partials merged."""
    with closing(sqlite3.connect(f"file:{collector.database}?mode=ro", uri=True, timeout=120)) as store:
        return store.execute(
            'SELECT start_ns, sum(count), sum(sum), min(min), max(max) FROM "window" GROUP BY start_ns ORDER BY 1'
        ).fetchall()


def expected_samples(what: dict[str, Any]) -> dict[str, list[tuple[int, str]]]:
    """Return what was sent in the form of `samples`."""
    return {
        name: sorted((int(at), float(value).hex()) for at, value in values)
        for name, values in what["samples"].items()
    }


def expected_windows(what: dict[str, Any]) -> list[tuple[int, int, float, float, float]]:
    """Fold what was sent by hand."""
    inside: dict[int, list[float]] = {}
    for at, value in what["slow"]:
        inside.setdefault(at // what["window_ns"] * what["window_ns"], []).append(value)
    return [(at, len(all_), sum(all_), min(all_), max(all_)) for at, all_ in sorted(inside.items())]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("without", [(), ("spool", "fold.checkpoint")], ids=["all", "journal alone"])
def test_a_recorded_folder_gives_exactly_the_recorded_readings(
    stack: Stack, version: str, without: tuple[str, ...]
) -> None:
    """From spool, checkpoint and journal; and all of it folded anew from the journal."""
    what = recorded(version)
    agent, collector = opened(stack, version, *without)
    until("the last window was passed over", lambda: windows(collector) == expected_windows(what))
    given = sum(map(len, what["samples"].values())) + len(what["events"]) + what["retained"]
    counts = settled(collector, agent, given + len(what["slow"]))
    assert counts["received"] == given + len(what["slow"])
    assert counts["reduced_window"] == len(what["slow"])
    assert samples(collector) == expected_samples(what)
    told = [[event["time_ns"], event["severity"], event["body"]] for event in events(collector)]
    assert sorted(told) == sorted(what["events"])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_spool_alone_is_sent(stack: Stack, version: str) -> None:
    """Without its journal: what was in batches arrives, each reading once, and nothing else."""
    what = recorded(version)
    agent, collector = opened(stack, version, "journal", "fold.checkpoint")
    agent.wait_drained()
    until(
        "all that was shipped is stored", lambda: ledger(collector)["stored"] == ledger(collector)["shipped"]
    )
    sent = expected_samples(what)
    found = samples(collector)
    assert sum(map(len, found.values())) > 100
    for name, values in found.items():
        assert not Counter(values) - Counter(sent[name])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_session_is_resumed(stack: Stack, version: str) -> None:
    """The client finds its session and its subscription's retained message as if its agent had never been changed."""
    agent, _ = opened(stack, version)
    resumed: list[bool] = []
    told: list[bytes] = []
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="scale", clean_session=False)
    client.on_connect = lambda _client, _data, flags, *_: resumed.append(flags.session_present)
    client.on_message = lambda _client, _data, message: told.append(message.payload)
    client.connect("127.0.0.1", agent.mqtt)
    client.loop_start()
    try:
        until("it is greeted", lambda: resumed)
        client.subscribe("orders/#", qos=1)
        until("the retained message comes", lambda: told)
    finally:
        client.disconnect()
        client.loop_stop()
    assert resumed == [True]
    assert told[-1] == b"7"
