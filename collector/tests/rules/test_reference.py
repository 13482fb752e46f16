"""docs/reference/rules.md is what the model says."""

from pathlib import Path

from telemetryx.rules.load import check_text
from telemetryx.rules.reference import reference

DOCS = Path(__file__).parents[3] / "docs"


def test_the_reference_is_fresh() -> None:
    """Write it anew with: python -c 'from telemetryx.rules.reference import reference; print(reference(), end="")'."""
    assert (DOCS / "reference" / "rules.md").read_text("utf-8") == reference()


def test_the_rules_of_the_how_to_load() -> None:
    """Every YAML example with `rules:` in the how-to is a sound rule file."""
    parts = (DOCS / "how-to" / "rules.md").read_text("utf-8").split("```yaml\n")[1:]
    examples = [part.split("```")[0] for part in parts]
    files = [example for example in examples if example.lstrip().startswith("rules:")]
    assert files
    for text in files:
        assert check_text(text, "docs/how-to/rules.md")[1] == []
