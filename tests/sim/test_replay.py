"""What the simulation's collector stores, the real one stores too."""

import subprocess
from pathlib import Path

from tests.harness.stack import ROOT
from tests.sim import replay


def test_recorded_traces_are_stored_as_the_reference_collector_stored_them(tmp_path: Path) -> None:
    """Sessions, resends, clones and kills of 20 simulated runs end in the same rows and the same ledger."""
    traces = tmp_path / "traces"
    subprocess.run(
        # The whole workspace's features: those of this one package would compile every library once more.
        ["cargo", "build", "--quiet", "--locked", "--workspace", "--bin", "sim"],
        cwd=ROOT / "agent",
        check=True,
        timeout=600,
        capture_output=True,
    )
    program = ROOT / "agent/target/debug/sim"
    subprocess.run(
        [program, "--seeds", "20", "--record", traces], check=True, timeout=300, capture_output=True
    )
    assert replay.main([str(traces)]) == 0
