"""What a Telegraf-style client writes arrives unchanged: values, tags and times, through a real agent and collector.

The requests are those of Telegraf's outputs.influxdb (POST /write?db=…) and outputs.influxdb_v2 (POST /api/v2/write with
a token); both compress by default, and the metrics of several plugins share one body.
"""

import gzip
import http.client
import json
import struct
import urllib.parse
from typing import Any

from tests.compat.stored import arrived, events, series
from tests.harness import KEEPS_ALL, Agent, Collector, Stack

#: The moment of the first line; all precisions can say it.
SECOND = 1_700_000_000
NS = 1_000_000_000

Found = dict[tuple[str, frozenset[tuple[str, str]]], tuple[list[int], list[float]]]


def post(agent: Agent, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """POST as a client does, and return status, headers and body."""
    link = http.client.HTTPConnection("127.0.0.1", agent.http, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        link.request("POST", path, body, {"User-Agent": "Telegraf/1.30.0 Go/1.22", **named})
        answer = link.getresponse()
        return (
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            answer.read(),
        )
    finally:
        link.close()


def stored(collector: Collector) -> Found:
    """Return every raw sample of the store by name and labels."""
    return {
        (one["name"], frozenset(one["labels"].items())): (one["times_ns"], one["values"])
        for one in series(collector)
    }


def expect(
    name: str, labels: dict[str, str], *samples: tuple[int, float]
) -> tuple[tuple[str, frozenset[tuple[str, str]]], tuple[list[int], list[float]]]:
    """One entry of `stored`."""
    return (name, frozenset(labels.items())), ([time for time, _ in samples], [value for _, value in samples])


def same(found: Found, wanted: Found) -> None:
    """Compare bit by bit, so that 0.1 + 0.2 isn't 0.3 and -0.0 isn't 0."""
    assert found == wanted
    for key, (_, values) in wanted.items():
        count = len(values)
        assert struct.pack(f"{count}d", *found[key][1]) == struct.pack(f"{count}d", *values), key


def count(wanted: Found) -> int:
    """Count the samples."""
    return sum(len(values) for _, values in wanted.values())


def hosts(wanted: Found) -> set[str]:
    """Return the hosts in it."""
    return {dict(labels)["host"] for _, labels in wanted}


def body(host: str, unit: int) -> bytes:
    """Several plugins' metrics at two times, in units of `unit` nanoseconds."""
    first, second = SECOND * NS // unit, (SECOND + 10) * NS // unit
    return "\n".join(
        [
            f"cpu,cpu=cpu-total,host={host} usage_idle=97.30000000000291,usage_user=1.1e-3,ticks=9007199254740992i {first}",
            f'disk,device=sda1,fstype=ext4,host={host},path=/ free=18446744i,used_percent=0.30000000000000004,rw=true,label="root fs" {first}',
            f"system,host={host} load1=-0.0,up=t,down=F,n_users=3u {first}",
            f"my\\ meas\\,ure,tag\\ key=a\\,b\\=c\\ d,größe=µ°,host={host} field\\ 1=-1.5,f\\,2=2i {first}",
            "# a comment",
            "",
            f"temperature,host={host} value=21.5 {first}",
            f"cpu,cpu=cpu-total,host={host} usage_idle=5e-324,usage_user=1.7976931348623157e308,ticks=-1i {second}\r",
        ]
    ).encode()


def expected(name: str) -> Found:
    """Return what must be in the store afterwards, of one host."""
    first, second = SECOND * NS, (SECOND + 10) * NS
    host = {"host": name, "device": name}
    cpu = {"cpu": "cpu-total", **host}
    disk = {"fstype": "ext4", "host": name, "device": "sda1", "path": "/"}
    odd = {"tag key": "a,b=c d", "größe": "µ°", **host}
    return dict(
        [
            expect("cpu.usage_idle", cpu, (first, 97.30000000000291), (second, 5e-324)),
            expect("cpu.usage_user", cpu, (first, 1.1e-3), (second, 1.7976931348623157e308)),
            expect("cpu.ticks", cpu, (first, 9007199254740992.0), (second, -1.0)),
            expect("disk.free", disk, (first, 18446744.0)),
            expect("disk.used_percent", disk, (first, 0.30000000000000004)),
            expect("disk.rw", disk, (first, 1.0)),
            expect("system.load1", host, (first, -0.0)),
            expect("system.up", host, (first, 1.0)),
            expect("system.down", host, (first, 0.0)),
            expect("system.n_users", host, (first, 3.0)),
            expect("my meas,ure.field 1", odd, (first, -1.5)),
            expect("my meas,ure.f,2", odd, (first, 2.0)),
            expect("temperature", host, (first, 21.5)),
        ]
    )


def with_token(stack: Stack, collector: Collector, token: str) -> Agent:
    """Start an agent whose HTTP port wants a token."""
    agent = stack.agent(collector, inputs="", start=False)
    token_file = agent.folder / "tokens"
    token_file.write_text(f"{token}\n")
    token_file.chmod(0o600)
    with agent.config.open("a") as config:
        config.write(f'[input.http]\nlisten = "127.0.0.1:{agent.http}"\ntoken_file = "{token_file}"\n')
    agent.start()
    return agent


def texts(collector: Collector) -> dict[str, Any]:
    """Return the events that text fields became, by host; each host has one."""
    found = events(collector)
    by_host = {event["attributes"]["host"]: event for event in found}
    assert len(by_host) == len(found)
    return by_host


def test_telegraf_writes_to_the_first_api_and_everything_arrives_unchanged(stack: Stack) -> None:
    """POST /write?db=…: numbers bit by bit, tags as labels, times to the nanosecond, text as an event."""
    collector = stack.collector(KEEPS_ALL)
    agent = stack.agent(collector)
    wanted: Found = {}
    headers = {"Content_Type": "text/plain; charset=utf-8"}
    for precision, unit in {"": 1, "ns": 1, "n": 1, "u": 1_000, "ms": 1_000_000, "s": NS}.items():
        query = urllib.parse.urlencode({"db": "telegraf", **({"precision": precision} if precision else {})})
        lines = body(f"plain-{precision}", unit)
        assert post(agent, f"/write?{query}", lines, **headers)[::2] == (204, b"")
        lines = gzip.compress(body(f"gzip-{precision}", unit))
        assert post(agent, f"/write?{query}", lines, Content_Encoding="gzip", **headers)[::2] == (204, b"")
        wanted |= expected(f"plain-{precision}") | expected(f"gzip-{precision}")
    arrived(agent, collector, count(wanted), len(hosts(wanted)))
    same(stored(collector), wanted)
    by_host = texts(collector)
    assert by_host.keys() == hosts(wanted)
    for event in by_host.values():
        assert (event["source"], event["body"], event["time_ns"]) == ("disk", "root fs", SECOND * NS)
        assert event["attributes"]["path"] == "/"


def test_telegraf_writes_to_the_second_api_with_a_token(stack: Stack) -> None:
    """POST /api/v2/write?org&bucket&precision, Authorization: Token …; another token gets 401 and leaves nothing."""
    collector = stack.collector(KEEPS_ALL)
    agent = with_token(stack, collector, "s3cret-token")
    wanted: Found = {}
    packed = {"Content_Encoding": "gzip"}
    for precision, unit in {"": 1, "ns": 1, "us": 1_000, "ms": 1_000_000, "s": NS}.items():
        query = {"org": "plant", "bucket": "b/1", **({"precision": precision} if precision else {})}
        path = f"/api/v2/write?{urllib.parse.urlencode(query)}"
        for wrong in ({"Authorization": "Token another"}, {}):
            status, _, text = post(agent, path, gzip.compress(body("intruder", unit)), **packed, **wrong)
            assert status == 401
            assert json.loads(text)["code"] == "unauthorized"
        lines = gzip.compress(body(f"v2-{precision}", unit))
        answer = post(agent, path, lines, Authorization="Token s3cret-token", **packed)
        assert answer[::2] == (204, b"")
        wanted |= expected(f"v2-{precision}")
    arrived(agent, collector, count(wanted), len(hosts(wanted)))
    same(stored(collector), wanted)
    assert texts(collector).keys() == hosts(wanted)


def test_a_partly_bad_body_keeps_its_good_lines_and_says_which_were_bad_and_why(stack: Stack) -> None:
    """400 with the number and the reason of each bad line, in each API's form; what stands between them is stored."""
    collector = stack.collector(KEEPS_ALL)
    agent = stack.agent(collector)
    lines = "\n".join(
        [
            f"m,host=a v=1 {SECOND}",
            "m,host=a v=",
            f"m,host=a v=3 {SECOND + 1}",
            f"m,host=a v=notanumber {SECOND + 2}",
            f"m,host=a v=5 {SECOND + 3}",
        ]
    ).encode()
    status, headers, text = post(
        agent, "/write?db=x&precision=s", gzip.compress(lines), Content_Encoding="gzip"
    )
    message = json.loads(text)["error"]
    assert status == 400
    assert message.startswith("partial write: unable to parse 'm,host=a v=': missing field value (line 2)")
    assert "'m,host=a v=notanumber" in message
    assert "(line 4)" in message
    assert "dropped=2" in message
    assert headers["x-influxdb-error"].startswith("partial write")

    status, _, text = post(
        agent, "/api/v2/write?org=o&bucket=b&precision=s", lines.replace(b"host=a", b"host=b")
    )
    answer = json.loads(text)
    assert status == 400
    assert answer["code"] == "invalid"
    assert "(line 2)" in answer["message"]
    assert "(line 4)" in answer["message"]

    wanted = ((SECOND * NS, 1.0), ((SECOND + 1) * NS, 3.0), ((SECOND + 3) * NS, 5.0))
    readings = dict([expect("m.v", {"host": host, "device": host}, *wanted) for host in ("a", "b")])
    arrived(agent, collector, count(readings))
    same(stored(collector), readings)


def test_a_client_that_creates_its_database_first_is_content(stack: Stack) -> None:
    """Telegraf asks for CREATE DATABASE at its start, and for /ping; neither stands in its way."""
    agent = stack.agent(stack.collector(KEEPS_ALL, start=False))
    status, _, text = post(
        agent,
        "/query",
        urllib.parse.urlencode({"q": 'CREATE DATABASE "telegraf"'}).encode(),
        Content_Type="application/x-www-form-urlencoded",
    )
    assert status == 200
    assert "error" not in json.loads(text)["results"][0]
    status, headers, _ = post(agent, "/ping", b"")
    assert status == 204
    assert headers["x-influxdb-version"]
