"""The figures of one run, for people or for scripts."""

import json
from collections.abc import Mapping


def show(found: Mapping[str, float], *, as_json: bool) -> None:
    """Print each figure with its name, or all of them as one JSON object."""
    if as_json:
        print(json.dumps(dict(found)))
        return
    for name, value in found.items():
        shown = f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
        print(f"{name.replace('_', ' '):32} {shown:>16}")
