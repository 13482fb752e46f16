"""A look into an agent's spool, and damage in it settled: spool ls, verify and repair."""

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Stack, until
from tests.harness.agent_tools import (
    NOBODY,
    SECOND,
    SMALL,
    ask,
    content,
    damaged,
    lines,
    offline,
    readings,
    send,
    stopped,
)
from tests.harness.clock import WallClock
from tests.harness.ledger import ledger, sums
from tests.harness.stack import AGENT


def test_ls_counts_what_waits_beside_a_running_agent_and_of_a_copy(stack: Stack) -> None:
    """Totals equal what was sent; after the collector took it all, nothing waits."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, extra=SMALL)
    send(agent, "load", readings(20_000))
    until("all of it is in batches", agent.in_batches)
    said = ask("spool", "ls", "--config", agent.config)
    assert said.returncode == 0, said.stderr
    assert "20,000 rows" in said.stdout
    rows = lines(ask("spool", "ls", "--json", "--all", "--dir", agent.data / "spool"))
    batches = [row for row in rows if row["kind"] == "batch"]
    assert sum(row["rows"] for row in batches) == rows[-1]["rows"] == 20_000
    assert [row["seq"] for row in batches] == list(range(1, len(batches) + 1))
    assert {row["state"] for row in batches} == {"waiting"}
    limited = lines(ask("spool", "ls", "--json", "--limit", "1", "--config", agent.config))
    assert [row["kind"] for row in limited] == ["batch", "total"]
    assert limited[-1]["rows"] == 20_000
    collector.start()
    agent.wait_drained()
    until(
        "the cursor says so",
        lambda: lines(ask("spool", "ls", "--json", "--dir", agent.data))[-1]["batches"] == 0,
    )


def test_ls_shows_of_each_batch_its_class_its_lane_and_whether_it_may_have_been_sent(stack: Stack) -> None:
    """Fresh readings go live, older ones as backlog; without a collector nothing was sent yet."""
    agent = offline(stack, f'{SMALL}[[spool.class]]\nmatch = "load"\npriority = "low"\noverflow = "thin"\n')
    send(agent, "load", readings(100))
    until("it is in batches", agent.in_batches)
    # A little ahead, so that it is fresh at some time after it is in a batch.
    send(agent, "level", [(time.time_ns() + 8 * SECOND, 1.0)])
    until("it is in batches", agent.in_batches)

    def listed() -> list[dict[str, Any]]:
        return lines(ask("spool", "ls", "--json", "--config", agent.config))[:2]

    until("the second one is fresh", lambda: listed()[1]["lane"] == "live")
    old, fresh = listed()
    assert (old["priority"], old["overflow"], old["lane"]) == ("low", "thin", "backlog")
    assert (fresh["priority"], fresh["overflow"]) == ("normal", "drop-oldest")
    assert [old["clock"], fresh["clock"]] == [None, None]
    said = ask("spool", "ls", "--config", agent.config).stdout
    assert "class" in said
    assert "low thin  backlog" in said


def test_batches_that_wait_for_the_clock_are_told_from_others_and_never_exported_at_a_wrong_time(
    stack: Stack,
) -> None:
    """In 1970 their times are not known; once the clock is set they are corrected as the collector does it."""
    agent = stack.agent(stack.collector(start=False), start=False)
    clock = WallClock(agent)
    agent.start()
    began = time.time_ns()
    assert agent.write("early n=1i") == 204
    ended = time.time_ns()
    until("it is in a batch", agent.in_batches)
    batch, total = lines(ask("spool", "ls", "--json", "--config", agent.config))
    assert (batch["state"], batch["from_ns"], batch["lane"], batch["offered"]) == (
        "held for clock",
        None,
        None,
        False,
    )
    assert batch["clock"]["offset_ns"] is None
    assert total["held_batches"] == 1
    said = ask("spool", "ls", "--config", agent.config).stdout
    assert "held for clock" in said
    assert "boot + " in said
    said = ask("spool", "export", "--config", agent.config)
    (line,) = lines(said)
    assert (line["time_ns"], line["boot"], line["flags"]) == (None, batch["clock"]["boot"], 5)
    assert line["since_boot_ns"] == batch["clock"]["since_boot_ns"][0]
    assert "times that nobody knows yet" in said.stderr
    said = ask("spool", "export", "--format", "line", "--config", agent.config)
    assert (said.stdout, said.returncode) == ("", 0)
    assert "left out" in said.stderr

    clock.set("+0")
    until(
        "the spool knows when its boot was",
        lambda: lines(ask("spool", "ls", "--json", "--config", agent.config))[0]["state"] == "waiting",
    )
    said = ask("spool", "export", "--config", agent.config)
    (line,) = lines(said)
    assert began - SECOND // 2 <= line["time_ns"] <= ended + SECOND // 2
    assert line["flags"] == 1, "time of arrival, and no longer uncertain"
    assert "corrected" in said.stderr


def test_verify_finds_nothing_in_a_sound_spool_and_names_exactly_what_is_damaged(stack: Stack) -> None:
    """Exit code 0 beside the running agent; 1 with the record, the file and the batch that is lost."""
    agent, batches = damaged(stack)
    before = content(agent.data)
    said = ask("spool", "verify", "--journal", "--json", "--config", agent.config)
    assert said.returncode == 1, said.stderr
    report = json.loads(said.stdout)
    assert report["ok"] is False
    (gap,) = report["spool"]["damage"]
    (place,) = report["spool"]["places"]
    segment = sorted((agent.data / "spool/log").glob("*.seg"))[1]
    assert place["file"] == str(segment)
    assert place["offset"] <= segment.stat().st_size // 2 < place["offset"] + place["bytes"]
    assert report["spool"]["batches"] == batches - (gap["last"] - gap["first"] + 1)
    assert report["spool"]["lost_batches"] == 1
    assert report["journal"]["damage"] == []
    kinds = report["journal"]["kinds"]
    assert sum(kinds.values()) == report["journal"]["records"]
    assert kinds["intake"] > 0, "the journal keeps its newest segment"
    assert report["journal"]["counts"]["received"] == report["journal"]["readings"]
    said = ask("spool", "verify", "--config", agent.config)
    assert said.returncode == 1
    assert f"DAMAGE   record {gap['first']}" in said.stdout
    assert content(agent.data) == before


def test_verify_beside_a_running_agent_finds_no_damage_in_what_is_being_written(stack: Stack) -> None:
    """Under load, again and again."""
    agent = offline(stack)
    for seed in range(5):
        send(agent, "load", readings(4_000, seed=seed))
        said = ask("spool", "verify", "--journal", "--config", agent.config)
        assert said.returncode == 0, said.stdout
        assert "all is intact" in said.stdout


def test_repair_keeps_a_copy_of_the_damage_and_the_collector_hears_of_the_loss(stack: Stack) -> None:
    """A dry run changes nothing; then each reading of the damaged batch is counted, and all others arrive."""
    agent, _ = damaged(stack)
    before = content(agent.data)
    said = ask("spool", "repair", "--dry-run", "--json", "--config", agent.config)
    assert said.returncode == 1, said.stderr
    planned = json.loads(said.stdout)
    assert content(agent.data) == before
    said = ask("spool", "repair", "--json", "--config", agent.config)
    assert said.returncode == 0, said.stderr
    done = json.loads(said.stdout)
    assert done["losses"] == planned["losses"]
    (loss,) = done["losses"]
    gone = loss["counts"]["damaged"]
    assert gone > 0
    (copy,) = done["copies"]
    place = done["found"][0]["places"][0]
    raw = Path(place["file"]).read_bytes()
    assert Path(copy).read_bytes() == raw[place["offset"] : place["offset"] + place["bytes"]]
    after = content(agent.data)
    assert {name for name in before if name.endswith(".seg") and after.get(name) != before[name]} == set()
    assert ask("spool", "repair", "--config", agent.config).returncode == 0
    assert ask("spool", "repair", "--dry-run", "--config", agent.config).returncode == 0, (
        "nothing is left to do"
    )
    said = ask("spool", "verify", "--journal", "--config", agent.config)
    assert said.returncode == 0, said.stdout
    assert "DAMAGE" in said.stdout, "it is still there"
    assert "Nothing needs doing" in said.stdout
    assert "spool repair" not in said.stdout
    report = json.loads(ask("spool", "verify", "--json", "--config", agent.config).stdout)
    assert (report["ok"], report["settled"]) == (True, True)
    listed = lines(ask("spool", "ls", "--json", "--config", agent.config))
    assert listed[-1]["lost"]["damaged"] == gone

    collector = stack.collectors[0]
    collector.start()
    agent.start()
    agent.wait_drained()
    counts = ledger(collector, agent.name)
    assert (counts["damaged"], counts["stored"]) == (gone, 64_000 - gone)
    assert sums(counts) == (0, 0)


def test_a_repair_that_is_killed_is_done_by_the_next(stack: Stack, tmp_path: Path) -> None:
    """After the copy of the damage, and while losses are written: nothing is lost but what is damaged."""
    agent, _ = damaged(stack)
    planned = json.loads(ask("spool", "repair", "--dry-run", "--json", "--config", agent.config).stdout)
    (loss,) = planned["losses"]
    gone = loss["counts"]["damaged"]
    spool = agent.data / "spool"

    def state(part: str) -> list[tuple[str, int, int]]:
        seen = []
        for path in [spool / part, *(spool / part).rglob("*")]:
            with suppress(FileNotFoundError):
                at = path.stat()
                seen.append((str(path), at.st_size, at.st_mtime_ns))
        return sorted(seen)

    before = tmp_path / "before"
    shutil.copytree(agent.data, before)
    for part in ("log/quarantine", "log"):
        shutil.rmtree(agent.data)
        shutil.copytree(before, agent.data)
        begun = state(part)
        repair = subprocess.Popen(
            [AGENT, "spool", "repair", "--config", agent.config], stdout=subprocess.DEVNULL
        )
        while repair.poll() is None and state(part) == begun:
            pass
        repair.kill()
        repair.wait()
        said = ask("spool", "repair", "--config", agent.config)
        assert said.returncode == 0, said.stderr
        assert ask("spool", "verify", "--journal", "--config", agent.config).returncode == 0
        listed = lines(ask("spool", "ls", "--json", "--config", agent.config))
        assert listed[-1]["lost"]["damaged"] == gone, part

    collector = stack.collectors[0]
    collector.start()
    agent.start()
    agent.wait_drained()
    counts = ledger(collector, agent.name)
    assert (counts["damaged"], counts["stored"]) == (gone, 64_000 - gone)
    assert sums(counts) == (0, 0)


def test_what_root_repairs_stays_the_agents(stack: Stack, others_folder: Path) -> None:
    """`sudo telemetryx-agent spool repair`: the agent's user can open every file afterwards, and all that is intact arrives."""
    agent, _ = damaged(stack)
    data = others_folder / "data"
    shutil.copytree(agent.data, data)
    for path in (data, *data.rglob("*")):
        os.lchown(path, NOBODY, NOBODY)
    for command in ("--dry-run",), ():
        said = ask("spool", "repair", *command, "--json", "--dir", data)
        assert said.returncode == len(command), said.stderr
        assert json.loads(said.stdout)["losses"]
        owners = {path.lstat().st_uid for path in (data, *data.rglob("*"))}
        assert owners == {NOBODY}


