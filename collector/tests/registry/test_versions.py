"""The registry keeps versions as they were published, and says so when one isn't any more."""

import json
from pathlib import Path

import pytest

from telemetryx.registry import ModelDamaged, ModelExists, ModelRefused, ModelRegistry, NoSuchModel

SHIPPED = Path(__file__).parents[3] / "models/default"
ONNX = (SHIPPED / "host.onnx").read_bytes()
MANIFEST = (SHIPPED / "host.json").read_bytes()


def manifest(**changes: object) -> bytes:
    """The shipped manifest with some fields changed."""
    return json.dumps({**json.loads(MANIFEST), **changes}).encode()


def test_an_empty_registry_lists_nothing(tmp_path: Path) -> None:
    """The folder needn't exist."""
    registry = ModelRegistry(tmp_path / "models")
    assert registry.list() == []
    with pytest.raises(NoSuchModel, match="no model 'host'"):
        registry.get("host")


def test_a_published_version_comes_back_as_it_was(tmp_path: Path) -> None:
    """Bytes, card, order: newest first."""
    registry = ModelRegistry(tmp_path)
    for version in ("1", "2", "10"):
        row = registry.publish(manifest(version=version), ONNX, f"card {version}")
        assert (row.name, row.version, row.state) == ("host", int(version), "ready")
    assert [row.version for row in registry.list()] == [10, 2, 1]
    assert registry.latest("host") == 10
    newest = registry.get("host")
    assert (newest.version, newest.onnx, newest.card) == (10, ONNX, "card 10")
    assert registry.get("host", 2).manifest == manifest(version="2")
    assert registry.list()[0].card["text"] == "card 10"
    assert list((tmp_path / "host").glob(".new-*")) == []


def test_a_version_never_changes(tmp_path: Path) -> None:
    """A second publication of one number is refused, and the first stays."""
    registry = ModelRegistry(tmp_path)
    registry.publish(manifest(), ONNX, "first")
    with pytest.raises(ModelExists, match="count the version up"):
        registry.publish(manifest(threshold=9.0), ONNX, "second")
    assert registry.get("host").card == "first"
    assert [path.name for path in (tmp_path / "host").iterdir()] == ["1"]


def test_what_an_agent_would_refuse_is_not_published(tmp_path: Path) -> None:
    """Another checksum, a name that leaves the folder, a version that isn't a number."""
    registry = ModelRegistry(tmp_path)
    with pytest.raises(ModelRefused, match="SHA-256"):
        registry.publish(manifest(sha256="00"), ONNX)
    for changes in ({"id": "../host"}, {"id": ".."}, {"version": "new"}, {"version": "01"}, {"version": "0"}):
        with pytest.raises(ModelRefused):
            registry.publish(manifest(**changes), ONNX)
    assert registry.list() == []


@pytest.mark.parametrize("file", ["model.onnx", "manifest.json"])
def test_damage_is_shown_and_never_served(tmp_path: Path, file: str) -> None:
    """A flipped byte, a cut, a missing file: the list says `damaged`, `get` refuses."""
    registry = ModelRegistry(tmp_path)
    registry.publish(manifest(), ONNX)
    path = tmp_path / "host/1" / file
    whole = path.read_bytes()
    for content in (whole[:-30], bytes([whole[0] ^ 0x40]) + whole[1:], b""):
        path.write_bytes(content)
        assert registry.list()[0].state == "damaged"
        with pytest.raises(ModelDamaged, match="publish it again"):
            registry.get("host", 1)
    path.unlink()
    assert registry.list()[0].state == "damaged"
    with pytest.raises(NoSuchModel, match="no version 7"):
        registry.get("host", 7)


def test_a_version_moved_to_another_place_is_not_taken_for_that_one(tmp_path: Path) -> None:
    """The manifest's name and number must be the folder's."""
    registry = ModelRegistry(tmp_path)
    registry.publish(manifest(), ONNX)
    (tmp_path / "host/1").rename(tmp_path / "host/5")
    with pytest.raises(ModelDamaged, match="it was moved"):
        registry.get("host", 5)


def test_files_that_are_no_models_are_passed_over(tmp_path: Path) -> None:
    """Hidden folders, stray files, odd names."""
    registry = ModelRegistry(tmp_path)
    registry.publish(manifest(), ONNX)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / "host/old").mkdir()
    (tmp_path / "host/3").write_text("no folder")
    assert [row.version for row in registry.list()] == [1]
