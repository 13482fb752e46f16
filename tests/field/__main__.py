"""`just field`: boots a Debian with a real systemd, installs agent and collector as services, and does to them what happens in the field.

Needs root, debootstrap and unshare. Prints what was counted; ends with exit code 1 at the first thing that isn't as it should be.
"""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

from tests.field.journey import site
from tests.field.machine import Machine, booted, installed
from tests.field.report import said
from tests.harness.frozen import ended, frozen_while_it_waits, thread
from tests.harness.processes import until

AGENT_TOML = "/etc/telemetryx/agent.toml"
KILLS = 5
WATCHDOG_S = 20


def status(machine: Machine, unit: str = "agent") -> str:
    """Return what a service says of itself."""
    return machine.show(unit, "StatusText")


def stored(machine: Machine) -> list[int]:
    """Return how many readings of the sensor the collector has, and how many different ones."""
    done = subprocess.run(machine.answered("stored"), check=True, capture_output=True, text=True, timeout=120)
    return list(json.loads(done.stdout))


def send(machine: Machine, first: int, count: int, pause_s: float = 0.01) -> "subprocess.Popen[bytes]":
    """Let a sensor send."""
    sender = subprocess.Popen(
        machine.answered("send", str(first), str(count), str(pause_s)), stdout=subprocess.DEVNULL
    )
    # Whatever becomes of the step that waits for it: it isn't left behind.
    atexit.register(sender.kill)
    return sender


def all_there(machine: Machine, count: int) -> None:
    """Wait until every reading is stored, and see that none is there twice."""
    until(f"{count} readings are stored", lambda: stored(machine)[1] >= count)
    assert stored(machine) == [count, count], f"sent {count}, stored {stored(machine)}"


def restarted(machine: Machine, before: str) -> None:
    """Wait until systemd has another process running."""
    until(
        "the agent was restarted",
        lambda: (
            machine.show("agent", "MainPID") not in ("0", before)
            and machine.show("agent", "ActiveState") == "active"
        ),
        120,
    )


def starts(machine: Machine) -> None:
    """Start both services: they are what their units say, and a first reading arrives."""
    for unit in ("collector", "agent"):
        begun = time.monotonic()
        machine.run("systemctl", "enable", "--now", f"telemetryx-{unit}")
        said(f"{unit}: READY", after_s=round(time.monotonic() - begun, 1), user=machine.show(unit, "User"))
    until("the agent is live", lambda: "live to" in status(machine))
    said("agent says", status=status(machine))
    until("the collector says so too", lambda: "1 agent connected" in status(machine, "collector"))
    said("collector says", status=status(machine, "collector"))
    assert send(machine, 0, 10).wait(60) == 0
    all_there(machine, 10)


