"""Care from afar for an agent that runs as a service, in its sandbox: configurations are pushed to it and return by themselves, and it is asked."""

import io
import json
import subprocess
import tarfile
import time
from typing import Any

import zstandard

from tests.field.report import said
from tests.field.site import AGENT_TOML, HOST, Site
from tests.harness.processes import until

GOOD = '[fold]\nlateness = "3s"\n[spool]\nlinger = "70ms"\n[input.tcp]\nlisten = "127.0.0.1:8095"\n'
UNKNOWN = '[fold]\nlatenes = "3s"\n'
#: A port for which the service has no right.
FORBIDDEN = '[input.tcp]\nlisten = "127.0.0.1:81"\n'
GATE_S = 20
MEANWHILE = 1500
SETTLED_S = 180.0


def is_cared_for(site: Site) -> None:
    """Push a good configuration and two bad ones under load: the process and its readings stay, each bad one is returned from."""
    text = (site.host.tree / AGENT_TOML[1:]).read_text()
    site.host.write(AGENT_TOML, f'{text}\n[remote]\ngate = "{GATE_S}s"\n')
    site.host.run("systemctl", "reload", "telemetryx-agent")
    before = site.host.show("agent", "MainPID"), site.host.show("agent", "NRestarts")
    until("the agent takes configurations", lambda: _state(site)["phase"] == "none", SETTLED_S)
    sender = subprocess.Popen(
        site.host.answered("send", str(site.sent), str(MEANWHILE), "0.01"), stdout=subprocess.DEVNULL
    )
    try:
        good, took = _pushed(site, GOOD, "applied")
        said("pushed: applied", seconds=round(took, 1), version=good)
        assert 'listen = "127.0.0.1:8095"' in site.host.run("telemetryx-agent", "check", "--merged")
        unknown, took = _pushed(site, UNKNOWN, "failed")
        assert "latenes" in _state(site)["reason"], _state(site)
        assert _state(site)["in_force"] == good
        said("pushed: an unknown key, refused", seconds=round(took, 1), in_force=good)
        forbidden, took = _pushed(site, FORBIDDEN, "failed")
        shown = _state(site)
        assert shown["in_force"] == good, shown
        assert "81" in shown["reason"], shown
        said("pushed: a port it may not open, returned from", seconds=round(took, 1), in_force=good)
        said(f"  it says: {shown['reason'][:150]}")
        assert sender.wait(300) == 0
    finally:
        sender.kill()
    site.sent += MEANWHILE
    site.all_there()
    assert (site.host.show("agent", "MainPID"), site.host.show("agent", "NRestarts")) == before
    said("under it all", process="the same", acknowledged=site.sent, stored=site.sent)
    for version in (forbidden, unknown):
        site.telemetryx("agents", "config", "take-back", str(version))
    _settled(site, "applied", good)
    site.host.run("systemctl", "restart", "telemetryx-agent")
    until("it is in force after a restart", lambda: _remote(site)["version"] == good, SETTLED_S)
    _is_asked(site, good)
    site.telemetryx("agents", "config", "take-back", str(good))
    _settled(site, "none", 0)
    assert "8095" not in site.host.run("telemetryx-agent", "check", "--merged")
    site.send(10)
    site.all_there()
    said("taken back: the file alone is in force", acknowledged=site.sent, stored=site.sent)


def _is_asked(site: Site, version: int) -> None:
    """Ask for another log level and a bundle; the sandbox keeps nothing out of it that belongs there."""
    until("it is connected", lambda: _state(site)["connected"], SETTLED_S)
    words = site.telemetryx("agents", "log-level", HOST, "debug", "--for", "10m")
    assert f"agent {HOST} logs at debug" in words, words
    out = "/root/bundle.tar.zst"
    site.telemetryx("agents", "diagnostics", HOST, "-o", out, "--force")
    files = _unpacked(site, out)
    status = json.loads(files["status.json"])
    assert status["remote"]["version"] == version
    denied = [name for name, content in files.items() if b"ermission denied" in content]
    assert not denied, denied
    size = (site.collector.tree / out[1:]).stat().st_size
    said("asked: log level, diagnostics", files=len(files), bytes=size)


def _unpacked(site: Site, path: str) -> dict[str, bytes]:
    with zstandard.open(site.collector.tree / path[1:], "rb") as packed:
        content = io.BytesIO(packed.read())
    found = {}
    with tarfile.open(fileobj=content) as archive:
        for member in archive.getmembers():
            if (inner := archive.extractfile(member)) is not None:
                found[member.name.rpartition("/")[2]] = inner.read()
    return found


def _pushed(site: Site, toml: str, phase: str) -> tuple[int, float]:
    """Push a configuration; return its version, and how long it took until the agent had said what came of it."""
    site.collector.write("/root/pushed.toml", toml)
    begun = time.monotonic()
    words = ("--agent", HOST, "--yes", "--json")
    version = json.loads(site.telemetryx("agents", "config", "push", "/root/pushed.toml", *words))["config"][
        "version"
    ]
    _settled(site, phase, version)
    return int(version), time.monotonic() - begun


def _settled(site: Site, phase: str, wanted: int) -> None:
    def there() -> bool:
        shown = _state(site)
        return shown["phase"] == phase and shown["wanted"] == wanted

    until(f"{HOST} is {phase} with {wanted}", there, SETTLED_S)


def _state(site: Site) -> dict[str, Any]:
    return dict(site.get(f"agents/{HOST}")["config"])


def _remote(site: Site) -> dict[str, Any]:
    return dict(json.loads(site.host.run("telemetryx-agent", "status", "--json"))["remote"])
