"""The tools beside the agent: looking into a spool, taking readings out of it, settling damage, finding out what is wrong."""

import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.harness import Agent, Stack, until
from tests.harness.ledger import ledger, sums
from tests.harness.stack import AGENT

SECOND = 1_000_000_000
#: Small segments, so that there are several.
SMALL = '[spool]\nsegment_bytes = "256KiB"\n[journal]\nsegment_bytes = "256KiB"\n'


def ask(*words: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the agent's program."""
    return subprocess.run(
        [AGENT, *map(str, words)], capture_output=True, text=True, timeout=60, check=False, input=stdin
    )


def lines(said: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Read what it printed as a JSON object a line."""
    return [json.loads(line) for line in said.stdout.splitlines()]


def content(folder: Path) -> dict[str, str]:
    """Give a hash of every file, to see what changed."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stopped(agent: Agent) -> None:
    """Stop an agent once all it took is in batches."""
    until("all of it is in batches", agent.in_batches)
    assert agent.process is not None
    agent.process.stop()


def readings(count: int, seed: int = 1) -> list[tuple[int, float]]:
    """Give times and values that can be told apart."""
    noise, at = random.Random(seed), time.time_ns() - 600 * SECOND
    return [(at + number * 1_000_003, noise.uniform(-1e9, 1e9)) for number in range(count)]


def send(agent: Agent, name: str, sent: list[tuple[int, float]]) -> None:
    """Write samples in bodies of two thousand lines."""
    for first in range(0, len(sent), 2_000):
        body = "\n".join(f"{name},rack=r\\ 1 value={v!r} {t}" for t, v in sent[first : first + 2_000])
        assert agent.write(body) == 204


# --- spool export


def offline(stack: Stack, extra: str = SMALL) -> Agent:
    """Give a running agent whose collector is away."""
    return stack.agent(stack.collector(start=False), extra=extra)


def test_an_export_holds_every_reading_as_it_was_sent(stack: Stack) -> None:
    """Samples to the bit and the nanosecond, windows and events with their fields; nothing in the folder changes by it."""
    agent = offline(stack, f'{SMALL}[[fold.route]]\nmatch = "flow"\nto = "window"\nwindow = "10s"\n')
    sent = readings(5_000)
    send(agent, "load", sent)
    # One window is complete once a later reading has passed it.
    at = (time.time_ns() - 300 * SECOND) // (10 * SECOND) * (10 * SECOND)
    assert agent.write("\n".join(f"flow value={n} {at + n * SECOND}" for n in (1, 2, 3, 60))) == 204
    event = {
        "source": "app",
        "body": 'it\'s "done"',
        "severity": "warn",
        "attributes": {"order": 7, "user": "ann"},
    }
    assert agent.write(json.dumps(event), "/v1/events") == 204
    stopped(agent)
    before = content(agent.data)
    said = ask("spool", "export", "--config", agent.config)
    assert said.returncode == 0, said.stderr
    rows = lines(said)
    samples = [row for row in rows if row["kind"] == "sample"]
    assert sorted((row["time_ns"], row["value"]) for row in samples) == sorted(sent)
    assert {(row["name"], row["labels"]["rack"], row["flags"]) for row in samples} == {("load", "r 1", 0)}
    window = next(row for row in rows if row["kind"] == "window" and row["start_ns"] == at)
    found = {key: window[key] for key in ("name", "length_ns", "count", "sum", "min", "max")}
    assert found == {"name": "flow", "length_ns": 10 * SECOND, "count": 3, "sum": 6.0, "min": 1.0, "max": 3.0}
    assert window["first"] == {"time_ns": at + SECOND, "value": 1.0}
    assert window["last"] == {"time_ns": at + 3 * SECOND, "value": 3.0}
    (told,) = [row for row in rows if row["kind"] == "event"]
    assert (told["source"], told["severity"], told["body"]) == ("app", "warn", event["body"])
    assert told["attributes"]["order"] == 7
    assert content(agent.data) == before


def test_an_export_can_be_narrowed_by_name_and_time(stack: Stack, tmp_path: Path) -> None:
    """A pattern and a range, into a file."""
    agent = offline(stack)
    one, two = readings(100, seed=1), readings(100, seed=2)
    send(agent, "pump.flow", one)
    send(agent, "fan.speed", two)
    until("all of it is in batches", agent.in_batches)
    middle = one[50][0]
    out = tmp_path / "out.ndjson"
    said = ask(
        "spool", "export", "--config", agent.config, "--match", "pump.*", "--since", str(middle), "-o", out
    )
    assert (said.returncode, said.stdout) == (0, ""), said.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["time_ns"], row["value"]) for row in rows] == one[50:]
    said = ask("spool", "export", "--config", agent.config, "--match", "pump.*", "--until", str(middle))
    assert [(row["time_ns"], row["value"]) for row in lines(said)] == one[:50]


