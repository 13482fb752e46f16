#!/usr/bin/env python3
"""Says what system libraries some programs and shared objects need, as a package's dependencies.

    packaging/needs.py deb|rpm FILE...

Reads the ELF tables with readelf, so it serves every architecture: dpkg-shlibdeps and rpm's own finder want that
architecture's libraries installed. A library that is neither beside the files nor in the list below is an error.
"""

import re
import subprocess
import sys
from pathlib import Path

#: The packages of the libraries that our files may need: Debian's name, the name that rpm's families share.
PACKAGES = {
    "libgcc_s.so.1": ("libgcc-s1", "libgcc"),
    "libstdc++.so.6": ("libstdc++6", "libstdc++"),
    "libz.so.1": ("zlib1g", "zlib"),
}
#: All from the C library's own package.
LIBC = re.compile(
    r"^(libc|libm|libdl|libpthread|librt|libutil|ld-linux[\w-]*)\.so\.\d+$"
)


def main(kind: str, files: list[Path]) -> int:
    """Print the dependencies, comma separated."""
    beside = {file.name for file in files}
    floor, needed = (2, 17), set()
    for file in files:
        text = subprocess.run(
            ["readelf", "--wide", "-d", "-V", str(file)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        floor = max(
            [
                floor,
                *(
                    (int(major), int(minor))
                    for major, minor in re.findall(r"Name: GLIBC_(\d+)\.(\d+)", text)
                ),
            ]
        )
        needed |= set(re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", text))
    packages = [
        f"libc6 (>= {floor[0]}.{floor[1]})"
        if kind == "deb"
        else f"glibc >= {floor[0]}.{floor[1]}"
    ]
    for library in sorted(needed - beside):
        if library in PACKAGES:
            packages.append(PACKAGES[library][kind == "rpm"])
        elif not LIBC.match(library):
            print(
                f"needs.py: {library} is needed, and no package is known that has it: add it to PACKAGES",
                file=sys.stderr,
            )
            return 1
    print(", ".join(packages))
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in {"deb", "rpm"}:
        print(__doc__, file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(main(sys.argv[1], [Path(name) for name in sys.argv[2:]]))
