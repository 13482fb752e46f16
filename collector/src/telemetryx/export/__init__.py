"""Exports: what the store holds as Arrow, Parquet, CSV or NDJSON, read piece by piece, so that memory doesn't grow with it.

`wanted.py` says what to export, `rows.py` reads it in pieces, `text.py` and `frames.py` write them. `telemetryx export` runs
it in its own process; the API starts `python -m telemetryx.export`, so that the collector stays small.
"""
