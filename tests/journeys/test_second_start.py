"""Starts that meet another agent on the same data folder: one that is dying is waited for, one that lives is not pushed out."""

from tests.harness import Stack, until
from tests.harness.stack import Agent


def log(agent: Agent) -> str:
    """Return what it logged."""
    return (agent.folder / "agent.log").read_text()


def test_a_start_waits_for_an_agent_that_is_killed_meanwhile(stack: Stack) -> None:
    """It says that it waits, and runs as soon as the other one is gone."""
    agent = stack.agent(stack.collector(start=False))
    first = agent.process
    assert first is not None
    agent.start(wait=False)
    until("it says that it waits", lambda: "waiting up to" in log(agent))
    first.kill()
    assert agent.process is not None
    second = agent.process.pid
    until("the second one runs", lambda: agent.status()["pid"] == second)
    agent.listening()
    assert agent.write("m v=1") == 204


def test_a_start_beside_an_agent_that_lives_gives_up_and_says_why(stack: Stack) -> None:
    """After some seconds, with the way out; the first one goes on."""
    agent = stack.agent(stack.collector(start=False))
    first = agent.process
    agent.start(wait=False)
    second = agent.process
    assert first is not None
    assert second is not None
    until("it gives up", lambda: not second.running)
    assert "another agent is running" in log(agent)
    assert agent.status()["pid"] == first.pid
    agent.process = first
