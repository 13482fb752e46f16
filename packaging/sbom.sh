#!/usr/bin/env bash
# Writes the bills of materials (CycloneDX JSON): what the agent's program and the collector's package are made of.
#
#   packaging/sbom.sh FOLDER ENVIRONMENT
#
# The agent's from Cargo's own resolution of what is compiled for Linux, by cargo-cyclonedx. The collector's from the virtual ENVIRONMENT that is packaged,
# by cyclonedx-py, and from the console's list of libraries.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
out=$(realpath -m "${1:?a folder}")
environment=$(realpath "${2:?the folder of the virtual environment}")
cargo_cyclonedx=0.5.9 cyclonedx_bom=7.5.0
mkdir -p "$out"

export PATH="$root/.cache/tools/bin:$PATH"
if ! command -v cargo-cyclonedx >/dev/null; then
    echo "==> building cargo-cyclonedx (once)"
    cargo install --quiet --locked --debug --root "$root/.cache/tools" "cargo-cyclonedx@$cargo_cyclonedx"
fi
cd "$root/agent"
# It writes one beside each of our crates; the agent's names them all.
cargo cyclonedx --quiet --manifest-path crates/agent/Cargo.toml --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu --no-build-deps --override-filename telemetryx-agent.cdx
# Our own crates are named by where they lie.
sed "s|file://$root/|file:///|g" crates/agent/telemetryx-agent.cdx.json >"$out/telemetryx-agent.cdx.json"
find crates sim -maxdepth 2 -name telemetryx-agent.cdx.json -delete

cd "$root/collector"
python=$environment/bin/python3
PYTHONWARNINGS=ignore uv tool run --quiet --from "cyclonedx-bom==$cyclonedx_bom" cyclonedx-py environment --output-reproducible --spec-version 1.5 --of JSON \
    --pyproject pyproject.toml -o "$out/collector.part" "$python"
"$python" - "$out/collector.part" src/telemetryx/console/vendor.toml "$environment" >"$out/telemetryx-collector.cdx.json" <<'PYTHON'
import json
import sys
import tomllib
from pathlib import Path

bill = json.loads(Path(sys.argv[1]).read_text().replace(sys.argv[3], "/usr/lib/telemetryx"))
for library in tomllib.loads(Path(sys.argv[2]).read_text())["library"]:
    purl = f"pkg:npm/{library['npm'].replace('@', '%40')}@{library['version']}"
    licences = [{"license": {"id": library["license"]}}]
    bill["components"].append(
        {"type": "library", "bom-ref": purl, "name": library["npm"], "version": library["version"], "licenses": licences, "purl": purl}
    )
print(json.dumps(bill, indent=2))
PYTHON
rm "$out/collector.part"
