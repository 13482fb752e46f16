"""The whole collector as a process: one batch from socket to screen, its alerts, and how it starts and stops."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from redis_server import RedisServer
from reference_agent import PATIENCE_S, ReferenceAgent, defined, samples
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.wire.payload import Payload

SOURCES = Path(__file__).parents[1] / "src"
TOKEN = "tx_0123456789abcdef"
S = 1_000_000_000


@dataclass
class Process:
    """A collector that says where it listens."""

    child: asyncio.subprocess.Process
    http: str
    grpc: int
    told: list[str] = field(default_factory=list)
    """What it printed beside its log until then."""

    async def get(self, path: str, **more: Any) -> Any:
        """GET JSON."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.http}{path}", **more) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json(content_type=None)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.child.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            return await self.child.wait()


def _command(folder: Path, extra: str) -> tuple[list[str], dict[str, str]]:
    path = folder / "collector.toml"
    given = [line for line in extra.splitlines() if line.startswith("[") and not line.startswith("[[")]
    own = {
        "[collector]": f'data_dir = "{folder}/data"\nlog_format = "json"\n',
        "[api]": 'listen = "127.0.0.1:0"\n',
        "[gateway]": 'listen = "127.0.0.1:0"\n',
    }
    path.write_text("".join(f"{head}\n{body}" for head, body in own.items() if head not in given) + extra)
    command = [sys.executable, "-m", "telemetryx", "collector", "--config", str(path)]
    return command, {**os.environ, "PYTHONPATH": str(SOURCES)}


