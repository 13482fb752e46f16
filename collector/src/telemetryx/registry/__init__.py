"""The model registry: versions of models on disk, verified whenever they are read.

`DIR/<id>/<version>/{model.onnx, manifest.json, card.md}`, plain files that a person can copy. A version never changes: it
is written beside its place and renamed into it, and one whose bytes aren't those of its manifest is shown as damaged.
"""

from telemetryx.registry.errors import ModelDamaged, ModelExists, ModelRefused, NoSuchModel, RegistryError
from telemetryx.registry.versions import Model, ModelRegistry, ModelVersion

__all__ = [
    "Model",
    "ModelDamaged",
    "ModelExists",
    "ModelRefused",
    "ModelRegistry",
    "ModelVersion",
    "NoSuchModel",
    "RegistryError",
]
