"""SIGHUP: a changed file takes effect without a restart; one that can't be used changes nothing and is named in the log."""

import json
import os
import resource
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.harness import Agent, Stack, until
from tests.harness import stack as stack_module

REFUSED = "the config file was not taken, the old one stays in force"


def _reload(agent: Agent) -> None:
    assert agent.process is not None
    os.kill(agent.process.pid, signal.SIGHUP)


def _generation(agent: Agent) -> int:
    """Return which configuration the fold goes by; the one of the start is read only after the ports listen."""
    until("the fold is not behind", agent.in_batches)
    return int(agent.status()["fold"]["fold"]["generation"])


def test_a_changed_route_takes_effect_at_once(stack: Stack) -> None:
    """What a new route drops is dropped from then on, and counted; the rest goes on."""
    collector = stack.collector()
    agent = stack.agent(collector)
    assert agent.write("noise,site=s,device=d v=1") == 204
    before = _generation(agent)
    with agent.config.open("a", encoding="utf-8") as file:
        file.write('[[fold.route]]\nmatch = "noise.*"\nto = "drop"\n')
    _reload(agent)
    until("the new configuration is in force", lambda: _generation(agent) > before)
    assert agent.write("noise,site=s,device=d v=2\nsound,site=s,device=d v=3") == 204
    agent.wait_drained()
    assert collector.values('noise.v{device="d"}') == [[1.0]]
    assert collector.values('sound.v{device="d"}') == [[3.0]]
    assert agent.status()["spool"]["counts"]["reduced_drop"] == 1


def _break_value(agent: Agent) -> None:
    agent.config.write_text(
        agent.config.read_text() + '[[fold.route]]\nmatch = "*"\nto = "window"\nwindow = "0s"\n'
    )


def _break_syntax(agent: Agent) -> None:
    agent.config.write_text(agent.config.read_text() + "[agent\n")


def _remove(agent: Agent) -> None:
    agent.config.unlink()


def _no_descriptors(agent: Agent) -> None:
    assert agent.process is not None
    agent.config.write_text(agent.config.read_text() + '[[fold.route]]\nmatch = "*"\nto = "drop"\n')
    hard = resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE)[1]
    # Below every number that may become free: whatever the agent closes meanwhile, nothing new is opened.
    resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (3, hard))


@pytest.mark.parametrize("harm", [_break_value, _break_syntax, _remove, _no_descriptors])
def test_a_file_that_cannot_be_used_changes_nothing(stack: Stack, harm: Callable[[Agent], None]) -> None:
    """Wrong values, broken TOML, no file, no descriptor to read it with: readings go on under the old configuration."""
    collector = stack.collector()
    agent = stack.agent(collector, extra='[[fold.route]]\nmatch = "noise.*"\nto = "drop"\n')
    before = _generation(agent)
    limits = (
        resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE) if agent.process is not None else (0, 0)
    )
    harm(agent)
    _reload(agent)
    assert agent.process is not None
    process = agent.process
    until("the refusal is logged", lambda: REFUSED in process.tail(200))
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
    assert _generation(agent) == before
    why = agent.status()["config"]["refused"]["why"]
    if agent.config.exists():  # the commands find the agent by a file that is broken, too
        asked = [stack_module.AGENT, "status", "--json", "--config", agent.config]
        told = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60)
        assert json.loads(told.stdout)["config"]["refused"]["why"] == why
    assert agent.write("noise,site=s,device=d v=1\nsound,site=s,device=d v=2") == 204
    agent.wait_drained()
    assert collector.values('sound.v{device="d"}') == [[2.0]]
    assert collector.values('noise.v{device="d"}') == []