def test_line_protocol_that_was_exported_gives_another_agent_the_same_readings(stack: Stack) -> None:
    """What a dead host held can be posted to any agent."""
    agent, other = offline(stack), offline(stack)
    sent = readings(500)
    send(agent, "load", sent)
    until("all of it is in batches", agent.in_batches)
    said = ask("spool", "export", "--format", "line", "--dir", agent.data)
    assert said.returncode == 0, said.stderr
    assert other.write(said.stdout) == 204
    until("all of it is in batches", other.in_batches)
    rows = [lines(ask("spool", "export", "--dir", one.data)) for one in (agent, other)]
    assert len(rows[0]) == len(sent)
    assert rows[0] == rows[1]


def test_an_export_becomes_parquet_in_one_pipe(stack: Stack, tmp_path: Path) -> None:
    """`telemetryx-agent spool export | telemetryx convert - FOLDER`, value for value."""
    agent = offline(stack)
    sent = readings(3_000)
    send(agent, "load", sent)
    until("all of it is in batches", agent.in_batches)
    out = tmp_path / "parquet"
    with subprocess.Popen(
        [AGENT, "spool", "export", "--config", agent.config],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as export:
        done = subprocess.run(
            [sys.executable, "-m", "telemetryx", "convert", "-", out],
            stdin=export.stdout, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    frame = pl.read_parquet(out / "samples.parquet")
    assert sorted(zip(frame["time"].cast(pl.Int64), frame["value"], strict=True)) == sorted(sent)


# --- spool ls, verify, repair


def test_ls_counts_what_waits_beside_a_running_agent_and_of_a_copy(stack: Stack) -> None:
    """Totals equal what was sent; after the collector took it all, nothing waits."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, extra=SMALL)
    send(agent, "load", readings(20_000))
    until("all of it is in batches", agent.in_batches)
    said = ask("spool", "ls", "--config", agent.config)
    assert said.returncode == 0, said.stderr
    assert "20,000 rows" in said.stdout
    rows = lines(ask("spool", "ls", "--json", "--all", "--dir", agent.data / "spool"))
    batches = [row for row in rows if row["kind"] == "batch"]
    assert sum(row["rows"] for row in batches) == rows[-1]["rows"] == 20_000
    assert [row["seq"] for row in batches] == list(range(1, len(batches) + 1))
    assert {row["state"] for row in batches} == {"waiting"}
    limited = lines(ask("spool", "ls", "--json", "--limit", "1", "--config", agent.config))
    assert [row["kind"] for row in limited] == ["batch", "total"]
    assert limited[-1]["rows"] == 20_000
    collector.start()
    agent.wait_drained()
    until(
        "the cursor says so",
        lambda: lines(ask("spool", "ls", "--json", "--dir", agent.data))[-1]["batches"] == 0,
    )


def damaged(stack: Stack) -> tuple[Agent, int]:
    """Give a stopped agent with a spool of several segments, one byte of the second changed; and its batches."""
    agent = offline(stack)
    for seed in range(8):
        send(agent, "load", readings(8_000, seed=seed))
        until("it is in batches", agent.in_batches)
    stopped(agent)
    batches = lines(ask("spool", "ls", "--json", "--config", agent.config))[-1]["batches"]
    segment = sorted((agent.data / "spool/log").glob("*.seg"))[1]
    bytes_ = bytearray(segment.read_bytes())
    bytes_[len(bytes_) // 2] ^= 1
    segment.write_bytes(bytes_)
    return agent, batches


def test_verify_finds_nothing_in_a_sound_spool_and_names_exactly_what_is_damaged(stack: Stack) -> None:
    """Exit code 0 beside the running agent; 1 with the record, the file and the batch that is lost."""
    agent, batches = damaged(stack)
    before = content(agent.data)
    said = ask("spool", "verify", "--journal", "--json", "--config", agent.config)
    assert said.returncode == 1, said.stderr
    report = json.loads(said.stdout)
    assert report["ok"] is False
    (gap,) = report["spool"]["damage"]
    (place,) = report["spool"]["places"]
    segment = sorted((agent.data / "spool/log").glob("*.seg"))[1]
    assert place["file"] == str(segment)
    assert place["offset"] <= segment.stat().st_size // 2 < place["offset"] + place["bytes"]
    assert report["spool"]["batches"] == batches - (gap["last"] - gap["first"] + 1)
    assert report["spool"]["lost_batches"] == 1
    assert report["journal"]["damage"] == []
    said = ask("spool", "verify", "--config", agent.config)
    assert said.returncode == 1
    assert f"DAMAGE   record {gap['first']}" in said.stdout
    assert content(agent.data) == before


def test_verify_beside_a_running_agent_finds_no_damage_in_what_is_being_written(stack: Stack) -> None:
    """Under load, again and again."""
    agent = offline(stack)
    for seed in range(5):
        send(agent, "load", readings(4_000, seed=seed))
        said = ask("spool", "verify", "--journal", "--config", agent.config)
        assert said.returncode == 0, said.stdout
        assert "all is intact" in said.stdout


def test_repair_keeps_a_copy_of_the_damage_and_the_collector_hears_of_the_loss(stack: Stack) -> None:
    """A dry run changes nothing; then each reading of the damaged batch is counted, and all others arrive."""
    agent, _ = damaged(stack)
    before = content(agent.data)
    said = ask("spool", "repair", "--dry-run", "--json", "--config", agent.config)
    assert said.returncode == 1, said.stderr
    planned = json.loads(said.stdout)
    assert content(agent.data) == before
    said = ask("spool", "repair", "--json", "--config", agent.config)
    assert said.returncode == 0, said.stderr
    done = json.loads(said.stdout)
    assert done["losses"] == planned["losses"]
    (loss,) = done["losses"]
    gone = loss["counts"]["damaged"]
    assert gone > 0
    (copy,) = done["copies"]
    place = done["found"][0]["places"][0]
    raw = Path(place["file"]).read_bytes()
    assert Path(copy).read_bytes() == raw[place["offset"] : place["offset"] + place["bytes"]]
    after = content(agent.data)
    assert {name for name in before if name.endswith(".seg") and after.get(name) != before[name]} == set()
    assert ask("spool", "repair", "--config", agent.config).returncode == 0
    listed = lines(ask("spool", "ls", "--json", "--config", agent.config))
    assert listed[-1]["lost"]["damaged"] == gone

    collector = stack.collectors[0]
    collector.start()
    agent.start()
    agent.wait_drained()
    counts = ledger(collector, agent.name)
    assert (counts["damaged"], counts["stored"]) == (gone, 64_000 - gone)
    assert sums(counts) == (0, 0)


def test_repair_is_refused_while_the_agent_runs(stack: Stack) -> None:
    """It says what to do instead, and nothing happens."""
    agent = offline(stack)
    said = ask("spool", "repair", "--config", agent.config)
    assert said.returncode == 1
    assert "the agent is running" in said.stderr
    assert "--dry-run" in said.stderr
    assert ask("spool", "repair", "--dry-run", "--config", agent.config).returncode == 0


@pytest.mark.parametrize("command", ["ls", "verify", "repair", "export"])
def test_a_folder_that_is_no_spool_is_named(tmp_path: Path, command: str) -> None:
    """Exit code 1, one sentence; wrong options are 2. Nothing is made there."""
    said = ask("spool", command, "--dir", tmp_path)
    assert said.returncode == 1
    assert f"{tmp_path}/spool is no spool" in said.stderr
    assert list(tmp_path.iterdir()) == []
    assert ask("spool", command, "--wrong").returncode == 2