def refused(folder: Path, extra: str = "") -> str:
    """Try to start a collector that can't; return what it says."""
    command, environment = _command(folder, extra)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in {1, 2}, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start collectors, kill what still runs at the end."""
    children: list[asyncio.subprocess.Process] = []

    async def begin(extra: str = "", scheme: str = "http") -> Process:
        command, environment = _command(tmp_path, extra)
        child = await asyncio.create_subprocess_exec(
            *command, env=environment, stderr=asyncio.subprocess.PIPE
        )
        children.append(child)
        assert child.stderr is not None
        async with asyncio.timeout(120):
            told: list[str] = []
            while line := await child.stderr.readline():
                if not line.startswith(b"{"):
                    told.append(line.decode().strip())
                    continue
                said = json.loads(line)
                if said["event"] == "collector_ready":
                    _, _, port = said["agents"].rpartition(":")
                    http = f"{scheme}://127.0.0.1:{said['http'].rpartition(':')[2]}"
                    return Process(child, http, int(port), told)
        raise AssertionError("it ended before it was ready")

    yield begin
    for child in children:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def send(
    process: Process, values: list[tuple[int, float]], agent: ReferenceAgent | None = None
) -> ReferenceAgent:
    """Send one batch as an agent does, and wait for its acknowledgement."""
    agent = agent or ReferenceAgent("edge")
    async with agent.session(process.grpc) as link:
        await link.send(
            agent.cut(Payload(samples=samples({1: values})), defined("temperature", site="plant1"))
        )
        await link.acked()
    return agent


async def test_a_batch_goes_from_the_agents_door_to_rest_live_and_metrics(start: Start) -> None:
    """Acknowledged means: everybody can see it."""
    process = await start()
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{process.http}/api/v1/live") as live:
        await live.send_json({"subscribe": {"match": "temperature"}, "cursor": 0, "max_hz": 4})
        now = time.time_ns()
        await send(process, [(now, 21.5)])
        # Whoever hears nothing for a while is told the cursor, without series.
        async with asyncio.timeout(PATIENCE_S):
            while not (heard := await live.receive_json()).get("series"):
                pass
    ((_, points),) = heard["series"].items()
    assert points == {"times_ns": [now], "values": [21.5]}
    (row,) = (await process.get("/api/v1/series"))["series"]
    assert row["latest"] == {"time_ns": now, "value": 21.5, "special": None}
    totals = (await process.get("/api/v1/status"))["totals"]
    assert (totals["samples_total"], totals["batches_total"]) == (1, 1)
    assert totals["delay_p50_ms"] < 1_000 * PATIENCE_S, "milliseconds"
    async with aiohttp.ClientSession() as session, session.get(f"{process.http}/metrics") as answer:
        longest = re.findall(r'store_write_longest_seconds\{kind="(\w+)"\} (\S+)', await answer.text())
    assert {kind for kind, _ in longest} == {"ingest", "rules", "status", "upkeep"}
    assert float(dict(longest)["ingest"]) > 0
    ledger = {entry["cause"]: entry["count"] for entry in (await process.get("/api/v1/loss"))["loss"]}
    assert ledger["stored"] == 1
    (agent,) = (await process.get("/api/v1/agents"))["agents"]
    assert (agent["name"], agent["state"]) == ("edge", "silent")
    assert (await process.get("/readyz"))["ready"]
    assert await process.stop() == 0


async def test_a_reading_over_the_limit_alerts_over_rest_live_and_webhook(
    start: Start, tmp_path: Path
) -> None:
    """Judged at its own time; told once to each."""
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def hook(request: web.Request) -> web.Response:
        await told.put(await request.json())
        return web.Response()

    receiver = web.Application()
    receiver.router.add_post("/hook", hook)
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - name: hot\n    select: temperature\n    window: 10s\n    agg: max\n    when: '> 80'\n"
        '    interval: reading\n    severity: critical\n    summary: "{{ value }} at {{ labels.site }}"\n'
    )
    async with TestServer(receiver) as server:
        process = await start(
            f'[rules]\nfiles = ["{tmp_path}/rules.yaml"]\n[[notify.webhook]]\nurl = "{server.make_url("/hook")}"\n'
        )
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{process.http}/api/v1/live") as live,
        ):
            await live.send_json({"subscribe": {"alerts": True}, "cursor": 0})
            assert (await live.receive_json())["type"] == "resumed"
            base = time.time_ns() - 60 * S
            agent = await send(process, [(base, 20.0), (base + S, 90.0), (base + 2 * S, 91.0)])
            async with asyncio.timeout(PATIENCE_S):
                while (heard := await live.receive_json()).get("alert", {}).get("state") != "firing":
                    pass
                message = await told.get()
        del agent
        assert heard["alert"]["rule"] == "hot"
        assert "hot" in json.dumps(message)
        (alert,) = (await process.get("/api/v1/alerts?rule=hot&state=all"))["alerts"]
        assert (alert["severity"], alert["labels"]["site"]) == ("critical", "plant1")
        assert [rule["name"] for rule in (await process.get("/api/v1/rules"))["rules"]].count("hot") == 1
        assert await process.stop() == 0


async def test_redis_may_go_and_come_while_everything_goes_on(start: Start) -> None:
    """Acknowledged, queried, ready: with Redis, without it, and with it again. /readyz and /metrics say which."""
    server = RedisServer()

    async def hot(process: Process) -> tuple[str, str]:
        async with aiohttp.ClientSession() as session, session.get(f"{process.http}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        (connected,) = [
            line for line in lines if line.startswith("telemetryx_collector_hot_redis_connected ")
        ]
        parts = (await process.get("/readyz"))["parts"]
        (note,) = [part["reason"] for part in parts if part["name"] == "hot"]
        return note, connected.rpartition(" ")[2]

    async def becomes(process: Process, connected: str) -> str:
        async with asyncio.timeout(PATIENCE_S):
            while (found := await hot(process))[1] != connected:
                await asyncio.sleep(0.05)
        return found[0]

    try:
        server.start()
        process = await start(f'[hot]\nurl = "{server.url}"\nnamespace = "plant"\n')
        assert not await becomes(process, "1")
        now = time.time_ns()
        agent = await send(process, [(now, 1.0)])
        server.kill()
        assert "Redis is away" in await becomes(process, "0")
        await send(process, [(now + 1, 2.0)], agent)
        (row,) = (await process.get("/api/v1/latest"))["series"]
        assert row["latest"]["value"] == 2.0
        server.start()
        assert not await becomes(process, "1")
        server.freeze()
        assert "Redis is away" in await becomes(process, "0")
        await send(process, [(now + 2, 3.0)], agent)
        (row,) = (await process.get("/api/v1/latest"))["series"]
        assert row["latest"]["value"] == 3.0
        status = await process.get("/api/v1/status")
        assert (status["ready"], status["processes"]) == (True, 1)
        assert status["readings_per_second"] > 0
        assert await process.stop() == 0
    finally:
        server.remove()


async def test_readings_are_plain_rows_where_the_configuration_says_so(start: Start, tmp_path: Path) -> None:
    """Within seconds any program with SQLite reads them; the file is the collector's own, and it runs."""
    process = await start('[store]\nplain_rows = true\ncompact_interval = "1s"\n')
    now = time.time_ns()
    await send(process, [(now, 21.5), (now + 1, 22.5)])
    with contextlib.closing(sqlite3.connect(f"file:{tmp_path}/data/telemetry.db?mode=ro", uri=True)) as db:
        asked = (
            "SELECT name, time_ns, value FROM sample JOIN series ON series.id = series_id ORDER BY time_ns"
        )
        async with asyncio.timeout(PATIENCE_S):
            while len(found := db.execute(asked).fetchall()) < 2:
                await asyncio.sleep(0.05)
    assert found == [("temperature", now, 21.5), ("temperature", now + 1, 22.5)]
    assert await process.stop() == 0


