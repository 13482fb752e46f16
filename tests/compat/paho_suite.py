"""Run Eclipse Paho's interoperability tests against an agent, as a user's client would: both protocol versions.

    just compat paho DIR          DIR: a checkout of github.com/eclipse/paho.mqtt.testing, which is read and run, not kept here

Prints each test with its result, and the sums; exit code 1 when a test fails that docs/reference/mqtt.md doesn't explain.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.harness import Stack

#: The suite's own topics, and no other: it wants one that nobody may subscribe to.
READABLE = ["TopicA/#", "Topic/#", "/TopicA/#", "client_test5/#", "$SYS/#"]
#: What the suite expects of a server's configuration.
CONFIG = f"""
max_keep_alive_secs = 60
anonymous_read = {json.dumps(READABLE)}
"""
#: Tests that fail, each explained in docs/reference/mqtt.md.
EXPLAINED = {"v5": {"test_server_topic_alias", "test_subscribe_failure"}, "v3.1.1": set[str]()}
SCRIPTS = {"v3.1.1": "client_test.py", "v5": "client_test5.py"}
TIMEOUT_S = 600
CHILD = Path(__file__).with_name("paho_child.py")


def run(version: str, folder: Path, port: int, results: Path) -> dict[str, bool]:
    """Run the suite of one version; return each test with whether it passed."""
    script = folder / "interoperability" / SCRIPTS[version]
    results.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", CHILD, script, str(port), results],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": str(script.parent)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        check=False,
        text=True,
    )
    found = dict(json.loads(results.read_text())) if results.exists() else {}
    if not found:
        raise SystemExit(f"{script.name} ran no test:\n{done.stdout[-3000:]}")
    if not all(found.values()):
        print(done.stdout[-6000:], file=sys.stderr)
    return found


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a checkout of github.com/eclipse/paho.mqtt.testing")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if not (folder / "interoperability/client_test.py").is_file():
        print(
            f"{folder} is no checkout of paho.mqtt.testing: interoperability/client_test.py isn't there; "
            "clone https://github.com/eclipse/paho.mqtt.testing and give its folder",
            file=sys.stderr,
        )
        return 2
    results: dict[str, dict[str, bool]] = {}
    with tempfile.TemporaryDirectory(prefix="telemetryx-paho-") as temporary:
        stack = Stack(Path(temporary))
        try:
            agent = stack.agent(stack.collector(start=False), start=False)
            text = agent.config.read_text()
            agent.config.write_text(text.replace("[input.mqtt]\n", f"[input.mqtt]\n{CONFIG.strip()}\n"))
            agent.start()
            for version in SCRIPTS:
                print(f"MQTT {version} …", file=sys.stderr, flush=True)
                results[version] = run(version, folder, agent.mqtt, Path(temporary) / "results")
        finally:
            stack.close()
    return report(results, as_json=options.json)


def report(results: dict[str, dict[str, bool]], *, as_json: bool) -> int:
    """Print what came of it; 1 when a failure isn't explained."""
    if as_json:
        print(json.dumps(results))
    unexplained = 0
    for version, tests in results.items():
        failed = {name for name, passed in tests.items() if not passed}
        unexplained += len(failed - EXPLAINED[version])
        if as_json:
            continue
        for name, passed in sorted(tests.items()):
            why = "" if passed else ", explained in docs/reference/mqtt.md" * (name in EXPLAINED[version])
            print(f"{version:7} {name:40} {'ok' if passed else 'FAILED'}{why}")
        print(f"{version:7} {len(tests) - len(failed)} of {len(tests)}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    raise SystemExit(main())