def test_repair_is_refused_while_the_agent_runs(stack: Stack) -> None:
    """It says what to do instead, and nothing happens."""
    agent = offline(stack)
    linked = agent.data.with_name("linked")
    linked.symlink_to(agent.data / "spool")
    for where in (
        ("--config", agent.config),
        ("--dir", agent.data),
        ("--dir", agent.data / "spool"),
        ("--dir", linked),
    ):
        said = ask("spool", "repair", *where)
        assert said.returncode == 1
        assert "the agent is running" in said.stderr
        assert "--dry-run" in said.stderr
        assert ask("spool", "repair", "--dry-run", *where).returncode == 0


def test_repair_of_a_spool_alone_is_refused_while_its_log_is_written(stack: Stack, tmp_path: Path) -> None:
    """Without the folder around it there is the log's own lock: damage is left as it is, heads and quarantine too."""
    agent, _ = damaged(stack)
    spool = tmp_path / "alone"
    shutil.copytree(agent.data / "spool", spool)
    before = sorted(spool.rglob("*"))
    with (spool / "log" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = ask("spool", "repair", "--dir", spool)
    assert (said.returncode, sorted(spool.rglob("*"))) == (1, before)
    assert "stop it first" in said.stderr
    assert ask("spool", "repair", "--dir", spool).returncode == 0


def test_a_segment_that_is_not_given_is_named_and_never_taken_for_an_empty_one(stack: Stack) -> None:
    """As with wrong rights (here: a name too long for the system): neither sound nor damaged, and no export leaves it out."""
    agent = offline(stack, "")
    send(agent, "load", readings(100))
    stopped(agent)
    newest = max((agent.data / "spool/log").glob("*.seg"))
    kept = newest.rename(agent.folder / "kept")
    newest.symlink_to("x" * 300)
    for command in ("ls", "verify", "repair", "export"):
        said = ask("spool", command, "--config", agent.config)
        assert (said.returncode, said.stdout) == (1, ""), said
        assert f"{newest} can't be read" in said.stderr
    newest.unlink()
    kept.rename(newest)
    assert ask("spool", "verify", "--config", agent.config).returncode == 0
    assert len(lines(ask("spool", "export", "--config", agent.config))) == 100


@pytest.fixture(scope="module", name="kept")
def _kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a data folder once, whose spool has two segments."""
    stack = Stack(tmp_path_factory.mktemp("kept"))
    try:
        agent, _ = damaged(stack)
        yield agent.data
    finally:
        stack.close()


@pytest.mark.parametrize(
    "put", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)], ids=["fifo", "folder", "link"]
)
def test_what_stands_in_a_segments_place_is_named_and_settled_and_the_rest_is_there(
    kept: Path, tmp_path: Path, put: Callable[[Path], None]
) -> None:
    """Every command ends, names it and reads the others; repair moves it to quarantine and writes down the loss."""
    data = shutil.copytree(kept, tmp_path / "data")
    segment = max((data / "spool/log").glob("*.seg"))
    journal = min((data / "journal").glob("*.seg"))
    for path in (segment, journal):
        path.unlink()
        put(path)
    where = ("--dir", data)
    listed = ask("spool", "ls", "--json", *where)
    assert listed.returncode == 1
    rows = lines(listed)[-1]["rows"]
    assert 0 < rows < 64_000
    assert any(str(segment) in row.get("what", "") for row in lines(listed))
    said = ask("spool", "verify", "--journal", "--json", *where)
    report = json.loads(said.stdout)
    (named,), (other,) = (report[log]["unreadable"] for log in ("spool", "journal"))
    assert (said.returncode, named["file"], other["file"]) == (1, str(segment), str(journal)), said
    assert named["why"].endswith("and not a file")
    export = ask("spool", "export", *where)
    assert (export.returncode, len(lines(export))) == (1, rows), export.stderr
    assert str(segment) in export.stderr
    done = ask("spool", "repair", "--json", *where)
    assert done.returncode == 0, done.stderr
    assert (
        sum(loss["counts"].get("damaged", 0) for loss in json.loads(done.stdout)["losses"]) == 64_000 - rows
    )
    moved = [Path(path) for path in json.loads(done.stdout)["moved"]]
    assert len(moved) == 2
    assert all("quarantine" in path.parts and (path.is_symlink() or path.exists()) for path in moved)
    assert ask("spool", "verify", "--journal", *where).returncode == 0
    assert len(lines(ask("spool", "export", *where))) == rows


def test_bytes_behind_the_end_of_an_older_segment_are_named_and_are_no_damage(
    kept: Path, tmp_path: Path
) -> None:
    """As a crash leaves them, or somebody else: no record is missing, and the exit code is 0."""
    data = shutil.copytree(kept, tmp_path / "data")
    segment = min((data / "spool/log").glob("*.seg"))
    end = segment.stat().st_size
    with segment.open("ab") as out:
        out.write(b"garbage" * 10)
    assert ask("spool", "repair", "--dir", data).returncode == 0
    said = ask("spool", "verify", "--json", "--dir", data)
    assert said.returncode == 0, said.stdout
    assert json.loads(said.stdout)["spool"]["tails"] == [{"file": str(segment), "offset": end, "bytes": 70}]
    said = ask("spool", "verify", "--dir", data)
    assert f"at {segment} offset {end}, 70 bytes behind the last record" in said.stdout


@pytest.mark.parametrize("told", ["CURSOR UNUSABLE: ", "CURSOR GONE: "])
def test_a_cursor_that_cannot_be_used_is_settled_by_repair(stack: Stack, told: str) -> None:
    """Each tool tells it; verify is clean afterwards, and nothing that waits is lost."""
    agent = offline(stack, "")
    send(agent, "load", readings(100))
    stopped(agent)
    cursor = agent.data / "spool/cursor"
    if "GONE" in told:
        cursor.unlink()
    else:
        cursor.write_bytes(bytes(byte ^ 0x55 for byte in cursor.read_bytes()))
    listed = ask("spool", "ls", "--dir", agent.data)
    assert (listed.returncode, told in listed.stdout.splitlines()[0]) == (1, True), listed
    assert ask("spool", "verify", "--dir", agent.data).returncode == 1
    assert ask("spool", "repair", "--dry-run", "--dir", agent.data).returncode == 1
    done = ask("spool", "repair", "--dir", agent.data)
    assert (done.returncode, "DAMAGE   the cursor" in done.stdout) == (0, True), done
    assert ask("spool", "verify", "--dir", agent.data).returncode == 0
    assert len(lines(ask("spool", "export", "--dir", agent.data))) == 100


def test_a_spool_whose_newest_part_and_cursor_are_gone_is_told_by_ls_too(stack: Stack) -> None:
    """The numbering doesn't show it; the fold's checkpoint does, to each tool alike."""
    agent = offline(stack, SMALL)
    send(agent, "load", readings(64_000))
    stopped(agent)
    (agent.data / "spool/cursor").unlink()
    max((agent.data / "spool/log").glob("*.seg")).unlink()
    said = ask("spool", "ls", "--json", "--dir", agent.data)
    damage = [row["what"] for row in lines(said) if row["kind"] == "damage"]
    assert (said.returncode, len(damage)) == (1, 1), said
    assert damage[0].startswith("the spool ends before what the last checkpoint says")
    assert damage[0] in ask("spool", "verify", "--dir", agent.data).stdout


def test_damage_at_the_end_of_a_spool_is_told_with_the_times_that_it_may_be_of(stack: Stack) -> None:
    """Not with the moment at which the intact batches end: by what waited, as the cursor knew it."""
    agent = offline(stack, SMALL)
    send(agent, "load", readings(64_000))
    stopped(agent)
    where = ("--json", "--all", "--dir", agent.data)
    newest = lines(ask("spool", "ls", *where))[-1]["to_ns"]
    max((agent.data / "spool/log").glob("*.seg")).unlink()
    rows = lines(ask("spool", "ls", *where))
    missing = [row for row in rows if row.get("what") == "missing"]
    assert missing
    assert {row["to_ns"] for row in missing} == {newest}
    assert {row["from_ns"] for row in missing} == {rows[-1]["to_ns"]}


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "--journal"),
        ("export", "--since", "2025-01-02T00:00:00Z", "--until", "2025-01-01T00:00:00Z"),
        ("export", "--split", "1MiB"),
        ("export", "--to", "http://127.0.0.1:1/write", "--format", "ndjson"),
        ("export", "--to", "nowhere"),
        ("export", "--to", "http://me:secret@127.0.0.1:1/write"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_wrong_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Exit code 2, as of an unknown option: 1 would say that damage was found."""
    (tmp_path / "spool/log").mkdir(parents=True)
    said = ask("spool", *words, "--dir", tmp_path / "spool")
    assert (said.returncode, said.stdout) == (2, ""), said
    assert said.stderr.startswith("telemetryx-agent: ")


@pytest.mark.parametrize("option", ["--token-file", "--ca-file"])
def test_a_file_that_an_option_names_and_can_not_be_used_is_wrong_usage(tmp_path: Path, option: str) -> None:
    """Whether it isn't there or holds something else; nothing is posted."""
    (tmp_path / "spool/log").mkdir(parents=True)
    (tmp_path / "empty").touch(0o600)
    for file in (tmp_path / "none", tmp_path / "empty", tmp_path):
        said = ask(
            "spool", "export", "--to", "https://127.0.0.1:1/write", option, file, "--dir", tmp_path / "spool"
        )
        assert (said.returncode, said.stdout) == (2, ""), said
        assert option in said.stderr


@pytest.mark.parametrize("size", ["10", "65535", "0"])
def test_pieces_that_would_be_a_file_for_each_record_are_wrong_usage(tmp_path: Path, size: str) -> None:
    """The smallest size is said."""
    (tmp_path / "spool/log").mkdir(parents=True)
    said = ask("spool", "export", "--split", size, "-o", tmp_path / "out", "--dir", tmp_path / "spool")
    assert (said.returncode, said.stdout) == (2, ""), said
    assert "at least 64KiB" in said.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]


@pytest.mark.parametrize("command", ["ls", "verify", "repair", "export"])
def test_a_configuration_that_cannot_be_read_is_3(tmp_path: Path, command: str) -> None:
    """As of every other command."""
    assert ask("spool", command, "--config", tmp_path / "nowhere.toml").returncode == 3


@pytest.mark.parametrize("command", ["ls", "verify", "repair", "export"])
def test_a_folder_that_is_no_spool_is_named(tmp_path: Path, command: str) -> None:
    """Exit code 1, one sentence; wrong options are 2. Nothing is made there."""
    said = ask("spool", command, "--dir", tmp_path)
    assert said.returncode == 1
    assert f"{tmp_path} holds no spool, neither in {tmp_path}/spool nor in {tmp_path}/log" in said.stderr
    assert list(tmp_path.iterdir()) == []
    missing = ask("spool", command, "--dir", tmp_path / "nowhere")
    assert f"there is no folder {tmp_path}/nowhere: name an agent's data folder" in missing.stderr
    assert ask("spool", command, "--wrong").returncode == 2
