#!/usr/bin/env bash
# Lays the collector's virtual environment out below a folder, as it will lie in /usr/lib/telemetryx.
#
#   packaging/collector-tree.sh TO WHEEL
#
# All comes from wheels: those that collector/requirements-runtime.lock pins and WHEEL, which holds the collector itself. For the
# Python that Debian 12 has in /usr/bin; compiled libraries are the ones that their authors publish.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
to=$1 wheel=$2
home=/usr/lib/telemetryx
version=3.11
site=$to$home/lib/python$version/site-packages

[ -x "/usr/bin/python$version" ] || { echo "collector-tree: the package is for Debian 12's Python $version, and /usr/bin/python$version is missing: apt-get install python$version" >&2; exit 1; }
mkdir -p "$site" "$to$home/bin"
# pip is in the lock for a command of sqlite-utils that installs plugins; nobody installs anything in here.
grep -v '^pip==' "$root/collector/requirements-runtime.lock" >"$to/requirements"
uv pip install --quiet --python "/usr/bin/python$version" --target "$site" --only-binary :all: --no-deps --link-mode copy -r "$to/requirements" "$wheel"
rm "$to/requirements"

# A virtual environment is this file and the link to the interpreter.
printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = %s\n' "$version" >"$to$home/pyvenv.cfg"
ln -s "/usr/bin/python$version" "$to$home/bin/python3"
cat >"$to$home/bin/telemetryx" <<TEXT
#!$home/bin/python3
import sys

from telemetryx.cli import main

sys.exit(main())
TEXT
chmod 0755 "$to$home/bin/telemetryx"

# What is left out: other libraries' commands, what nothing runs, and what names this build (where the wheel lay, when it was installed).
rm -rf "${site:?}/bin" "$site/.lock"
find "$site" \( -name direct_url.json -o -name uv_cache.json -o -name RECORD -o -name INSTALLER -o -name REQUESTED \) -path '*.dist-info/*' -delete
"$root/packaging/slim.sh" "$site"
# Wheels keep their authors' modes.
find "$to$home" -type f ! -path "*/bin/telemetryx" -exec chmod 0644 {} +
find "$to$home" -type d -exec chmod 0755 {} +
