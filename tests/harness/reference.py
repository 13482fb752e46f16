"""The collector's reference agent, for programs that need hundreds of agents or one that misbehaves on purpose."""

import sys

from tests.harness.stack import ROOT

sys.path.append(str(ROOT / "collector/tests"))

from reference_agent import Link, ReferenceAgent, defined, retry_after_s, samples

__all__ = ["Link", "ReferenceAgent", "defined", "retry_after_s", "samples"]
