"""Writes wire/_pb2 from proto/telemetryx/v1/link.proto: `python -m telemetryx.wire.generate`. A test fails when it is stale."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE = "telemetryx.wire._pb2"
FILES = ("link_pb2.py", "link_pb2.pyi", "link_pb2_grpc.py", "link_pb2_grpc.pyi")
HEADER = (
    "# Written by `python -m telemetryx.wire.generate` from proto/telemetryx/v1/link.proto; don't edit.\n"
)


def generate(proto: Path) -> dict[str, str]:
    """Compile link.proto and return the text of each generated file. Needs grpcio-tools and mypy-protobuf."""
    import grpc_tools.protoc  # noqa: PLC0415 - a tool of developers; the collector runs without it

    scripts = Path(sys.executable).parent
    with TemporaryDirectory() as folder:
        status = grpc_tools.protoc.main(
            [
                "protoc",
                f"-I{proto}",
                f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
                f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
                f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
                f"--python_out={folder}",
                f"--grpc_python_out={folder}",
                f"--mypy_out={folder}",
                f"--mypy_grpc_out={folder}",
                "telemetryx/v1/link.proto",
            ]
        )
        if status != 0:
            raise SystemExit(f"protoc ended with status {status}; its message stands above")
        texts = {name: (Path(folder) / "telemetryx/v1" / name).read_text(encoding="utf-8") for name in FILES}
    return {
        name: HEADER
        + text.replace("from telemetryx.v1 import", f"from {PACKAGE} import").replace(
            "telemetryx.v1.link_pb2", f"{PACKAGE}.link_pb2"
        )
        for name, text in texts.items()
    }


def proto_folder() -> Path:
    """Find proto/ of the repository that this file lies in."""
    return Path(__file__).resolve().parents[4] / "proto"


def main() -> None:
    """Write the files."""
    target = Path(__file__).parent / "_pb2"
    target.mkdir(exist_ok=True)
    (target / "__init__.py").write_text(
        '"""Generated from proto/telemetryx/v1/link.proto."""\n', encoding="utf-8"
    )
    for name, text in generate(proto_folder()).items():
        (target / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
