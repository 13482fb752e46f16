"""The steps of the schema's history have an order that nothing but their numbers gives."""

import pytest

from telemetryx.store import migrations


@pytest.mark.parametrize("package", ["telemetryx.store.migrations", "telemetryx.store.postgres.migrations"])
def test_each_step_has_a_number_of_its_own_and_none_is_missing(package: str) -> None:
    """Two steps with one number would be applied in an order that a later name changes."""
    numbers = [int(name.split("_")[0]) for name in migrations.scripts(package)]
    assert numbers == list(range(1, len(numbers) + 1))
