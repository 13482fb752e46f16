"""How long to wait after a failed attempt: exponentially longer, with full jitter, so that senders don't march in step."""

from random import Random
from typing import Final

FIRST_NS: Final = 2_000_000_000
LONGEST_NS: Final = 300_000_000_000


def pause_ns(attempts: int, random: Random, asked_ns: int = 0) -> int:
    """Return the pause after so many failed attempts (1 for the first); at least what the receiver asked for."""
    cap = min(LONGEST_NS, FIRST_NS << min(attempts - 1, 20))
    return max(random.randrange(cap // 10, cap + 1), min(asked_ns, LONGEST_NS))
