"""The tools beside the agent: looking into a spool, taking readings out of it, settling damage, finding out what is wrong."""

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import random
import select
import signal
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.harness import Agent, Stack, until
from tests.harness.clock import WallClock
from tests.harness.ledger import ledger, sums
from tests.harness.small_disk import fill
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


def test_ls_shows_of_each_batch_its_class_its_lane_and_whether_it_may_have_been_sent(stack: Stack) -> None:
    """Fresh readings go live, older ones as backlog; without a collector nothing was sent yet."""
    agent = offline(stack, f'{SMALL}[[spool.class]]\nmatch = "load"\npriority = "low"\noverflow = "thin"\n')
    send(agent, "load", readings(100))
    until("it is in batches", agent.in_batches)
    # A little ahead, so that it is fresh at some time after it is in a batch.
    send(agent, "level", [(time.time_ns() + 8 * SECOND, 1.0)])
    until("it is in batches", agent.in_batches)

    def listed() -> list[dict[str, Any]]:
        return lines(ask("spool", "ls", "--json", "--config", agent.config))[:2]

    until("the second one is fresh", lambda: listed()[1]["lane"] == "live")
    old, fresh = listed()
    assert (old["priority"], old["overflow"], old["lane"]) == ("low", "thin", "backlog")
    assert (fresh["priority"], fresh["overflow"]) == ("normal", "drop-oldest")
    assert [old["clock"], fresh["clock"]] == [None, None]
    said = ask("spool", "ls", "--config", agent.config).stdout
    assert "class" in said
    assert "low thin  backlog" in said


def test_batches_that_wait_for_the_clock_are_told_from_others_and_never_exported_at_a_wrong_time(
    stack: Stack,
) -> None:
    """In 1970 their times are not known; once the clock is set they are corrected as the collector does it."""
    agent = stack.agent(stack.collector(start=False), start=False)
    clock = WallClock(agent)
    agent.start()
    began = time.time_ns()
    assert agent.write("early n=1i") == 204
    ended = time.time_ns()
    until("it is in a batch", agent.in_batches)
    batch, total = lines(ask("spool", "ls", "--json", "--config", agent.config))
    assert (batch["state"], batch["from_ns"], batch["lane"], batch["offered"]) == (
        "held for clock",
        None,
        None,
        False,
    )
    assert batch["clock"]["offset_ns"] is None
    assert total["held_batches"] == 1
    said = ask("spool", "ls", "--config", agent.config).stdout
    assert "held for clock" in said
    assert "boot + " in said
    said = ask("spool", "export", "--config", agent.config)
    (line,) = lines(said)
    assert (line["time_ns"], line["boot"], line["flags"]) == (None, batch["clock"]["boot"], 5)
    assert line["since_boot_ns"] == batch["clock"]["since_boot_ns"][0]
    assert "times that nobody knows yet" in said.stderr
    said = ask("spool", "export", "--format", "line", "--config", agent.config)
    assert (said.stdout, said.returncode) == ("", 0)
    assert "left out" in said.stderr

    clock.set("+0")
    until(
        "the spool knows when its boot was",
        lambda: lines(ask("spool", "ls", "--json", "--config", agent.config))[0]["state"] == "waiting",
    )
    said = ask("spool", "export", "--config", agent.config)
    (line,) = lines(said)
    assert began - SECOND // 2 <= line["time_ns"] <= ended + SECOND // 2
    assert line["flags"] == 1, "time of arrival, and no longer uncertain"
    assert "corrected" in said.stderr


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
    kinds = report["journal"]["kinds"]
    assert sum(kinds.values()) == report["journal"]["records"]
    assert kinds["intake"] > 0, "the journal keeps its newest segment"
    assert report["journal"]["counts"]["received"] == report["journal"]["readings"]
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


# --- doctor


def doctor(agent: Agent) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Ask it; return the exit code and the findings by check."""
    said = ask("doctor", "--json", "--config", agent.config)
    report = json.loads(said.stdout)
    assert report["ok"] == (said.returncode == 0)
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in report["findings"]:
        assert (finding["level"] == "ok") or finding["remedy"], finding
        found.setdefault(finding["check"], []).append(finding)
    return said.returncode, found


def problems(found: dict[str, list[dict[str, Any]]]) -> set[str]:
    """Name the checks that found a problem."""
    return {check for check, findings in found.items() for one in findings if one["level"] == "problem"}


def test_a_healthy_agent_has_no_problem_and_the_collector_keeps_no_trace_of_the_try(stack: Stack) -> None:
    """The session, the inputs, the disk, the model: all looked at; only the agent's own session is in the connection log."""
    collector = stack.collector()
    agent = stack.agent(collector)
    assert agent.write("m v=1") == 204
    agent.wait_drained()
    code, found = doctor(agent)
    assert (code, problems(found)) == (0, set()), found
    assert found["session"][0]["level"] == "ok"
    assert {
        "config",
        "agent",
        "disk",
        "fsync",
        "clock",
        "clock skew",
        "name",
        "connection",
        "input",
        "model",
    } <= set(found)
    assert agent.status()["link"]["sessions"] == 1, "its own session was left alone"
    said = ask("doctor", "--config", agent.config)
    assert said.returncode == 0
    assert "0 problems" in said.stdout


