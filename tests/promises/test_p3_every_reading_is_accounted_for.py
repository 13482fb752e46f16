"""P3: received + derived = rejected + deduplicated + reduced + shipped, and shipped = stored + lost by cause + in flight.

What the tests send is counted here, by hand; the ledger must have the same numbers, over REST and on the command line,
whatever was killed, full, too old or damaged on the way.
"""

import json
import random
import shutil
import socket
import time
from collections import Counter
from pathlib import Path

from tests.harness import Agent, Collector, Stack, until
from tests.harness.ledger import ledger, settled
from tests.harness.processes import PATIENCE

SECOND = 1_000_000_000
#: Of the series that are folded into windows.
WINDOW = 10
ROUTES = f"""
[[fold.route]]
match = "slow.*"
to = "window"
window = "{WINDOW}s"

[[fold.route]]
match = "noise.*"
to = "drop"
"""
#: Lines by what they are counted as.
BAD_LINES = {
    "rejected_syntax": ["bad,device=x v=", "bad", "bad,device=x v=1 v=2 v=3"],
    "rejected_not_finite": ["bad,device=x v=NaN", "bad,device=x v=1e999"],
    "rejected_time": ["bad,device=x v=1 9223372036854775808"],
    "rejected_limit": ["bad,device=" + "x" * 2_000 + " v=1"],
}
#: MQTT: a client that keeps its session, and one message at QoS 2 with packet id 7.
CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x3c\x00\x01q"
PUBLISH = b"\x34\x0c\x00\x06once/n\x00\x0742"
RESENT = bytes([PUBLISH[0] | 0x08]) + PUBLISH[1:]
PUBREC, PUBREL, PUBCOMP = b"\x50\x02\x00\x07", b"\x62\x02\x00\x07", b"\x70\x02\x00\x07"
#: A body of random values, which no encoding makes much smaller.
LINES = 2_000


def lines(name: str, values: range, start: int = 0, step: int = SECOND) -> str:
    """Write a series' readings, one a line, each with a time of its own."""
    return "\n".join(f"{name} v={value}i {start + value * step}" for value in values)


def send_once(agent: Agent, *packets: tuple[bytes, bytes]) -> bytes:
    """Connect with the kept session and exchange packets; returns the CONNACK. The connection then breaks."""
    with socket.create_connection(("127.0.0.1", agent.mqtt), timeout=PATIENCE) as link:
        link.sendall(CONNECT)
        with link.makefile("rb") as answers:
            greeting = answers.read(4)
            for packet, answer in packets:
                link.sendall(packet)
                assert answers.read(4) == answer
    return greeting


def kill(part: Agent | Collector) -> None:
    """Kill it, and start it again."""
    assert part.process is not None
    part.process.kill()
    part.start()


