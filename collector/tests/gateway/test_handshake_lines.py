"""What a failed handshake writes into the log: nothing, unless the reason was asked for."""

import os
import subprocess
import sys
from pathlib import Path

from certificates import make_ca

#: A door of the gateway's gRPC, to which somebody comes without TLS.
SCRIPT = """
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from telemetryx.gateway import server
import grpc

door = grpc.server(ThreadPoolExecutor(1))
pair = Path("server.key").read_bytes(), Path("server.pem").read_bytes()
port = door.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
door.start()
with socket.create_connection(("127.0.0.1", port)) as link:
    link.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
    try:
        while link.recv(4096):
            pass
    except ConnectionResetError:
        pass
door.stop(None).wait()
"""


def lines(folder: Path, **environment: str) -> str:
    """Run it; return what was written on standard error."""
    known = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=folder,
        env={**known, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    return done.stderr


def test_whoever_speaks_no_tls_writes_nothing_into_the_log(tmp_path: Path) -> None:
    """A scan of the port doesn't fill it. Who sets gRPC's own variable gets the reasons."""
    make_ca(tmp_path)
    assert lines(tmp_path) == ""
    assert "HTTP_REQUEST" in lines(tmp_path, GRPC_VERBOSITY="INFO")
