"""A value that an option doesn't take is told in a sentence for people, as text and as JSON."""

import json
import subprocess
import sys

import pytest

ASKED = {
    "'xml' is not one of 'table', 'csv', 'json', 'ndjson'.": ["query", "samples", "--format", "xml"],
    "'x' is no whole number.": ["audit", "--limit", "x"],
    "'\\x1b[31m' is no whole number.": ["audit", "--limit", "\x1b[31m"],
    "0 is less than 1.": ["audit", "--limit", "0"],
    "'no' is not one of 'viewer', 'operator', 'admin'.": ["user", "add", "ana", "--role", "no"],
}


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "telemetryx", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("said", ASKED)
def test_what_is_wrong_is_said_and_not_how_it_was_found_out(said: str) -> None:
    """Pydantic's words were there: "Value error, …", "Input should be a valid integer, unable to parse string …"."""
    done = ran(*ASKED[said])
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith(f": {said}")
    assert not done.stdout


def test_it_is_the_same_to_a_program() -> None:
    """In its one shape, with the same exit code."""
    done = ran("audit", "--limit", "x", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert json.loads(done.stderr)["error"] == {
        "code": "usage",
        "message": "Invalid value for '--limit': 'x' is no whole number.",
        "hint": "--help lists commands and options",
    }


@pytest.mark.parametrize("arguments", [["nosuch"], ["query"], ["--nosuch"]])
def test_what_isnt_there_is_named_with_the_way_to_the_help(arguments: list[str]) -> None:
    """Of the command that was meant."""
    done = ran(*arguments)
    assert done.returncode == 2
    assert "-h' for help" in done.stderr
