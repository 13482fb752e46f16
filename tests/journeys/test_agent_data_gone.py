"""Somebody empties or removes files of an agent's data folder: doctor and verify say so, and the agent counts what is lost."""

import json
import os
import re
import shutil
from typing import Any

import pytest

from tests.harness import Agent, Stack, until
from tests.harness.agent_tools import ask

READINGS = 300


def killed_with_a_journal(stack: Stack) -> Agent:
    """Give an agent that was killed with readings in its journal that are in no batch."""
    agent = stack.agent(
        stack.collector(start=False), extra='[[fold.route]]\nmatch = "*"\nto = "window"\nwindow = "1h"\n'
    )
    assert agent.write("m v=0") == 204
    assert agent.process is not None
    # What the last cut has is in the spool; what comes after it is in a segment of its own.
    agent.process.stop()
    agent.start()
    assert agent.write("\n".join(f"m v={n}" for n in range(READINGS))) == 204
    agent.process.kill()
    return agent


def verified(agent: Agent) -> tuple[int, dict[str, Any]]:
    """Verify spool and journal."""
    said = ask("spool", "verify", "--journal", "--json", "--config", agent.config)
    return said.returncode, json.loads(said.stdout)


def test_a_newest_journal_segment_that_was_emptied_is_named_and_counted(stack: Stack) -> None:
    """Its readings were acknowledged: verify and doctor say that they are gone, and the ledger has them after the start."""
    agent = killed_with_a_journal(stack)
    newest = max(agent.data.glob("journal/*.seg"))
    os.truncate(newest, 0)
    code, report = verified(agent)
    assert (code, report["ok"], report["journal"]["cut_off"]) == (1, False, True)
    gap = report["journal"]["damage"][-1]
    assert gap["readings"] >= READINGS
    said = ask("doctor", "--config", agent.config).stdout
    assert f"positions {gap['first']} to {gap['last']} are gone from its end" in said
    agent.start()
    until("it is noted", lambda: agent.status()["spool"]["damage"] != [])
    (damage,) = agent.status()["spool"]["damage"]
    assert (damage["part"], damage["readings"]) == ("journal", READINGS)
    log = (agent.folder / "agent.log").read_text()
    assert re.search(rf"WARN .*newest segment of the journal.*{newest.name}", log), log
    assert verified(agent)[1]["settled"]
    # Met again at the next start, since no checkpoint is behind it yet, it isn't told anew.
    assert agent.process is not None
    agent.process.kill()
    agent.start()
    until("all is folded again", lambda: not agent.status()["fold"]["recovering"])
    log = (agent.folder / "agent.log").read_text()
    assert log.count(f"{READINGS} readings are lost") == log.count("a part of the journal is damaged") == 1, (
        log
    )


def test_of_a_journal_that_lost_what_batches_have_and_more_verify_names_what_is_lost(stack: Stack) -> None:
    """The figure of verify and repair is that of the agent's note, also where the gap begins in what batches have."""
    agent = stack.agent(
        stack.collector(start=False), extra='[[fold.route]]\nmatch = "w.*"\nto = "window"\nwindow = "1h"\n'
    )
    assert agent.write("m v=0") == 204
    assert agent.process is not None
    # A checkpoint is written at the end.
    agent.process.stop()
    agent.start()
    assert agent.write("\n".join(f"m v={n}" for n in range(50))) == 204
    until("they are in a batch", agent.in_batches)
    assert agent.write("\n".join(f"w v={n}" for n in range(READINGS))) == 204
    agent.process.kill()
    os.truncate(max(agent.data.glob("journal/*.seg")), 0)
    gap = verified(agent)[1]["journal"]["damage"][-1]
    assert (gap["readings"], gap["lost"]) == (READINGS + 50, READINGS)
    said = ask("spool", "verify", "--journal", "--config", agent.config).stdout
    assert f"{READINGS + 50} readings, {READINGS} of them in no batch" in said
    said = ask("spool", "repair", "--dry-run", "--config", agent.config).stdout
    assert f"{READINGS} of them in no batch" in said
    agent.start()
    until("it is noted", lambda: agent.status()["spool"]["damage"] != [])
    assert agent.status()["spool"]["damage"][0]["readings"] == READINGS


@pytest.mark.parametrize("what", ["segments", "all", "folder"])
def test_a_journal_that_is_gone_is_no_intact_one_and_the_spool_is_reported_all_the_same(
    stack: Stack, what: str
) -> None:
    """Its segments, all that is in it, or the folder itself were removed: doctor and verify say so."""
    agent = killed_with_a_journal(stack)
    journal = agent.data / "journal"
    for path in journal.glob("*.seg" if what == "segments" else "*"):
        path.unlink()
    if what == "folder":
        journal.rmdir()
    code, report = verified(agent)
    assert (code, report["ok"]) == (1, False)
    assert report["spool"]["batches"] > 0
    assert report["journal"]["missing"] == (what == "folder")
    said = ask("doctor", "--json", "--config", agent.config).stdout
    (found,) = [one for one in json.loads(said)["findings"] if one["check"] == "journal"]
    assert (found["level"], "gone" in found["found"]) == ("problem", True), found


