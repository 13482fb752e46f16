"""What `check` says of a file, and what an agent then does by it: the same."""

import json
import time
from pathlib import Path

from tests.harness import Stack
from tests.harness.agent_tools import ask
from tests.harness.ledger import settled

HOUR = 3_600 * 10**9


def test_what_few_want_is_warned_of_with_line_and_remedy(tmp_path: Path) -> None:
    """Shares that are no percentages, windows as short as a reading, a key that counts for nothing: they work, and are told."""
    file = tmp_path / "agent.toml"
    file.write_text(
        f'[agent]\ndata_dir = "{tmp_path}/data"\n[uplink.lanes]\nlive_share = 70\nbacklog_share = 70\n'
        '[[fold.route]]\nmatch = "*"\nto = "window"\nwindow = "1ms"\n[[spool.class]]\nthin_to = "5m"\n'
    )
    said = ask("check", "--config", file)
    assert said.returncode == 0
    lanes, window, thin, fine = said.stdout.splitlines()
    assert lanes.startswith(f"{file}:4:1: warning: uplink.lanes: live_share")
    assert "let them add up to 100" in lanes
    assert window.startswith(f"{file}:9:1: warning: fold.route 1")
    assert "take 1s or more" in window
    assert thin.startswith(f"{file}:11:1: warning: spool.class 1: thin_to")
    assert 'overflow = "thin"' in thin
    assert "fine" in fine
    assert len(json.loads(ask("check", "--json", "--config", file).stdout)["warnings"]) == 3


def test_a_future_that_check_allows_is_taken(stack: Stack) -> None:
    """A limit of two days: a reading of tomorrow night arrives; one beyond the limit is refused."""
    collector = stack.collector(extra='[ingest]\nfuture_limit = "2d"\n')
    agent = stack.agent(collector, extra='[fold]\nfuture_limit = "48h"\n')
    checked = ask("check", "--config", agent.config)
    assert checked.returncode == 0
    assert "[ingest] future_limit" in checked.stdout, "its collector must allow it, too"
    now = time.time_ns()
    assert agent.write(f"ahead value=1 {now + 30 * HOUR}") == 204
    assert agent.write(f"ahead value=2 {now + 50 * HOUR}") == 400
    counts = settled(collector, agent, 2)
    assert counts == {"received": 2, "rejected_time": 1, "shipped": 1, "stored": 1}