def test_a_mix_of_everything_is_accounted_for_over_kills(stack: Stack) -> None:
    """Good, refused, windowed, dropped and resent readings; the agent killed after each kind, the collector in between."""
    collector = stack.collector()
    agent = stack.agent(collector, extra=ROUTES)
    sent: Counter[str] = Counter()

    start = time.time_ns() // SECOND // WINDOW * WINDOW * SECOND - 3_600 * SECOND

    def good(count: int, name: str) -> None:
        assert agent.write(lines(name, range(count), start)) == 204
        sent.update(received=count, shipped=count)

    good(300, "good,round=1")
    kill(agent)

    for cause, bad in BAD_LINES.items():
        for line in bad:
            assert agent.write(line) == 400, line
            sent.update({"received": 1, cause: 1})
    # Of a body that is partly wrong the good part is kept.
    assert agent.write(f"mixed v=1 {start}\nmixed v=oops\nmixed v=2 {start}\n") == 400
    sent.update(received=3, shipped=2, rejected_syntax=1)
    # Counts need not be on disk when a refusal is answered; what is acknowledged after them is.
    until("the refusals are counted", lambda: received(agent) == sent["received"] - 300)
    good(100, "good,round=2")
    kill(agent)

    windows = 12
    for half in (range(windows * WINDOW // 2), range(windows * WINDOW // 2, windows * WINDOW)):
        assert agent.write(lines("slow", half, start)) == 204
        sent.update(received=len(half), reduced_window=len(half))
        kill(agent)
    sent.update(derived=windows, shipped=windows)
    assert agent.write(lines("noise", range(50), start)) == 204
    sent.update(received=50, reduced_drop=50)

    assert collector.process is not None
    collector.process.kill()
    keyed = lines("keyed", range(40), start)
    for again in (False, True, True):
        assert agent.write(keyed, headers={"Idempotency-Key": "the same"}) == 204
        sent.update(received=40)
        sent.update({"deduplicated" if again else "shipped": 40})
        kill(agent)
    collector.start()

    assert send_once(agent, (PUBLISH, PUBREC))[2] == 0
    kill(agent)
    # The session is there again, and knows that the message was taken.
    assert send_once(agent, (RESENT, PUBREC), (RESENT, PUBREC))[2] == 1
    send_once(agent, (PUBREL, PUBCOMP))
    sent.update(received=3, deduplicated=2, shipped=1)
    good(10, "good,round=3")

    # The last window is passed over by a tick once its host has been silent.
    until("all windows are made", lambda: ledger(collector).get("derived") == windows)
    counts = settled(collector, agent, sent["received"])
    assert counts == {**sent, "stored": sent["shipped"]}
    assert collector.values("n") == [[42.0]]


def received(agent: Agent) -> int:
    """Return what the inputs have counted since the agent's start."""
    return sum(one["received"] for one in agent.status()["inputs"])


# --- what is lost on the way has a cause


def backlog(agent: Agent, megabytes: int, step: int = SECOND // 1_000) -> int:
    """Send random values into an agent whose collector is away; returns how many."""
    noise = random.Random(megabytes)
    at = time.time_ns() - 3_600 * SECOND
    sent = 0
    while sent * 8 < megabytes << 20:
        body = "\n".join(
            f"load v={noise.uniform(-1e9, 1e9)!r} {at + (sent + number) * step}" for number in range(LINES)
        )
        assert agent.write(body) == 204
        sent += LINES
    until("all of it is in batches", agent.in_batches)
    return sent


def segments(agent: Agent) -> list[Path]:
    """Return the spool's files, oldest first."""
    return sorted((agent.data / "spool/log").glob("*.seg"))


def accounted(collector: Collector, agent: Agent, sent: int, cause: str) -> dict[str, int]:
    """Wait for the end; the ledger must say that some was stored and the rest lost by this cause alone."""
    counts = settled(collector, agent, sent)
    assert set(counts) == {"received", "shipped", "stored", cause}, counts
    assert counts["received"] == counts["shipped"] == sent
    assert counts["stored"] > 0
    assert counts[cause] > 0
    assert sum(len(values) for values in collector.values("load.v", start="0")) == counts["stored"]
    return counts


def test_what_overflows_the_spool_is_accounted_for(stack: Stack) -> None:
    """Three megabytes for a spool of one, while the collector is away."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, extra='[spool]\nmax_bytes = "1MiB"\nsegment_bytes = "256KiB"\n')
    sent = backlog(agent, 3)
    collector.start()
    accounted(collector, agent, sent, "overflowed")


CLASSES = """
[spool]
max_bytes = "1MiB"
segment_bytes = "256KiB"

[[spool.class]]
match = "load.*"
labels = { worth = "low" }
priority = "low"

[[spool.class]]
match = "load.*"
labels = { worth = "high" }
priority = "high"
"""


def test_over_its_cap_the_low_goes_and_the_high_is_kept(stack: Stack) -> None:
    """A quarter is high, a half low: with room for a third of all, the high arrives whole and of the normal more than of the low."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, extra=CLASSES)
    noise = random.Random(7)
    at = time.time_ns() - 3_600 * SECOND
    sent: Counter[str] = Counter()
    for body in range(200):
        lines_of = []
        for number in range(1_600):
            worth = ("low", "low", "normal", "high")[number % 4]
            # What is high is small: it fits.
            value = noise.uniform(-1e9, 1e9) if worth != "high" else float(number)
            lines_of.append(
                f"load,worth={worth} v={value!r} {at + (body * 1_600 + number) * SECOND // 1_000}"
            )
            sent[worth] += 1
        assert agent.write("\n".join(lines_of)) == 204
    until("all of it is in batches", agent.in_batches)
    lost = agent.status()["spool"]["lost"]
    assert {one["cause"] for one in lost} == {"overflowed"}
    assert all(at <= one["from_ns"] <= one["to_ns"] for one in lost)
    collector.start()
    counts = accounted(collector, agent, sent.total(), "overflowed")
    kept = {
        worth: sum(len(values) for values in collector.values(f'load.v{{worth="{worth}"}}', start="0"))
        for worth in sent
    }
    assert kept["high"] == sent["high"]
    assert kept["low"] / sent["low"] < kept["normal"] / sent["normal"]
    assert sum(one["readings"] for one in lost) <= counts["overflowed"]


def test_what_blocks_pushes_back_to_the_sender_and_is_not_lost(stack: Stack) -> None:
    """The spool takes no more, the journal fills, and HTTP answers 503 with Retry-After until the collector is there."""
    collector = stack.collector(start=False)
    extra = (
        '[journal]\nmax_bytes = "1MiB"\nsegment_bytes = "256KiB"\n'
        '[spool]\nmax_bytes = "512KiB"\nsegment_bytes = "256KiB"\n[[spool.class]]\nmatch = "load.*"\noverflow = "block"\n'
    )
    agent = stack.agent(collector, extra=extra)
    noise = random.Random(9)
    at = time.time_ns() - 3_600 * SECOND
    sent = 0

    def write() -> int:
        body = "\n".join(
            f"load v={noise.uniform(-1e9, 1e9)!r} {at + (sent + number) * SECOND // 1_000}"
            for number in range(LINES)
        )
        return agent.write(body)

    def pushed_back() -> str:
        nonlocal sent
        answer = write()
        sent += LINES if answer == 204 else 0
        # A journal that is full for a moment says 503 too: until then the fold goes on.
        return agent.status()["fold"]["blocked"] if answer == 503 else ""

    assert "forbid to drop" in until("the sender waits and the status says why", pushed_back)
    assert agent.status()["spool"]["lost"] == []
    collector.start()
    until("it takes readings again", lambda: write() == 204)
    sent += LINES
    counts = settled(collector, agent, sent)
    assert counts == {"received": sent, "shipped": sent, "stored": sent}


def test_what_is_thinned_in_the_spool_is_accounted_for(stack: Stack) -> None:
    """Raw readings of a low class become windows of a minute: all are in raw rows or windows, and none is lost."""
    collector = stack.collector(start=False)
    extra = (
        '[spool]\nmax_bytes = "1MiB"\nsegment_bytes = "256KiB"\n[[spool.class]]\nmatch = "load.*"\n'
        'priority = "low"\noverflow = "thin"\nthin_to = "1m"\n'
    )
    agent = stack.agent(collector, extra=extra)
    sent = backlog(agent, 3)
    collector.start()
    counts = settled(collector, agent, sent)
    assert set(counts) == {"received", "derived", "reduced_window", "shipped", "stored"}
    assert counts["received"] == sent
    assert 0 < counts["derived"] < counts["reduced_window"] / 100
    assert 0 < counts["reduced_window"] <= sent
    answer = collector.get(
        "/api/v1/query_range", match="load.v", start="-2d", end="now", step="1h", agg="count"
    )
    (series,) = answer["series"]
    # Raw readings and windows together are all that was sent.
    assert sum(count for count in series["values"] if count) == sent


def test_what_expires_in_the_spool_is_accounted_for(stack: Stack) -> None:
    """An outage of half an hour by the readings' times, for a spool that keeps ten minutes."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, extra='[spool]\nmax_age = "10m"\nsegment_bytes = "256KiB"\n')
    sent = backlog(agent, 1, step=1_800 * SECOND // (1 << 17))
    collector.start()
    accounted(collector, agent, sent, "expired")


def test_old_events_expire_behind_younger_ones_and_each_is_counted(stack: Stack) -> None:
    """What a program sends of yesterday, after its newest: too old for the spool, to the last event, and nothing else."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, extra='[spool]\nmax_age = "10m"\n')
    now = time.time_ns()

    def post(count: int, at: int) -> None:
        body = "\n".join(
            json.dumps({"source": "app", "message": f"{number}", "time": at + number})
            for number in range(count)
        )
        assert agent.write(body, "/v1/events") == 204
        until("they are in a batch", agent.in_batches)

    post(30, now)
    post(41, now - 86_400 * SECOND)
    assert agent.write("load v=1") == 204
    until("they have expired", lambda: agent.status()["spool"]["lost"])
    (lost,) = agent.status()["spool"]["lost"]
    assert (lost["cause"], lost["readings"]) == ("expired", 41)
    assert (lost["from_ns"], lost["to_ns"]) == (now - 86_400 * SECOND, now - 86_400 * SECOND + 40)
    collector.start()
    counts = settled(collector, agent, 72)
    assert counts == {"received": 72, "shipped": 72, "stored": 31, "expired": 41}
    assert len(collector.get("/api/v1/events", source="app", start="0", limit=1000)["events"]) == 30


def test_what_is_damaged_in_the_spool_is_accounted_for(stack: Stack) -> None:
    """Bytes flipped in the middle of an old segment while the agent is down: its neighbours arrive, the rest has a name."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, extra='[spool]\nsegment_bytes = "256KiB"\n')
    sent = backlog(agent, 2)
    assert agent.process is not None
    assert agent.process.stop() == 0
    old = segments(agent)
    assert len(old) > 3
    flip(old[1], old[1].stat().st_size // 2, 64)
    agent.start()
    collector.start()
    counts = accounted(collector, agent, sent, "damaged")
    # A batch or two around the flipped bytes, no more.
    assert counts["damaged"] < sent // 2


def damaged_journal(stack: Stack) -> tuple[Agent, Collector]:
    """Damage the third of five records of 100 readings in the journal, and let the agent fold all of it anew."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector)
    start = time.time_ns() // SECOND * SECOND - 3_600 * SECOND
    for first in range(0, 500, 100):
        assert agent.write(lines("load", range(first, first + 100), start)) == 204
    assert agent.process is not None
    agent.process.kill()
    # Without checkpoint and spool everything is folded from the journal's beginning.
    (agent.data / "fold.checkpoint").unlink(missing_ok=True)
    shutil.rmtree(agent.data / "spool")
    (journal,) = sorted((agent.data / "journal").glob("*.seg"))
    flip(journal, journal.read_bytes().index((start + 200 * SECOND).to_bytes(8, "little")), 8)
    agent.start()
    collector.start()
    return agent, collector


def test_what_is_intact_beside_damage_in_the_journal_arrives_and_the_sums_hold(stack: Stack) -> None:
    """The status tells of one damaged record; the four others are stored and accounted for."""
    agent, collector = damaged_journal(stack)
    settled(collector, agent, 500)
    (values,) = collector.values("load.v", start="0")
    assert values == [float(number) for number in range(500) if number // 100 != 2]
    assert agent.status()["fold"]["damaged_records"] == 1


def test_what_is_damaged_in_the_journal_is_accounted_for(stack: Stack) -> None:
    """The ledger says how many acknowledged readings the damaged record held."""
    agent, collector = damaged_journal(stack)
    counts = settled(collector, agent, 500)
    assert (counts["received"], counts.get("damaged")) == (500, 100)


def flip(path: Path, at: int, count: int) -> None:
    """Change so many bytes of a file in place."""
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(count)
        assert len(old) == count
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in old))
