"""How long an agent with a backlog takes from its start, after kill -9, until it takes readings and has caught up.

The run itself is a kind of fault, `just fault recovery`; here its figures stand beside the others.
"""

from tests.fault import recovery as fault
from tests.load.bed import Bed

TARGET_BYTES = 10_000_000_000
GIB = 2**30


def recovery(bed: Bed) -> None:
    """Kill an agent whose collector is away; `--backlog GIB` says how much must be waiting."""
    fault.build()
    with bed.stack() as stack:
        found = fault.recover(stack, bed.backlog_gib)
    what = f"{found['gib']:.2f} GiB, {found['batches']:,} batches waiting"
    # The targets are for 10 GB; less says nothing about them.
    large = found["gib"] * GIB >= TARGET_BYTES
    target = (fault.READY_S, fault.RESIDENT_MB) if large else (None, None)
    bed.add("recovery", f"{what}: start to inputs open", found["ready_s"], "s", target[0], at_most=True)
    bed.add("recovery", f"{what}: start to journal folded", found["journal_folded_s"], "s")
    resident = found["resident_draining_mb"]
    bed.add("recovery", f"{what}: resident while it drains", resident, "MB", target[1], at_most=True)
