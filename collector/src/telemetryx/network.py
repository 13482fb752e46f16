"""Whose an address is, where tries are counted or noted by where they come from.

An IPv6 network of 64 bits is one customer's: counted by address alone, each would have 2**64 fresh starts.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import unquote

#: How gRPC writes a peer: ipv4:192.0.2.1:50123, ipv6:%5B2001:db8::1%5D:50123.
_GRPC: Final = re.compile(r"ipv[46]:\[?([^\]]*?)\]?:\d+")


def bare(peer: str) -> str:
    """Return the address alone, as people write it; what is none stays as it is."""
    grpc = _GRPC.fullmatch(unquote(peer))
    return peer if grpc is None else grpc[1]


def network(peer: str) -> str:
    """Return the address, or for IPv6 its network of 64 bits; what is no address stays as it is. The port doesn't count."""
    text = bare(peer)
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
