"""How long a login must wait after wrong ones: growing delays by source and by account, which never lock anybody out.

    a browser that logged in before   counts under its own mark alone: whatever others do, its person gets in
    everybody else                    counts under (account, address) and under the address: these wait up to five minutes;
                                      and under the account, at most three for each address: half a minute, and not for
                                      who hasn't guessed wrong yet

So one address that guesses thousands of times gets some dozen tries an hour, and the real person from another address gets in
at once. An IPv6 network of one customer (/64) is one address. Counts are in the store: all processes share them.
"""

import hashlib
from typing import Final

from telemetryx.network import network
from telemetryx.store.accounts import Guess

S: Final = 1_000_000_000
FREE: Final = 5
MOST_NS: Final = 300 * S
FORGET_NS: Final = 3_600 * S
ACCOUNT_FREE: Final = 10
ACCOUNT_MOST_NS: Final = 30 * S
ACCOUNT_SHARE: Final = 3


def known(mark: bytes) -> list[Guess]:
    """Count under a browser that was here before."""
    return [Guess(f"browser {mark.hex()}", FREE, S, ACCOUNT_MOST_NS, FORGET_NS)]


def stranger(name: str, peer: str) -> list[Guess]:
    """Count under who comes from where."""
    source, account = network(peer), hashlib.sha256(name.encode()).hexdigest()
    return [
        Guess(f"pair {account} {source}", FREE, S, MOST_NS, FORGET_NS),
        Guess(f"source {source}", FREE, S, MOST_NS, FORGET_NS),
        Guess(f"account {account}", ACCOUNT_FREE, S, ACCOUNT_MOST_NS, FORGET_NS, share=ACCOUNT_SHARE),
    ]


def source(what: str, peer: str) -> list[Guess]:
    """Count under an address alone: tokens and first links, which can't be guessed anyway."""
    return [Guess(f"{what} {network(peer)}", FREE, S, MOST_NS, FORGET_NS)]
