"""TelemetryX: telemetry that survives a dead link. This package is the collector and the command line.

The floors (who may import whom) are in pyproject.toml; app.py reads as the diagram of the data flow.
"""

__version__ = "0.1.0"