async def test_data_and_cursor_survive_a_kill_and_a_resend_is_no_duplicate(start: Start) -> None:
    """The live stream resumes across it."""
    process = await start()
    now = time.time_ns()
    agent = await send(process, [(now, 1.0)])
    process.child.kill()
    await process.child.wait()
    again = await start()
    agent.next_seq = 1
    await send(again, [(now, 1.0)], agent)
    await send(again, [(now + 1, 2.0)], agent)
    lines = (await again.get("/api/v1/query_range?match=temperature&start=-1h&end=now&agg=raw"))["series"]
    assert lines[0]["values"] == [1.0, 2.0]
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{again.http}/api/v1/live") as live:
        await live.send_json({"subscribe": {"match": "temperature"}, "cursor": 1})
        assert await live.receive_json() == {"type": "resumed", "from": 1, "gap": False}
        async with asyncio.timeout(PATIENCE_S):
            while not (heard := await live.receive_json()).get("series"):
                pass
    assert next(iter(heard["series"].values()))["values"] == [2.0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order_with_clients_connected(start: Start, number: signal.Signals) -> None:
    """Agents and browsers are let go; the exit code is 0; the file needs no repair."""
    process = await start()
    agent = ReferenceAgent("edge")
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{process.http}/api/v1/live") as live:
        async with agent.session(process.grpc) as link:
            await link.send(agent.cut(Payload(samples=samples({1: [(time.time_ns(), 1.0)]})), defined("t")))
            await link.acked()
            assert await process.stop(number) == 0
        async with asyncio.timeout(PATIENCE_S):
            assert (await live.receive()).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING}


