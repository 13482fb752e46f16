"""What can go wrong in the model registry.

RegistryError
├── NoSuchModel    no model of that name, or no such version of it
├── ModelExists    the version is there already; versions never change
├── ModelRefused   an agent wouldn't take it, or its name can't be a folder's
└── ModelDamaged   the files aren't what the manifest says
"""

from telemetryx.errors import TelemetryXError


class RegistryError(TelemetryXError):
    """The registry can't do what was asked."""


class NoSuchModel(RegistryError):  # noqa: N818 - named after what happened, as the collector's other errors are
    """No model of that name, or no such version of it."""


class ModelExists(RegistryError):  # noqa: N818
    """The version is there already."""


class ModelRefused(RegistryError):  # noqa: N818
    """An agent wouldn't take it."""


class ModelDamaged(RegistryError):  # noqa: N818
    """The files aren't what the manifest says."""
