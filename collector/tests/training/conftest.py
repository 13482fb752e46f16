"""Small made-up fleets, from the recipe's own generator."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from telemetryx.training import Columns
from telemetryx.training.train import Trained, train

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def hosts() -> ModuleType:
    """models/recipes/hosts.py, which is no package."""
    spec = importlib.util.spec_from_file_location("hosts", ROOT / "models/recipes/hosts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hosts"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def calm(hosts: Any) -> Columns:
    """Six hosts for two hours each."""
    columns = hosts.columns((name, levels) for name, _, levels in hosts.fleet(seed=11, steps=720, each=1))
    assert isinstance(columns, Columns)
    return columns


@pytest.fixture(scope="session")
def trained(calm: Columns) -> Trained:
    """A model of them."""
    return train(calm, model_id="host", version=2, created_ns=1)
