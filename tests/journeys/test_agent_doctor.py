"""The agent's doctor finds out what is wrong, and changes nothing."""

import contextlib
import json
import os
import signal
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Agent, Stack
from tests.harness.agent_tools import NOBODY, ask, damaged, offline
from tests.harness.processes import PATIENCE
from tests.harness.small_disk import fill
from tests.harness.stack import AGENT


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


def test_a_collector_that_stands_still_is_a_problem(stack: Stack) -> None:
    """Its port takes the connection, and no word comes: it says neither that it is full nor that it ends."""
    collector = stack.collector()
    agent = stack.agent(collector, start=False)
    assert collector.process is not None
    os.kill(collector.process.pid, signal.SIGSTOP)
    code, found = doctor(agent)
    assert (code, problems(found)) == (1, {"session"}), found


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


def test_a_data_folder_that_can_hold_no_data_is_named(stack: Stack) -> None:
    """In /proc, a link that leads back to itself or to a disk that is missing: doctor, check and run say the same of it."""
    agent = stack.agent(stack.collector(), start=False)
    loop, gone = agent.config.parent / "loop", agent.config.parent / "gone"
    loop.symlink_to("loop")
    gone.symlink_to("/nowhere/disk")
    text = agent.config.read_text()
    for place, words in (
        ("/proc/telemetryx", "file system of the kernel (proc)"),
        (loop, f"{loop} is a link to loop, which leads back to it: put a folder in its place"),
        (gone / "data", f"{gone} is a link to /nowhere/disk, which isn't there: mount that disk"),
    ):
        agent.config.write_text(text.replace(str(agent.data), str(place)))
        code, found = doctor(agent)
        assert (code, problems(found)) == (1, {"config"}), found
        assert words in found["config"][0]["found"]
        for command in ("check", "run"):
            said = ask(command, "--config", agent.config)
            assert said.returncode == 3
            assert words in said.stderr
            assert "joined.json" not in said.stderr


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


@pytest.mark.parametrize("log", ["spool", "journal"])
def test_a_log_that_was_there_and_is_gone_is_named_while_it_can_be_put_back(stack: Stack, log: str) -> None:
    """A new agent has none yet, and that is no problem: this one has worked."""
    agent = stack.agent(stack.collector())
    assert agent.process is not None
    agent.process.stop()
    assert log not in problems(doctor(agent)[1])
    (agent.data / log).rename(agent.data / "elsewhere")
    code, found = doctor(agent)
    assert code == 1
    assert log in problems(found), found
    assert "is gone, and was there" in found[log][0]["found"]


def test_every_problem_of_a_config_file_is_a_finding(stack: Stack) -> None:
    """Without a file that can be used little else is looked at: whether an agent runs by it."""
    agent = stack.agent(stack.collector(start=False), start=False)
    agent.config.write_text('[agent]\nname = "a b"\n[journal]\nsegment_bytes = "4KiB"\n')
    code, found = doctor(agent)
    assert (code, set(found)) == (1, {"config", "agent"})
    assert len(found["config"]) == 2
    assert "none is running" in found["agent"][0]["found"]
    assert f"{agent.config}:2:1" in found["config"][0]["found"]


def test_what_another_user_may_not_see_is_neither_damaged_nor_missing(
    stack: Stack, others_folder: Path
) -> None:
    """The enrolment, the spool, the journal, the link: it is said that nobody can tell, and as whom to ask."""
    agent = stack.agent(stack.collector(), start=False)
    data = others_folder / "data"
    (data / "identity").mkdir(parents=True)
    (data / "identity" / "joined.json").write_text("{}")
    data.chmod(0o700)
    config = others_folder / "agent.toml"
    config.write_text(agent.config.read_text().replace(str(agent.data), str(data)))
    config.chmod(0o644)
    as_nobody = [
        "setpriv",
        f"--reuid={NOBODY}",
        "--clear-groups",
        str(AGENT),
        "doctor",
        "--json",
        "--config",
        str(config),
    ]
    said = subprocess.run(as_nobody, capture_output=True, text=True, timeout=PATIENCE, check=False)
    found = {finding["check"]: finding for finding in json.loads(said.stdout)["findings"]}
    for check in ("identity", "link", "spool", "journal"):
        assert found[check]["level"] == "warning", found[check]
        assert "agent's user" in found[check]["remedy"], found[check]
    assert "can't be told" in found["identity"]["found"]
    assert not {"damaged", "enroll"} & set(said.stdout.split())