async def test_it_stays_small(start: Start) -> None:
    """The target is 200 MB; an idle one is far below."""
    process = await start()
    await send(process, [(time.time_ns() + number, float(number)) for number in range(10_000)])
    status = await asyncio.to_thread(Path(f"/proc/{process.child.pid}/status").read_text)
    resident = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert resident < 150_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost, made by openssl."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(
                "/usr/bin/openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ),
            *("-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


async def test_off_loopback_both_doors_speak_tls_and_ask_for_tokens(
    start: Start, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """Plain connections and strangers get nothing; a secure cookie is for TLS only."""
    cert, key = certificate
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(TOKEN)
    door = (
        f'listen = "0.0.0.0:0"\ntls_cert_file = "{cert}"\ntls_key_file = "{key}"\ntoken_file = "{tokens}"\n'
    )
    process = await start(f"[api]\n{door}[gateway]\n{door}", "https")
    trusted = ssl.create_default_context(cafile=str(cert))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as session:
        async with session.get(f"{process.http}/api/v1/agents") as answer:
            assert answer.status == 401
        async with session.get(
            f"{process.http}/api/v1/agents", headers={"Authorization": f"Bearer {TOKEN}"}
        ) as answer:
            assert answer.status == 200
        async with session.post(f"{process.http}/api/v1/login", json={"token": TOKEN}) as answer:
            assert "Secure" in answer.headers["Set-Cookie"]
    with pytest.raises(aiohttp.ClientError):
        await Process(process.child, process.http.replace("https", "http"), 0).get("/healthz")
    credentials = grpc.ssl_channel_credentials(cert.read_bytes())
    with pytest.raises((AssertionError, grpc.aio.AioRpcError), match="UNAUTHENTICATED"):
        async with ReferenceAgent("edge").session(process.grpc, credentials=credentials):
            pass
    async with ReferenceAgent("edge").session(process.grpc, credentials=credentials, token=TOKEN):
        pass
    assert await process.stop() == 0


async def test_where_nobody_could_get_in_a_link_makes_the_first_admin_once(
    start: Start, certificate: tuple[Path, Path]
) -> None:
    """Off loopback without a token file, over TLS; not where there is one, and not once there is an account."""
    cert, key = certificate
    door = f'[api]\nlisten = "0.0.0.0:0"\ntls_cert_file = "{cert}"\ntls_key_file = "{key}"\n'
    process = await start(door, "https")
    (link,) = [line for line in process.told if "/#/first?code=" in line]
    assert link.startswith("https://")
    body = {"code": link.partition("code=")[2], "name": "ana", "password": "correct horse battery"}
    trusted = ssl.create_default_context(cafile=str(cert))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as session:
        async with session.get(f"{process.http}/api/v1/agents") as answer:
            assert answer.status == 401
        for status in (200, 401):
            async with session.post(f"{process.http}/api/v1/first", json=body) as answer:
                assert answer.status == status
                if status == 200:
                    cookies = answer.headers.getall("Set-Cookie")
                    assert all(one.startswith("__Host-") and "Secure" in one for one in cookies)
    assert await process.stop() == 0
    again = await start(door, "https")
    assert again.told == []
    assert await again.stop() == 0


async def test_a_collector_that_anybody_or_a_token_gets_into_prints_no_link(
    start: Start, tmp_path: Path
) -> None:
    """The demo on loopback, and a token file as before."""
    open_to_all = await start()
    assert open_to_all.told == []
    assert await open_to_all.stop() == 0
    tokens = tmp_path / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(TOKEN)
    process = await start(f'[api]\nlisten = "127.0.0.1:0"\ntoken_file = "{tokens}"\n')
    assert process.told == []
    assert await process.stop() == 0


async def test_a_taken_port_is_named_with_the_key_to_change(start: Start, tmp_path: Path) -> None:
    """For both doors."""
    process = await start()
    taken = process.http.rpartition(":")[2]
    (tmp_path / "x").mkdir()
    said = refused(tmp_path / "x", f'[api]\nlisten = "127.0.0.1:{taken}"\n')
    assert f"127.0.0.1:{taken}" in said
    assert "`listen` in [api]" in said
    said = refused(tmp_path / "x", f'[gateway]\nlisten = "127.0.0.1:{process.grpc}"\n')
    assert "[gateway] listen" in said


def test_what_keeps_it_from_starting_is_said_with_the_remedy(tmp_path: Path) -> None:
    """Never a traceback, never a half-started collector."""
    assert "together: set both, or neither" in refused(
        tmp_path, f'[api]\nlisten = "0.0.0.0:8420"\ntls_cert_file = "{tmp_path}/cert.pem"\n'
    )
    assert "token new" in refused(
        tmp_path, f'[api]\nlisten = "127.0.0.1:0"\ntoken_file = "{tmp_path}/none"\n'
    )
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert f"data_dir {loop} can't be used" in refused(tmp_path, f'[collector]\ndata_dir = "{loop}"\n')
    (tmp_path / "rules.yaml").write_text("rules:\n  - nome: x\n")
    assert "rules.yaml:2" in refused(tmp_path, f'[rules]\nfiles = ["{tmp_path}/rules.yaml"]\n')
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data/telemetry.db").write_bytes(b"this is no database" * 1_000)
    assert "telemetry.db" in refused(tmp_path)


def on(database: PostgresEngine) -> str:
    """The collector's [store] table for a database."""
    return f'[store]\nurl = "{database.url}"\npassword_file = "{database.password_file}"\n'


async def test_a_collector_on_postgresql_goes_from_the_agents_door_to_rest(
    start: Start, database: PostgresEngine, tmp_path: Path
) -> None:
    """Acknowledged means stored there: another collector, started later, shows it; nothing lies in the data folder."""
    process = await start(on(database))
    now = time.time_ns()
    await send(process, [(now - S, 20.5), (now, 21.5)])
    (series,) = (await process.get("/api/v1/series"))["series"]
    assert series["latest"] == {"time_ns": now, "value": 21.5, "special": None}
    assert await process.stop() == 0
    again = await start(on(database))
    (series,) = (await again.get("/api/v1/series"))["series"]
    assert series["latest"]["value"] == 21.5
    assert await again.stop() == 0
    assert not await asyncio.to_thread(lambda: list(tmp_path.rglob("*.db")))


async def test_commands_look_into_the_database_beside_the_collector(
    start: Start, database: PostgresEngine, tmp_path: Path
) -> None:
    """`store verify`, `store stats` and `sql` read it as they read the file."""
    process = await start(on(database))
    now = time.time_ns()
    await send(process, [(now - S, 20.5), (now, 21.5)])

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "telemetryx", *words, "--config", str(tmp_path / "collector.toml")]
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "is sound" in await asyncio.to_thread(run, "store", "verify")
    stats = json.loads(await asyncio.to_thread(run, "store", "stats", "--json"))
    assert (stats["series"], stats["batch_samples"]) == (1, 2)
    assert stats["url"].startswith("127.0.0.1")
    answer = json.loads(await asyncio.to_thread(run, "sql", "SELECT max(value) AS v FROM samples", "--json"))
    assert answer == [{"v": 21.5}]
    assert await process.stop() == 0


def test_a_database_that_cannot_be_opened_ends_the_start_with_a_sentence(
    tmp_path: Path, database: PostgresEngine
) -> None:
    """What is wrong and what to do, without a trace and without a password."""
    wrong = tmp_path / "wrong"
    wrong.write_text("s3cret\n")
    said = refused(tmp_path, on(replace(database, password_file=wrong)))
    assert "password authentication failed" in said
    assert "password_file" in said
    assert "s3cret" not in said
    assert "create the database" in refused(tmp_path, on(replace(database, url=f"{database.url}_not")))
