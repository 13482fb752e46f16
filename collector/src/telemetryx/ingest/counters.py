"""What ingest counts about itself: plain numbers that /metrics reads; nothing on the hot path knows of metrics."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Since the process began."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Batches by outcome: stored, duplicate, need_definitions, conflict, refused, failed."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refused batches by cause."""
    samples: int = 0
    windows: int = 0
    events: int = 0
    payload_bytes: int = 0
    """Of stored batches, compressed."""
    quarantined: int = 0
    """Batches kept apart because their times are ahead of our clock."""
    over_limit: int = 0
    """Readings of stored batches that were refused: their series are above the limit."""
    losses: int = 0
    """Loss frames entered."""
    commits: int = 0
    """Transactions."""
    commit_seconds: float = 0.0
    failures: int = 0
    """Transactions that failed; nothing of them was acknowledged."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether ingest can store; `reason` says why not."""

    ready: bool
    reason: str
    queued_bytes: int
    queued_batches: int
