"""List, get and publish model versions. Blocking and quick (files of some kilobytes): call it in a thread."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from telemetryx.compiled import native
from telemetryx.registry.errors import ModelDamaged, ModelExists, ModelRefused, NoSuchModel

ONNX, MANIFEST, CARD = "model.onnx", "manifest.json", "card.md"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: Largest file that is read: what an agent takes at most.
MAX_BYTES = 4 << 20


def _verify(manifest: bytes, onnx: bytes) -> tuple[str, str]:
    """Return a model's id and version as an agent reads them. Raises ValueError for what an agent would refuse."""
    # Only here: a collector that lists models, and the demo, work without the compiled module.
    name, version, _ = native().verify(manifest, onnx)
    return name, version


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version, as the API shows it."""

    name: str
    version: int
    state: str
    """`ready`, or `damaged`."""
    created_ns: int | None
    checksum: str
    """SHA-256 of the ONNX file, by its manifest."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """`text` (Markdown) and what the manifest says of features and threshold."""


@dataclass(frozen=True, slots=True)
class Model:
    """One version with its files, verified."""

    name: str
    version: int
    onnx: bytes
    manifest: bytes
    card: str


class ModelRegistry:
    """The folder of models. It needn't exist before the first publication."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; nothing is read yet."""
        self._folder = folder

    def list(self) -> list[ModelVersion]:
        """Return all versions, by name and then newest first. Damage shows in a version's state."""
        found = []
        for model in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            if model.is_dir() and NAME.fullmatch(model.name):
                found += [
                    self._row(model.name, version) for version in sorted(_versions(model), reverse=True)
                ]
        return found

    def latest(self, name: str) -> int:
        """Return the newest version's number."""
        folder = self._folder / name
        versions = _versions(folder) if NAME.fullmatch(name) and folder.is_dir() else []
        if not versions:
            raise NoSuchModel(f"there is no model {name!r}; `list` shows what there is")
        return max(versions)

    def get(self, name: str, version: int | None = None) -> Model:
        """Return a version (the newest where none is named) after verifying its bytes."""
        number = self.latest(name) if version is None else version
        folder = self._folder / name / str(number)
        if not NAME.fullmatch(name) or not folder.is_dir():
            raise NoSuchModel(
                f"there is no version {number} of model {name!r}; the newest is {self.latest(name)}"
            )
        try:
            manifest, onnx = _read(folder / MANIFEST), _read(folder / ONNX)
            card = _read(folder / CARD).decode() if (folder / CARD).exists() else ""
            model_id, written = _verify(manifest, onnx)
        except (OSError, ValueError) as error:
            raise ModelDamaged(
                f"version {number} of model {name!r} can't be used: {error}; publish it again"
            ) from error
        if (model_id, written) != (name, str(number)):
            raise ModelDamaged(
                f"{folder} holds version {written} of {model_id!r}: it was moved; publish it again"
            )
        return Model(name=name, version=number, onnx=onnx, manifest=manifest, card=card)

    def publish(self, manifest: bytes, onnx: bytes, card: str = "") -> ModelVersion:
        """Write a new version, by the name and number in its manifest. All of it is there, or nothing."""
        try:
            name, written = _verify(manifest, onnx)
        except ValueError as error:
            raise ModelRefused(f"an agent would refuse the model: {error}") from error
        if (
            not NAME.fullmatch(name)
            or not written.isdecimal()
            or str(int(written)) != written
            or int(written) < 1
        ):
            raise ModelRefused(
                f"model {name!r}, version {written!r}: take a plain name and a version counted from 1"
            )
        place = self._folder / name / written
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
        try:
            for file, content in ((ONNX, onnx), (MANIFEST, manifest), (CARD, card.encode())):
                _write(beside / file, content)
            _sync(beside)
            beside.chmod(0o755)
            # Renaming onto an empty folder would work; onto one with files it fails, and that is what is wanted.
            beside.rename(place)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            if place.exists():
                raise ModelExists(
                    f"version {written} of model {name!r} is there already; count the version up"
                ) from error
            raise
        _sync(place.parent)
        return self._row(name, int(written))

    def _row(self, name: str, version: int) -> ModelVersion:
        folder = self._folder / name / str(version)
        content: dict[str, Any] = {}
        card, same = "", False
        try:
            content = _fields(_read(folder / MANIFEST))
            card = _read(folder / CARD).decode() if (folder / CARD).exists() else ""
            same = hashlib.sha256(_read(folder / ONNX)).hexdigest() == content.get("sha256")
        except (OSError, ValueError):
            same = False
        created = content.get("created_ns")
        return ModelVersion(
            name=name,
            version=version,
            state="ready" if same else "damaged",
            created_ns=created if isinstance(created, int) else None,
            checksum=str(content.get("sha256", "")),
            card={
                "text": card,
                **{key: content[key] for key in ("features", "inputs", "threshold") if key in content},
            },
        )


def _versions(model: Path) -> list[int]:
    return [int(version.name) for version in model.iterdir() if version.name.isdecimal() and version.is_dir()]


def _fields(manifest: bytes) -> dict[str, Any]:
    content = json.loads(manifest)
    if not isinstance(content, dict):
        raise ValueError("the manifest is no JSON object")  # noqa: TRY004 - to the caller it is one more bad value
    return content


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(f"{path} has more than {MAX_BYTES} bytes")
    return content


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """DURABILITY: a rename or a new file is there after a power cut only once its folder is synced."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