@pytest.mark.parametrize("how", ["removed", "rotten", "a folder"])
def test_a_cursor_that_cannot_be_used_is_told(stack: Stack, how: str) -> None:
    """The log warns, status says so until the next start, and doctor names the file that was set aside."""
    agent = killed_with_a_journal(stack)
    cursor = agent.data / "spool/cursor"
    if how == "rotten":
        cursor.write_bytes(b"\xff" * cursor.stat().st_size)
    else:
        cursor.unlink()
    if how == "a folder":
        cursor.mkdir()
    assert "cursor" in ask("spool", "verify", "--config", agent.config).stdout
    agent.start()
    lost = agent.status()["spool"]["cursor_lost"]
    assert "asked for again" in lost
    assert re.search(r"WARN .*the spool's cursor .*asked for again", (agent.folder / "agent.log").read_text())
    if how == "a folder":
        assert "cursor.unreadable" in lost
        assert "cursor.unreadable" in ask("doctor", "--config", agent.config).stdout
    assert agent.process is not None
    agent.process.stop()
    agent.start()
    assert agent.status()["spool"]["cursor_lost"] is None


def test_a_spool_whose_segments_were_removed_is_not_intact(stack: Stack) -> None:
    """The newest always stays: without any somebody took them, also where nothing waited in them."""
    agent = killed_with_a_journal(stack)
    for path in agent.data.glob("spool/log/*.seg"):
        path.unlink()
    said = ask("spool", "verify", "--config", agent.config)
    assert said.returncode == 1
    assert "its segments are gone, and there were some" in said.stdout
    found = json.loads(ask("doctor", "--json", "--config", agent.config).stdout)["findings"]
    assert next(one["level"] for one in found if one["check"] == "spool") != "ok"


def test_a_checkpoint_that_is_not_given_is_waited_for(stack: Stack) -> None:
    """It is no damage: readings are taken and kept, status says what is waited for, and nothing is missing once it is there."""
    agent = killed_with_a_journal(stack)
    checkpoint, kept = agent.data / "fold.checkpoint", agent.data / "kept"
    assert checkpoint.exists()
    checkpoint.rename(kept)
    # Refused to everybody, as wrong rights refuse a file to all but root.
    checkpoint.symlink_to("x" * 300)
    agent.start()
    assert agent.write("m v=1") == 204
    assert "fold.checkpoint" in agent.status()["fold"]["blocked"]
    assert agent.status()["fold"]["behind"] > 0
    kept.rename(checkpoint)
    until(
        "it goes on",
        lambda: agent.status()["fold"]["blocked"] is None and agent.status()["fold"]["behind"] == 0,
    )
    assert (agent.status()["fold"]["missing"], agent.status()["spool"]["damage"]) == (None, [])
    assert list(agent.data.glob("fold.checkpoint.*")) == []


def test_an_older_copy_of_the_spool_is_named_with_what_it_lacks(stack: Stack) -> None:
    """Verify, doctor and repair name its batches and how many readings they held before any start, and the start notes them."""
    agent = stack.agent(stack.collector(start=False))
    spool, copy = agent.data / "spool", agent.folder / "copy"
    assert agent.write("m v=0") == 204
    assert agent.process is not None
    agent.process.stop()
    shutil.copytree(spool, copy)
    agent.start()
    assert agent.write("\n".join(f"m v={n}" for n in range(READINGS))) == 204
    agent.process.stop()
    assert verified(agent)[0] == 0
    shutil.rmtree(spool)
    shutil.copytree(copy, spool)
    code, report = verified(agent)
    lacks = report["spool"]["lacks"]
    assert (code, report["ok"]) == (1, False)
    first, last = lacks["seqs"]
    assert READINGS <= lacks["readings_at_most"] < 2 * READINGS
    named = f"its batches {first} to {last} with at most {lacks['readings_at_most']} readings"
    for tool in (["spool", "verify"], ["spool", "repair", "--dry-run"], ["doctor"]):
        said = ask(*tool, "--config", agent.config)
        assert named in said.stdout, said.stdout
        assert said.returncode != 0
    agent.start()
    until("it is noted", lambda: agent.status()["spool"]["damage"] != [])
    (damage,) = agent.status()["spool"]["damage"]
    assert (damage["part"], damage["first"], damage["last"]) == ("spool", first, last)
    until("it is told no more", lambda: verified(agent)[0] == 0)
