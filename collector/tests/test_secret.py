"""Whom a file with a secret may be readable to."""

import os
import stat

import pytest

from telemetryx.secret import exposed


def found(mode: int, owner: int) -> os.stat_result:
    """Make what stat() gives for a file of this owner."""
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, owner, 0, 0, 0, 0))


@pytest.mark.parametrize(("mode", "owner"), [(0o600, 1000), (0o400, 0), (0o440, 0), (0o640, 0)])
def test_its_owner_and_roots_group_may_read_it(mode: int, owner: int) -> None:
    """Kubernetes gives a secret to root and lets a group read it, which only the pod's process is in."""
    assert exposed(found(mode, owner)) is None


@pytest.mark.parametrize(("mode", "owner"), [(0o640, 1000), (0o444, 0), (0o660, 0), (0o604, 0)])
def test_what_others_can_read_or_a_group_can_write_is_told_with_its_mode(mode: int, owner: int) -> None:
    """A user's own file has no reason to be readable by a group."""
    assert exposed(found(mode, owner)) == mode
