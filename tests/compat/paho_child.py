"""Run one script of Eclipse Paho's suite against a port and write each test's result to a file, as JSON.

    python paho_child.py SCRIPT PORT RESULTS

In a process of its own: the script keeps its state in globals, and its clients leave threads behind.
"""

import json
import re
import sys
import unittest
from pathlib import Path

SCRIPT, PORT, RESULTS = sys.argv[1:4]


class Results(unittest.TestResult):
    """Remembers what passed and why the others did not."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.passed: dict[str, bool] = {}

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        """Note a test's end, and show why it failed."""
        name = test.id().rpartition(".")[2]
        wrong = [why for failed, why in (*self.failures, *self.errors) if failed is test]
        self.passed[name] = not wrong
        sys.stderr.write("".join(f"{name}: {why}\n" for why in wrong))
        super().stopTest(test)


def run() -> None:
    """Stand for unittest.main in the script."""
    results = Results()
    unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]).run(results)
    # What failed before its first test is no result of a test.
    Path(RESULTS).write_text(json.dumps(results.passed))


# The two scripts take their options in two ways, and one hands them on to unittest, which refuses them.
source = re.sub(r"^( *port = )\d+$", rf"\g<1>{PORT}", Path(SCRIPT).read_text(), flags=re.MULTILINE)
sys.argv = [SCRIPT]
unittest.main = run  # type: ignore[assignment,misc]
exec(compile(source, SCRIPT, "exec"))  # noqa: S102 - the suite that the caller named
