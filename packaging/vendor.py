#!/usr/bin/env python3
"""Fetches the console's libraries from the npm registry, verifies them, and writes them with their hashes.

    just vendor

Reads `vendor.toml` beside the console: for each library its npm name, version, the registry's sha512 and the files to take.
`npm pack` fetches, the sha512 is checked, the files are copied, and each file's sha256 is written back.
"""

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

CONSOLE = Path(__file__).resolve().parents[1] / "collector/src/telemetryx/console"


def main() -> int:
    """Vendor every library of vendor.toml."""
    path = CONSOLE / "vendor.toml"
    libraries = tomllib.loads(path.read_text())["library"]
    out = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for library in libraries:
        name, version = library["npm"], library["version"]
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            (package,) = Path(folder).glob("*.tgz")
            digest = "sha512-" + base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
            if digest != library["integrity"]:
                print(f"{name}@{version}: the registry's package is {digest}, vendor.toml says {library['integrity']}", file=sys.stderr)
                return 1
            target = CONSOLE / "vendor" / f"{name.split('/')[-1]}-{version}"
            out += ["", "[[library]]", f'npm = "{name}"', f'version = "{version}"', f'license = "{library["license"]}"']
            out += [f'integrity = "{digest}"', "[library.files]"]
            with tarfile.open(package) as archive:
                for file in library["files"]:
                    member = archive.extractfile(f"package/{file}")
                    if member is None:
                        print(f"{name}@{version} has no file {file}", file=sys.stderr)
                        return 1
                    content = member.read()
                    place = target / file
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(content)
                    out.append(f'"{file}" = "{hashlib.sha256(content).hexdigest()}"')
    path.write_text("\n".join(out) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
