"""Who may read a file with a secret: its owner; and a group, where the file is root's.

The second is how Kubernetes hands a secret to a process that isn't root: owned by root, readable by a group that this process is in.
PostgreSQL judges its keys the same way.
"""

import os
from typing import Final

_OTHERS: Final = 0o077
_OTHERS_THAN_ROOTS_GROUP: Final = 0o037


def exposed(found: os.stat_result) -> int | None:
    """Return the permission bits of a file that others can read or its group can write; None when all is well."""
    refused = _OTHERS_THAN_ROOTS_GROUP if found.st_uid == 0 else _OTHERS
    return found.st_mode & 0o777 if found.st_mode & refused else None
