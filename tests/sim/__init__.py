"""The simulation's traces, replayed against the real ingest and store."""