def test_without_an_agent_the_doctor_changes_nothing(stack: Stack) -> None:
    """Before the first start: no folder is made, and what is missing is no problem but that nobody runs."""
    agent = stack.agent(stack.collector(), start=False)
    code, found = doctor(agent)
    assert (code, problems(found)) == (0, set()), found
    assert found["agent"][0]["level"] == "warning"
    assert not agent.data.exists()
    assert stack.collectors[0].get("/api/v1/agents")["agents"] == []


def test_a_collector_that_is_away_is_told_from_a_wrong_name(stack: Stack) -> None:
    """The connection is refused, or the name isn't known."""
    agent = offline(stack)
    code, found = doctor(agent)
    assert (code, problems(found)) == (1, {"connection"}), found
    text = agent.config.read_text()
    agent.config.write_text(
        text.replace("http://127.0.0.1", "https://no-such-host.invalid").replace(
            "max_backoff", f'token_file = "{secret(agent.folder)}"\nmax_backoff'
        )
    )
    code, found = doctor(agent)
    assert (code, problems(found)) == (1, {"name"}), found


def secret(folder: Path, whose: str = "agent") -> Path:
    """Write a token file."""
    path = folder / "token"
    path.write_text(f"a-token-of-the-{whose}\n")
    path.chmod(0o600)
    return path


def test_a_token_that_the_collector_does_not_know_is_named(stack: Stack, tmp_path: Path) -> None:
    """So is a port that is no collector's."""
    (tmp_path / "theirs").mkdir()
    theirs = secret(tmp_path / "theirs", "collector")
    collector = stack.collector(start=False)
    text = collector.config.read_text().replace("[gateway]\n", f'[gateway]\ntoken_file = "{theirs}"\n')
    collector.config.write_text(text)
    collector.start()
    agent = stack.agent(collector, start=False)
    text = agent.config.read_text()
    agent.config.write_text(text.replace("max_backoff", f'token_file = "{secret(tmp_path)}"\nmax_backoff'))
    code, found = doctor(agent)
    assert (code, problems(found)) == (1, {"session"}), found
    assert "token" in found["session"][0]["found"]
    agent.config.write_text(text.replace("max_backoff", f'token_file = "{theirs}"\nmax_backoff'))
    assert doctor(agent)[0] == 0
    agent.config.write_text(text.replace(str(collector.grpc), str(collector.http)))
    code, found = doctor(agent)
    assert (code, problems(found)) == (1, {"session"}), found
    assert "[gateway] port" in found["session"][0]["remedy"]


CA = """\
[ca]
default_ca = own
[own]
database = {0}/index
serial = {0}/serial
new_certs_dir = {0}
default_md = sha256
policy = any
x509_extensions = ext
[any]
commonName = supplied
[ext]
subjectAltName = DNS:localhost
"""


def certificate(folder: Path, begin: str, end: str) -> tuple[Path, Path]:
    """Make a certificate for localhost that signs itself, valid between two times; return it and its key."""
    key, request, path = folder / "key.pem", folder / "request.pem", folder / "cert.pem"
    (folder / "ca.cnf").write_text(CA.format(folder))
    (folder / "index").write_text("")
    (folder / "serial").write_text("01\n")
    for words in (
        ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", request],
        ["ca", "-batch", "-notext", "-selfsign", "-config", folder / "ca.cnf", "-keyfile", key, "-in", request, "-out", path, "-startdate", begin, "-enddate", end],
    ):  # fmt: skip
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)
    return path, key


