"""The files that images are built from: linted, not root, with a health check that exists."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness import commands
from tests.harness.processes import PATIENCE
from tests.harness.stack import ROOT

FOLDER = ROOT / "packaging/container"
FILES = {name: FOLDER / f"Containerfile.{name}" for name in ("agent", "collector")}
SCRIPTS = sorted([*FOLDER.glob("*.sh"), *(ROOT / "packaging/compose").glob("*.sh")])

each_file = pytest.mark.parametrize("name", sorted(FILES))


def last_stage(name: str) -> str:
    """Return the instructions of the image itself."""
    text = re.sub(r"\\\n\s*", " ", FILES[name].read_text())
    return text[text.rindex("\nFROM ") :]


@each_file
def test_hadolint_finds_nothing(name: str) -> None:
    """With the rules that .hadolint.yaml leaves out, each for a reason."""
    tool = shutil.which("hadolint")
    assert tool is not None, "hadolint isn't installed: packaging/bootstrap.sh setup test installs it"
    linted = subprocess.run(
        [tool, "--config", ROOT / ".hadolint.yaml", FILES[name]],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert linted.returncode == 0, linted.stdout


@each_file
def test_the_image_runs_as_a_numbered_user_that_is_not_root(name: str) -> None:
    """Kubernetes can tell that a number isn't root; of a name it can't. The manifests use the same one."""
    users = re.findall(r"^USER (\d+):(\d+)$", last_stage(name), re.MULTILINE)
    assert len(users) == 1
    assert int(users[0][0]) > 0
    workload = {"agent": "base/agent/daemonset.yaml", "collector": "base/collector/deployment.yaml"}[name]
    assert f"runAsUser: {users[0][0]}\n" in (ROOT / "packaging/kubernetes" / workload).read_text()


@each_file
def test_the_health_check_is_a_command_that_there_is(name: str) -> None:
    """In exec form: there may be no shell."""
    stated = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", last_stage(name), re.MULTILINE)
    assert stated is not None
    program, *words = json.loads(stated[1])
    command = commands.agent() if "agent" in program else commands.telemetryx()
    assert words[0] in command.commands
    assert set(words[1:]) <= set(command.commands[words[0]].options)


@each_file
def test_the_image_says_what_it_is(name: str) -> None:
    """By the annotations that registries and scanners read."""
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", last_stage(name)))
    assert {"title", "description", "licenses", "version", "revision", "documentation"} <= labels


@each_file
def test_the_base_can_be_another(name: str) -> None:
    """One without a way to docker.io builds on a base of their own."""
    text = FILES[name].read_text()
    assert re.search(r"^ARG BASE=docker\.io/library/debian:12-slim$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) <= {"${BASE}", "scratch"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_one_that_bash_can_read(script: Path) -> None:
    """And it stops at the first thing that fails."""
    assert subprocess.run(["bash", "-n", script], check=False, timeout=PATIENCE).returncode == 0
    assert "set -euo pipefail" in script.read_text()
