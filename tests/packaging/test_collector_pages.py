"""The collector's man pages and completions, as its package has them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import commands
from tests.harness.commands import Command
from tests.harness.processes import PATIENCE
from tests.harness.stack import ROOT


@pytest.fixture(scope="module", name="pages")
def _pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write them as the package's build does."""
    folder = tmp_path_factory.mktemp("pages")
    subprocess.run([sys.executable, ROOT / "packaging/pages.py", folder], check=True, timeout=PATIENCE)
    return folder


def leaves(command: Command) -> Iterator[Command]:
    """Give the command and all below it that a person is meant to meet."""
    yield command
    for inner in command.commands.values():
        if not inner.hidden:
            yield from leaves(inner)


def test_every_command_has_a_page_that_names_each_of_its_options(pages: Path) -> None:
    """Made of the declarations: none is forgotten, and none too many."""
    expected = {f"{command.path.replace(' ', '-')}.1": command for command in leaves(commands.telemetryx())}
    assert len(expected) > 20
    assert {page.name for page in (pages / "man").iterdir()} == set(expected)
    for name, command in expected.items():
        text = (pages / "man" / name).read_text("utf-8").replace("\\-", "-")
        assert [option for option in command.options if option not in text] == [], name


def test_the_pages_are_set_without_a_warning(pages: Path) -> None:
    """By the program that sets them on every system."""
    if shutil.which("man") is None:
        pytest.skip("man isn't installed")
    for page in sorted((pages / "man").iterdir()):
        said = subprocess.run(
            ["man", "--warnings", "-l", page],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100"},
        )
        assert said.stderr == b"", page.name


def test_bash_completes_every_command(pages: Path, tmp_path: Path) -> None:
    """The script asks the program, as the shell does at a Tab."""
    program = tmp_path / "telemetryx"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n\nfrom telemetryx.cli import main\n\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    told = subprocess.run(
        [
            "bash",
            "-c",
            (
                f"source {pages}/completions/telemetryx.bash; COMP_WORDS=(telemetryx ''); COMP_CWORD=1; "
                '_telemetryx_completion telemetryx "" telemetryx; printf "%s\\n" "${COMPREPLY[@]}"'
            ),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "collector/src"),
        },
    ).stdout.split()
    shown = {name for name, command in commands.telemetryx().commands.items() if not command.hidden}
    assert shown <= set(told)
