"""Readings are taken out of an agent's spool, as they were sent."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from tests.harness import Stack, until
from tests.harness.agent_tools import SECOND, SMALL, ask, content, lines, offline, readings, send, stopped
from tests.harness.small_disk import fill, mounted
from tests.harness.stack import AGENT


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


def test_listing_and_export_tell_of_a_segment_that_is_cut_off(stack: Stack, tmp_path: Path) -> None:
    """Where batches are missing at a segment's end, both say so with exit code 1; an export doesn't write over a file."""
    agent = offline(stack)
    sent = [readings(20_000, seed=round_) for round_ in range(4)]
    for part in sent:
        send(agent, "load", part)
    stopped(agent)
    segments = sorted((agent.data / "spool/log").glob("*.seg"))
    assert len(segments) > 2
    os.truncate(segments[1], segments[1].stat().st_size // 2)
    listed = ask("spool", "ls", "--config", agent.config)
    assert listed.returncode == 1
    assert "MISSING" in listed.stdout
    told = [
        row
        for row in lines(ask("spool", "ls", "--config", agent.config, "--json"))
        if row["kind"] == "damage"
    ]
    assert told
    out = tmp_path / "out.ndjson"
    exported = ask("spool", "export", "--config", agent.config, "-o", out)
    assert exported.returncode == 1
    assert f"{len(told)} batch" in exported.stderr
    rows = len(out.read_text().splitlines())
    kept = {(row["time_ns"], row["value"]) for row in map(json.loads, out.read_text().splitlines())}
    missing = [time_ns for part in sent for time_ns, value in part if (time_ns, value) not in kept]
    assert sum(row["counts"]["damaged"] for row in told) == len(missing)
    span = (min(row["from_ns"] for row in told), max(row["to_ns"] for row in told))
    assert span == (min(missing), max(missing)), "the times of what is missing are told exactly"
    again = ask("spool", "export", "--config", agent.config, "-o", out)
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert ask("spool", "export", "--config", agent.config, "-o", out, "--force").returncode == 1
    assert len(out.read_text().splitlines()) == rows


def test_exported_line_protocol_comes_back_with_its_severity(stack: Stack) -> None:
    """An event that came as line protocol leaves and returns as it was."""
    agent = offline(stack)
    at = time.time_ns() - 60 * SECOND
    assert agent.write(f'app,severity=err msg="no \\"way\\"" {at}') == 204
    stopped(agent)
    said = ask("spool", "export", "--config", agent.config, "--format", "line")
    assert said.stdout == f'app,severity=error msg="no \\"way\\"" {at}\n'


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


def test_more_than_one_request_holds_is_posted_in_several(stack: Stack, tmp_path: Path) -> None:
    """`--to` keeps below the door's limit, takes its 413 for one, and what is posted once more is stored once."""
    agent = offline(stack)
    sent = readings(4_000)
    send(agent, "load", sent)
    stopped(agent)
    other = stack.agent(stack.collector(start=False), start=False)
    text = other.config.read_text()
    other.config.write_text(text.replace("[input.http]\n", "[input.http]\nmax_body = 65536\n"))
    other.start()
    url = f"http://127.0.0.1:{other.http}/write"
    whole = ask("spool", "export", "--format", "line", "--dir", agent.data)
    assert len(whole.stdout) > 3 * 65_536
    refused = subprocess.run(
        ["curl", "--silent", "--data-binary", "@-", url],
        input=whole.stdout, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "spool export --to URL" in refused.stdout
    for _ in range(2):
        said = ask("spool", "export", "--to", url, "--dir", agent.data)
        assert (said.returncode, said.stdout) == (0, ""), said.stderr
        assert "requests to" in said.stderr
    until("all of it is in batches", other.in_batches)
    rows = lines(ask("spool", "export", "--dir", other.data))
    assert sorted((row["time_ns"], row["value"]) for row in rows) == sorted(sent)

    said = ask(
        "spool",
        "export",
        "--format",
        "line",
        "--dir",
        agent.data,
        "-o",
        tmp_path / "x.lp",
        "--split",
        "64KiB",
    )
    assert said.returncode == 0, said.stderr
    parts = sorted(tmp_path.glob("x.*.lp"))
    assert len(parts) > 3
    assert all(part.stat().st_size <= 65_536 for part in parts)
    assert "".join(part.read_text() for part in parts) == whole.stdout


def test_an_export_onto_a_full_disk_leaves_nothing_and_names_the_file(stack: Stack, tmp_path: Path) -> None:
    """What was there stays; standard output is `-`."""
    agent = offline(stack)
    send(agent, "load", readings(2_000))
    stopped(agent)
    with mounted(tmp_path / "small") as small:
        out = small / "out.ndjson"
        out.write_text("before")
        fill(small)
        before = sorted(small.iterdir())
        for more in (["--force"], ["--split", "64KiB"]):
            said = ask("spool", "export", "--dir", agent.data, "-o", out, *more)
            assert said.returncode == 1
            assert f"{small}/out" in said.stderr
            assert "free some space there" in said.stderr
            assert sorted(small.iterdir()) == before
        assert out.read_text() == "before"
    said = ask("spool", "export", "--dir", agent.data, "-o", "-")
    assert len(lines(said)) == 2_000


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
