"""What runs Eclipse Paho's suite reads its results right; the suite itself isn't kept here."""

from pathlib import Path

import pytest

from tests.compat import paho_suite

SCRIPT = """
import sys, unittest

class Test(unittest.TestCase):
    def test_port(self):
        self.assertEqual(port, 4321)

    def test_refused(self):
        self.fail("no")

if __name__ == "__main__":
    port = 18831
    unittest.main()
"""


def test_each_test_of_the_suite_is_reported_with_its_result(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The port reaches the script, what passes is told from what fails, and why it fails is shown."""
    script = tmp_path / "interoperability" / paho_suite.SCRIPTS["v5"]
    script.parent.mkdir()
    script.write_text(SCRIPT)
    found = paho_suite.run("v5", tmp_path, 4321, tmp_path / "results")
    assert found == {"test_port": True, "test_refused": False}
    assert "AssertionError: no" in capfd.readouterr().err


def test_a_suite_without_tests_is_no_success(tmp_path: Path) -> None:
    """A script that ends before its first test is an error, not a suite that passed."""
    script = tmp_path / "interoperability" / paho_suite.SCRIPTS["v5"]
    script.parent.mkdir()
    script.write_text("raise SystemExit(0)")
    with pytest.raises(SystemExit, match="ran no test"):
        paho_suite.run("v5", tmp_path, 4321, tmp_path / "results")


def test_only_explained_failures_are_forgiven() -> None:
    """A test that fails and that the reference doesn't explain makes the exit code 1."""
    explained = dict.fromkeys(paho_suite.EXPLAINED["v5"], False)
    assert paho_suite.report({"v5": explained}, as_json=True) == 0
    assert paho_suite.report({"v5": {**explained, "test_basic": False}}, as_json=True) == 1
