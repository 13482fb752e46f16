"""The agents' door: gRPC sessions, credits, acknowledgements after the commit."""
