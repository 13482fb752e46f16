"""Descriptions come from the source: when they are asked for, and without a collector's having to keep it."""

import importlib.util
import sys
from pathlib import Path

import pytest

from telemetryx import documented
from telemetryx.api import server
from telemetryx.api.openapi import ErrorBody


def test_nothing_of_the_sources_is_kept_once_the_document_is_made() -> None:
    """They are megabytes, in a process that is to stay small."""
    server._document.cache_clear()
    assert documented.attributes(ErrorBody)
    assert b"What happened, with which value." in server._document()
    assert documented._classes.cache_info().currsize == 0


def test_a_source_that_is_gone_costs_the_descriptions_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade beneath a running collector takes it away before anybody has asked for the document."""
    source = tmp_path / "gone.py"
    source.write_text(
        "from telemetryx.documented import Documented\n\n\nclass One(Documented):\n"
        '    count: int\n    """How many."""\n'
    )
    spec = importlib.util.spec_from_file_location("gone", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gone", module)
    spec.loader.exec_module(module)
    source.unlink()
    assert module.One.model_json_schema()["properties"]["count"] == {"title": "Count", "type": "integer"}
    assert documented.attributes(ErrorBody)["code"] == "For programs."