def sees_the_host(machine: Machine) -> None:
    """Compare: inside the sandbox the agent reads the same host metrics as outside."""
    outside = "/etc/telemetryx/outside.toml"
    machine.write(
        outside, '[agent]\nname = "outside"\ndata_dir = "/run/outside"\n[input.host]\ninterval = "1s"\n'
    )
    free = subprocess.Popen(
        machine.enter("telemetryx-agent", "run", "--config", outside),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until("the agent outside runs", lambda: _taps(machine, outside, 1))
        seen = {config: _taps(machine, config, 20) for config in (AGENT_TOML, outside)}
    finally:
        # What nsenter waits for is another process than itself.
        itself = json.loads(machine.run("telemetryx-agent", "status", "--json", "--config", outside))["pid"]
        machine.run("kill", str(itself))
        free.wait(60)
    inside, free_series = seen[AGENT_TOML], seen[outside]
    assert inside == free_series, f"only one of them reads {sorted(inside ^ free_series)}"
    said("host metrics in the sandbox and outside are the same", series=len(inside))


def _taps(machine: Machine, config: str, seconds: int) -> set[str]:
    text = machine.run(
        "timeout", str(seconds), "telemetryx-agent", "tap", "--json", "--config", config, check=False
    )
    found = set()
    for line in text.splitlines():
        with suppress(ValueError):
            reading = json.loads(line)
            if reading.get("input") == "host" and reading.get("kind") == "sample":
                found.add(reading["series"])
    return found


def survives_kills(machine: Machine) -> None:
    """Kill it again and again under load: systemd starts it each time, nothing acknowledged is lost or there twice."""
    sender = send(machine, 10, 2000)
    for _ in range(KILLS):
        before = machine.show("agent", "MainPID")
        machine.run("systemctl", "kill", "-s", "KILL", "telemetryx-agent")
        restarted(machine, before)
    assert sender.wait(300) == 0
    all_there(machine, 2010)
    said("kill -9", kills=KILLS, restarts=machine.show("agent", "NRestarts"), acknowledged=2010, stored=2010)


def is_watched(machine: Machine) -> None:
    """Block the fold: the watchdog ends the agent, and what it held is folded after the restart."""
    machine.write(
        "/etc/systemd/system/telemetryx-agent.service.d/test.conf", f"[Service]\nWatchdogSec={WATCHDOG_S}s\n"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "telemetryx-agent")
    before, restarts = machine.show("agent", "MainPID"), int(machine.show("agent", "NRestarts"))
    idle = time.monotonic()
    until("idle for longer than the limit", lambda: time.monotonic() - idle > 1.5 * WATCHDOG_S)
    assert machine.show("agent", "MainPID") == before, "an idle agent was restarted"
    tid = thread(machine.pid("agent"), "fold")
    begun = time.monotonic()
    with frozen_while_it_waits(tid):
        sender = send(machine, 2010, 100)
        until("the watchdog ends the agent", lambda: ended(tid), 120)
    took = time.monotonic() - begun
    restarted(machine, before)
    assert sender.wait(300) == 0
    log = machine.run("journalctl", "--no-pager", "-u", "telemetryx-agent")
    assert "Watchdog timeout" in log
    all_there(machine, 2110)
    said(
        "fold blocked",
        ended_after_s=round(took, 1),
        restarts=int(machine.show("agent", "NRestarts")) - restarts,
        acknowledged=2110,
        stored=2110,
    )


def keeps_its_configuration(machine: Machine) -> None:
    """Give it a bad file: `systemctl reload` and SIGHUP refuse it, the agent goes on, and takes a good one."""
    before = machine.show("agent", "MainPID")
    good = (machine.tree / AGENT_TOML[1:]).read_text()
    machine.write(AGENT_TOML, good + '[fold]\nlatness = "3s"\n')
    machine.run("systemctl", "reload", "telemetryx-agent", check=False)
    log = machine.run("journalctl", "--no-pager", "-u", "telemetryx-agent")
    assert "unknown field `latness`" in log, "the reload says what is wrong"
    assert "CONFIG NOT TAKEN" not in status(machine), "and the agent hasn't heard of it"
    machine.run("systemctl", "kill", "-s", "HUP", "telemetryx-agent")
    until("the status says so", lambda: status(machine).startswith("CONFIG NOT TAKEN"))
    assert send(machine, 2110, 10).wait(60) == 0
    machine.write(AGENT_TOML, good)
    machine.run("systemctl", "reload", "telemetryx-agent")
    until("the good one is taken", lambda: "CONFIG" not in status(machine))
    assert machine.show("agent", "MainPID") == before
    all_there(machine, 2120)
    said("bad configuration at reload and SIGHUP: the old one stayed", acknowledged=2120, stored=2120)


def reloads_the_collector(machine: Machine) -> None:
    """Reload the collector: it takes a good file in the same process; the agent comes back by itself."""
    before = machine.show("collector", "MainPID")
    machine.run("systemctl", "reload", "telemetryx-collector")
    until("the agent is back", lambda: "1 agent connected" in status(machine, "collector"))
    assert machine.show("collector", "MainPID") == before
    assert send(machine, 2120, 10).wait(60) == 0
    all_there(machine, 2130)
    said("collector reloaded under the agent", acknowledged=2130, stored=2130)


def ends(machine: Machine) -> None:
    """Stop both, in order."""
    machine.run("systemctl", "stop", "telemetryx-agent", "telemetryx-collector")
    results = {unit: machine.show(unit, "Result") for unit in ("agent", "collector")}
    assert set(results.values()) == {"success"}, results
    said("stopped in order", **results)


def main() -> int:
    """Do it all."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        print("field: needs root and debootstrap (apt-get install debootstrap)", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parts = {"services": services, "site": site}
    wanted = sys.argv[1:] or list(parts)
    if unknown := [word for word in wanted if word not in parts]:
        print(f"field: {unknown[0]!r} is none of {', '.join(parts)}", file=sys.stderr)
        return 2
    begun, code = time.monotonic(), 0
    for word in wanted:
        code = code or parts[word]()
    if code == 0:
        said("all as it should be", seconds=round(time.monotonic() - begun))
    return code


def services() -> int:
    """Take both services on one machine through it."""
    tree, how = installed()
    text = (tree / AGENT_TOML[1:]).read_text()
    (tree / AGENT_TOML[1:]).write_text(text.replace('interval = "10s"', 'interval = "1s"'))
    begun = time.monotonic()
    with booted(tree) as machine:
        said("installed", how=how)
        said("booted", after_s=round(time.monotonic() - begun, 1))
        try:
            for step in (
                starts,
                sees_the_host,
                survives_kills,
                is_watched,
                keeps_its_configuration,
                reloads_the_collector,
                ends,
            ):
                step(machine)
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            print(machine.run("journalctl", "--no-pager", "-n", "60", check=False))
            print(f"field: {step.__name__}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
