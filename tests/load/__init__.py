"""Measures: `just bench` and `just profile`."""
