"""From where a request comes: the address of the connection, or behind a reverse proxy of ours what that says in X-Forwarded-For.

Only the addresses of known proxies are believed, from the last hop backwards: what a client writes into the header itself
stands before what our proxy adds, and is not reached.
"""

import ipaddress
from collections.abc import Sequence

from aiohttp import web

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Peers:
    """Knows the reverse proxies, as addresses or networks. Raises ValueError for what is neither."""

    def __init__(self, proxies: Sequence[str] = ()) -> None:
        """Read the networks."""
        self._proxies: tuple[Network, ...] = tuple(
            ipaddress.ip_network(proxy, strict=False) for proxy in proxies
        )

    def of(self, request: web.Request) -> str:
        """Return the address that somebody comes from."""
        peer = request.remote or "unknown"
        hops = [hop for header in request.headers.getall("X-Forwarded-For", ()) for hop in header.split(",")]
        while hops and self._trusted(peer):
            hop = _bare(hops.pop())
            if hop is None:
                break
            peer = hop
        return peer

    def _trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in proxy for proxy in self._proxies)


def _bare(hop: str) -> str | None:
    """Return a hop's address without its port; None for what is no address."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None
