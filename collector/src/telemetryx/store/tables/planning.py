"""The process that plans: `python -m telemetryx.store.tables.planning`. planner.py starts it, and says what goes over its pipes."""

from telemetryx.lean import lean

with lean():
    from telemetryx.store.tables.planner import serve

if __name__ == "__main__":
    serve()
