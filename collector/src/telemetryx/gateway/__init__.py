"""The agents' door: gRPC sessions, credits, acknowledgements after the commit."""

import os

# From some version on gRPC writes a line for each failed handshake unless it is told otherwise: whoever reaches the port would write
# into our log. Before gRPC is loaded; who looks for a reason sets INFO (docs/how-to/enrol.md).
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
