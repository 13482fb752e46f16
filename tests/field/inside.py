"""What is run in the machine's network: a sensor that sends until it is acknowledged, and questions to the collector."""

import json
import os
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from typing import Any

PATIENCE_S = 300.0
#: Where the collector is and how to show who asks: another machine's has TLS and accounts.
URL = os.environ.get("TELEMETRYX_FIELD_URL", "http://127.0.0.1:8420")
AUTHORITY = os.environ.get("TELEMETRYX_FIELD_CA")
COOKIE = os.environ.get("TELEMETRYX_FIELD_COOKIE")


def ask(path: str, body: dict[str, str] | None = None) -> tuple[Any, str]:
    """Ask the collector's API; return its JSON and the cookie that it sets."""
    request = urllib.request.Request(
        f"{URL}/api/v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **({"Cookie": COOKIE} if COOKIE else {})},
    )
    context = ssl.create_default_context(cafile=AUTHORITY) if AUTHORITY else None
    with urllib.request.urlopen(request, timeout=60, context=context) as answer:
        return json.load(answer), answer.headers.get("Set-Cookie", "").split(";")[0]


def send(first: int, count: int, pause_s: float) -> None:
    """Send readings `field.n = first …`, each until the agent has acknowledged it; a resend is marked as one."""
    end = time.monotonic() + PATIENCE_S
    for number in range(first, first + count):
        request = urllib.request.Request(
            "http://127.0.0.1:8186/write",
            data=f"field,device=sensor n={number}".encode(),
            headers={"Idempotency-Key": f"field-{number}"},
            method="POST",
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5):
                    break
            except (OSError, urllib.error.HTTPError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        time.sleep(pause_s)
    print(count)


def stored() -> None:
    """Print how many readings of the sensor are stored, and how many different ones."""
    answer, _ = ask("query_range?match=field.n&start=-1d&end=now&agg=raw&max_points=1000000")
    values = [value for series in answer["series"] for value in series["values"]]
    print(json.dumps([len(values), len(set(values))]))


def get(path: str) -> None:
    """Print what the API says."""
    print(json.dumps(ask(path)[0]))


def first(code: str) -> None:
    """Make the first account, as the console does with what the link holds; print the session's cookie."""
    print(ask("first", {"code": code, "name": "ana", "password": "correct horse battery"})[1])


def knock(host: str, port: int, *shown: str) -> None:
    """Print what the agents' door says to who shows this certificate with its key, or none."""
    context = ssl.create_default_context(cafile=AUTHORITY)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    if shown:
        context.load_cert_chain(*shown)
    try:
        with (
            socket.create_connection((host, port), timeout=60) as plain,
            context.wrap_socket(plain) as link,
        ):
            # In TLS 1.3 a client is refused only when it reads.
            link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            print("answered" if link.recv(1) else "closed")
    except (ssl.SSLError, ConnectionError) as error:
        print(f"refused: {error}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["send", first, count, pause]:
            send(int(first), int(count), float(pause))
        case ["stored"]:
            stored()
        case ["get", path]:
            get(path)
        case ["first", code]:
            first(code)
        case ["knock", host, port, *shown]:
            knock(host, int(port), *shown)
        case words:
            sys.exit(f"unknown: {words}")
