"""Two bare machines with a network between them: the commands of docs/how-to/first-site.md, a revocation, removals, an upgrade.

Everything is done with packages, as a user does it; without them in `dist/` there is nothing to do here.
"""

import json
import os
import re
import shutil
import subprocess
import time
from typing import Any

from tests.field.machine import Machine
from tests.field.report import said
from tests.harness.processes import until
from tests.harness.stack import ROOT

PAGE = ROOT / "docs/how-to/first-site.md"
SHOP = "/srv/packages"
COLLECTOR, HOST = "collector", "pump-house"
#: What the host is called after it was revoked.
OLD = "old-house"
ADDRESSES = {COLLECTOR: "10.77.0.1", HOST: "10.77.0.2"}
AGENT_TOML = "/etc/telemetryx/agent.toml"
DATA = "/var/lib/telemetryx"
BACKLOG = 2000
LATE = 50


class Site:
    """A collector's machine, and another host's."""

    def __init__(self, collector: Machine, host: Machine) -> None:
        """Know both; nobody has logged in yet."""
        self.collector = collector
        self.host = host
        self.sent = 0
        self.env = {
            "TELEMETRYX_FIELD_URL": f"https://{ADDRESSES[COLLECTOR]}:8420",
            "TELEMETRYX_FIELD_CA": str(collector.tree / f"{DATA[1:]}/collector/ca/ca.pem"),
        }

    def inside(self, machine: Machine, *words: str) -> str:
        """Run a part of `inside.py` in a machine's network."""
        done = subprocess.run(
            machine.answered(*words),
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode != 0:
            raise OSError(f"{words[0]}: {done.stderr.strip().splitlines()[-1]}")
        return done.stdout.strip()

    def get(self, path: str) -> Any:
        """Ask the collector's API, from its own machine."""
        return json.loads(self.inside(self.collector, "get", path))

    def send(self, count: int, pause_s: float = 0.0) -> None:
        """Let a sensor at the host send, until all is acknowledged by the agent."""
        self.inside(self.host, "send", str(self.sent), str(count), str(pause_s))
        self.sent += count

    def all_there(self) -> None:
        """Wait until every reading is stored, and see that none is there twice."""
        until(
            f"{self.sent} readings are stored",
            lambda: json.loads(self.inside(self.collector, "stored"))[1] >= self.sent,
            180,
        )
        assert json.loads(self.inside(self.collector, "stored")) == [self.sent, self.sent]

    def telemetryx(self, *words: str) -> str:
        """Run a command of the collector's program on its machine, as an admin."""
        kept = "/root/token"
        if not (self.collector.tree / kept[1:]).exists():
            made = ("token", "create", "field", "--role", "admin", "-c", "/etc/telemetryx/collector.toml")
            self.collector.write(kept, self.collector.run("telemetryx", *made))
            (self.collector.tree / kept[1:]).chmod(0o600)
        door = ["--url", "https://localhost:8420", "--ca-file", f"{DATA}/collector/ca/ca.pem"]
        return self.collector.run("telemetryx", *words, *door, "--token-file", kept)

    def link(self) -> dict[str, Any]:
        """Return how the agent's link is."""
        return dict(json.loads(self.host.run("telemetryx-agent", "status", "--json"))["link"])


def commands() -> list[tuple[str, str]]:
    """Read the page's commands: at which machine, and what."""
    return re.findall(rf"^({COLLECTOR}|{HOST})# (.+)$", PAGE.read_text(), re.MULTILINE)


def first_site(site: Site) -> None:
    """Do what the page says, and look until there is a line to draw of the host that joined."""
    machines, line, link, took = {COLLECTOR: site.collector, HOST: site.host}, "", "", []
    for where, command in commands():
        # The one thing to carry over by hand is the token.
        words = command.replace("TOKEN", line.rpartition("--token ")[2])
        begun = time.monotonic()
        out = machines[where].run("bash", "-c", f"cd {SHOP} && {words}").strip()
        took.append(time.monotonic() - begun)
        said(f"{where}# {command}", seconds=round(took[-1], 1))
        if found := re.search(r"(https://\S+/#/first\?code=\S+)", out):
            link = found[1]
        if out.startswith("telemetryx-agent enroll"):
            line = out
    assert 0 < len(took) <= 4, took
    begun = time.monotonic()
    site.env["TELEMETRYX_FIELD_COOKIE"] = site.inside(site.collector, "first", link.partition("code=")[2])

    def drawn() -> int:
        match = f'match=system.cpu.utilization%7Bdevice%3D"{HOST}"%7D'
        found = site.get(f"query_range?{match}&start=-5m&end=now&agg=raw&max_points=10000")["series"]
        return min((len(series["values"]) for series in found), default=0)

    points = until("there is a line of two points", lambda: drawn() if drawn() > 1 else None)
    waited = time.monotonic() - begun
    said(
        "new user's clock: a bare Debian to the first chart",
        commands=len(took),
        seconds=round(sum(took) + waited),
        of_them_for_the_second_point=round(waited),
        points=points,
    )


def is_mutual(site: Site) -> None:
    """See who is let in at the agents' door: the agent with its certificate, and nobody without."""
    (row,) = [one for one in site.get("agents")["agents"] if one["name"] == HOST]
    assert row["labels"]["site"] == "plant1", row
    (enrolled,) = site.get("enroll/agents")["agents"]
    assert (enrolled["agent"], enrolled["state"]) == (HOST, "active")
    fold = json.loads(site.host.run("telemetryx-agent", "status", "--json"))["fold"]
    assert fold["missing"] is None, f"a host that has just joined misses nothing: {fold['missing']}"
    door = ("knock", ADDRESSES[COLLECTOR], "8421")
    identity = site.host.tree / f"{DATA[1:]}/agent/identity"
    known = site.inside(site.host, *door, str(identity / "cert.pem"), str(identity / "key.pem"))
    stranger = site.inside(site.host, *door)
    assert known == "answered", known
    assert stranger != "answered"
    site.send(10)
    site.all_there()
    said("mutual TLS", stored=site.sent, to_its_certificate=known, to_none=stranger[:60])


def upgrades(site: Site) -> None:
    """Install today's package over an earlier one whose readings wait: all are stored once; identity and changed config stay.

    The host is the bare one again, under another name: whoever was revoked doesn't come back.
    """
    before = previous(site.host)
    site.host.run("bash", "-c", f"dpkg -i {before}")
    text = (site.host.tree / AGENT_TOML[1:]).read_text()
    site.host.write(AGENT_TOML, text.replace('interval = "10s"', 'interval = "1s"'))
    line = site.telemetryx("enroll", "token", "--site", "plant1").strip()
    site.host.run("bash", "-c", f"{line} --name {OLD}")
    site.host.run("systemctl", "restart", "telemetryx-agent")
    site.send(10)
    site.all_there()
    site.collector.run("systemctl", "stop", "telemetryx-collector")
    site.send(BACKLOG)
    old = _version(site.host)
    site.host.run("bash", "-c", f"cd {SHOP} && sh install.sh </dev/null")
    new = _version(site.host)
    assert new != old, new
    assert 'interval = "1s"' in (site.host.tree / AGENT_TOML[1:]).read_text(), "the changed file stays"
    assert (site.host.tree / f"{AGENT_TOML[1:]}.dpkg-dist").exists(), "and the package's lies beside it"
    waiting = json.loads(site.host.run("telemetryx-agent", "status", "--json"))["spool"]["batches"]
    assert waiting > 0, "the readings wait in the spool"
    site.send(10)
    site.collector.run("systemctl", "start", "telemetryx-collector")
    site.all_there()
    until("it takes configurations", lambda: site.get(f"agents/{OLD}")["config"]["phase"] == "none", 120)
    said(f"upgraded {old} to {new}", batches_waiting=waiting, acknowledged=site.sent, stored=site.sent)


def previous(host: Machine) -> str:
    """Put an earlier package on the host; return where it lies."""
    earlier = ROOT / "dist/previous"
    if not list(earlier.glob("telemetryx-agent_*_amd64.deb")):
        subprocess.run([ROOT / "packaging/previous.sh"], check=True)
    (package,) = earlier.glob("telemetryx-agent_*_amd64.deb")
    shutil.copy(package, host.tree / "root")
    return f"/root/{package.name}"


def _version(host: Machine) -> str:
    return host.run("dpkg-query", "-W", "-f", "${Version}", "telemetryx-agent")


def is_revoked(site: Site) -> None:
    """Revoke the agent: its live link ends, a restart opens none, and what it takes in waits on its own disk."""
    assert site.link()["connected"]
    begun = time.monotonic()
    site.telemetryx("agents", "revoke", HOST)
    until("the link is cut", lambda: not site.link()["connected"] and "revoked" in site.link()["last_error"])
    took = time.monotonic() - begun
    site.send(LATE)
    site.host.run("systemctl", "restart", "telemetryx-agent")
    until("it is refused again", lambda: "revoked" in (site.link()["last_error"] or ""))
    assert site.link()["sessions"] == 0, site.link()
    stored = json.loads(site.inside(site.collector, "stored"))
    assert stored == [site.sent - LATE, site.sent - LATE], stored
    said(
        "revoked",
        cut_after_s=round(took, 2),
        sessions_after_a_restart=site.link()["sessions"],
        stored_since=0,
        in_its_spool=LATE,
    )


def agent_is_removed(site: Site) -> None:
    """Remove the agent, then purge it; the readings that waited in its spool go with it, as it says."""
    _removed(site.host, "agent")
    site.sent -= LATE


def collector_is_removed(site: Site) -> None:
    """Remove the collector, then purge it."""
    _removed(site.collector, "collector")


def _removed(machine: Machine, name: str) -> None:
    """Remove: data and config stay. Purge: it says what it deletes, and that is gone."""
    folder, package = machine.tree / f"{DATA[1:]}/{name}", f"telemetryx-{name}"
    machine.run("systemctl", "stop", package)
    before = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    apt = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q")
    machine.run(*apt, "remove", package)
    after = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    assert after == before, before ^ after
    assert (machine.tree / f"etc/telemetryx/{name}.toml").exists()
    assert not (machine.tree / f"usr/bin/{package.removesuffix('-collector')}").exists()
    out = machine.run(*apt, "purge", package)
    (words,) = [line for line in out.splitlines() if line.startswith(f"{package}: deleting ")]
    assert not folder.exists()
    assert not (machine.tree / f"etc/telemetryx/{name}.toml").exists()
    said(f"removed, then purged: {name}", files_kept=len(before), files_after_purge=0)
    said(f"  it says: {words[:150]}")
