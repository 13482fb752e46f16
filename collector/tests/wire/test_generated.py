"""The generated frames are what link.proto says today."""

from pathlib import Path

from telemetryx.wire import generate


def test_the_generated_frames_are_fresh() -> None:
    """`python -m telemetryx.wire.generate` would change nothing."""
    folder = Path(generate.__file__).parent / "_pb2"
    for name, text in generate.generate(generate.proto_folder()).items():
        assert (folder / name).read_text(encoding="utf-8") == text, (
            f"{name} is stale: run python -m telemetryx.wire.generate"
        )