@pytest.fixture(name="tls_port")
def _tls_port(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Give a port that speaks TLS with a certificate that expired years ago, and the certificate."""
    cert, key = certificate(tmp_path, "20200101000000Z", "20210101000000Z")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            """Shake hands, and no more."""
            # The other side goes away: that is what is looked at.
            with contextlib.suppress(OSError):
                context.wrap_socket(self.request, server_side=True).close()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1], cert
        server.shutdown()
        thread.join(30)


def test_an_expired_certificate_is_named_with_its_day(stack: Stack, tls_port: tuple[int, Path]) -> None:
    """Trusted and of the right name, and of no use any more; so is one of an input."""
    port, cert = tls_port
    agent = stack.agent(stack.collector(start=False), start=False)
    text = agent.config.read_text()
    uplink = f'url = "https://localhost:{port}"\nca_file = "{cert}"\ntoken_file = "{secret(agent.folder)}"\n'
    text = text.replace(f'url = "http://127.0.0.1:{stack.collectors[0].grpc}"\n', uplink)
    http = f'listen = "127.0.0.1:{agent.http}"\n'
    tls = f'cert_file = "{cert}"\nkey_file = "{cert.with_name("key.pem")}"\n'
    agent.config.write_text(text.replace(http, http + tls))
    code, found = doctor(agent)
    assert (code, problems(found)) == (1, {"certificate", "tls"}), found
    (theirs, ours) = found["certificate"]
    assert "the collector's certificate expired on 2021-01-01" in theirs["found"]
    assert "the certificate of http" in ours["found"]


def test_a_disk_that_is_full_or_read_only_is_named(stack: Stack, small_disk: Path) -> None:
    """Both need something done before the agent can take readings."""
    agent = stack.agent(stack.collector(), start=False)
    (small_disk / "data").mkdir()
    agent.data.symlink_to(small_disk / "data")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, timeout=30)
    code, found = doctor(agent)
    assert (code, problems(found)) == (1, {"disk"}), found
    assert "read-only" in found["disk"][0]["found"]
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True, timeout=30)
    fill(small_disk)
    code, found = doctor(agent)
    assert (code, problems(found)) == (1, {"disk", "fsync"}), found


def test_a_data_folder_that_cannot_be_made_is_named(stack: Stack) -> None:
    """A place where nobody may write."""
    agent = stack.agent(stack.collector(), start=False)
    agent.config.write_text(agent.config.read_text().replace(str(agent.data), "/proc/telemetryx"))
    code, found = doctor(agent)
    assert (code, problems(found)) == (1, {"data_dir"}), found


def test_a_taken_port_and_a_damaged_spool_are_named(stack: Stack) -> None:
    """Another program has the port; a segment of the spool is gone."""
    agent, _ = damaged(stack)
    sorted((agent.data / "spool/log").glob("*.seg"))[1].unlink()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", agent.http))
        other.listen()
        code, found = doctor(agent)
    assert (code, problems(found)) == (1, {"connection", "input", "spool"}), found


def test_every_problem_of_a_config_file_is_a_finding(stack: Stack) -> None:
    """Without a file that can be used nothing else is looked at."""
    agent = stack.agent(stack.collector(start=False), start=False)
    agent.config.write_text('[agent]\nname = "a b"\n[journal]\nsegment_bytes = "4KiB"\n')
    code, found = doctor(agent)
    assert (code, set(found)) == (1, {"config"})
    assert len(found["config"]) == 2
    assert f"{agent.config}:2:1" in found["config"][0]["found"]


# --- top


def test_top_shows_one_frame_for_a_script_without_escapes(stack: Stack) -> None:
    """Link, fill, inputs and the last refusals."""
    collector = stack.collector()
    agent = stack.agent(collector)
    assert agent.write("m v=1") == 204
    assert agent.write("m v=\x1b[2J") == 400
    said = ask("top", "--once", "--config", agent.config)
    assert said.returncode == 0, said.stderr
    for part in (
        f"agent {agent.name}",
        "link  up",
        "journal  [",
        "spool    [",
        "http",
        "LAST REFUSED",
        "rejected_syntax",
    ):
        assert part in said.stdout
    assert "\x1b" not in said.stdout


def test_top_without_an_agent_says_so(tmp_path: Path) -> None:
    """As status does: exit code 4."""
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent]\ndata_dir = "{tmp_path}"\n')
    said = ask("top", "--config", file)
    assert (said.returncode, said.stdout) == (4, "")
    assert "no agent is running" in said.stderr


@pytest.mark.parametrize("end", ["q", "\x03", signal.SIGTERM], ids=["q", "ctrl-c", "sigterm"])
def test_top_gives_the_terminal_back_however_it_ends(stack: Stack, end: str | signal.Signals) -> None:
    """It takes the other screen, turns echo off, and undoes both."""
    agent = offline(stack)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
    before = termios.tcgetattr(theirs)
    with subprocess.Popen(
        [AGENT, "top", "--config", str(agent.config)], stdin=theirs, stdout=theirs, stderr=theirs
    ) as child:
        shown = b""

        def read_until(part: bytes) -> bool:
            nonlocal shown
            if select.select([ours], [], [], 1)[0]:
                shown += os.read(ours, 65_536)
            return part in shown

        until("a frame is drawn", lambda: read_until(b"INPUT"))
        assert termios.tcgetattr(theirs)[3] & termios.ECHO == 0
        if isinstance(end, str):
            os.write(ours, end.encode())
        else:
            child.send_signal(end)
        until("the screen is given back", lambda: read_until(b"\x1b[?1049l"))
        assert child.wait(60) == 0
    assert b"\x1b[?1049h" in shown
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
