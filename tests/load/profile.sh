#!/usr/bin/env bash
# A flamegraph of the agent under load: `just profile [SECONDS]` writes profile.svg (or profile.txt) in the current folder.
# The agent takes line protocol over HTTP as fast as it can be acknowledged and folds it into 10 s windows; no collector.
set -euo pipefail
seconds=${1:-10}
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/agent/target}
here=$PWD

command -v perf >/dev/null || { echo "perf is missing: apt-get install linux-perf (Ubuntu: linux-tools-generic)" >&2; exit 1; }
paranoid=$(cat /proc/sys/kernel/perf_event_paranoid)
if ! perf record -q -o /dev/null true 2>/dev/null; then
    echo "perf may not record here (kernel.perf_event_paranoid is $paranoid): run as root, or sysctl kernel.perf_event_paranoid=1" >&2
    exit 1
fi

# Symbols and lines, in a folder of their own, so that nothing else is built anew.
cd "$root/agent"
profile=(--release --config profile.release.strip=false --config 'profile.release.debug="line-tables-only"' --target-dir "$target/profile")
cargo build --locked "${profile[@]}" -p telemetryx-agent
cargo build --locked --release -p inputs --example line_load --target-dir "$target"

folder=$(mktemp -d "${TMPDIR:-/var/tmp}/telemetryx-profile.XXXXXX")
agent=
trap '[ -z "$agent" ] || kill "$agent" 2>/dev/null || true; rm -rf "$folder"' EXIT
port=$((20000 + RANDOM % 10000))
cat >"$folder/agent.toml" <<TOML
[agent]
name = "profile"
data_dir = "$folder/data"
[uplink]
url = "http://127.0.0.1:9"
[input.http]
listen = "127.0.0.1:$port"
[[fold.route]]
match = "bench*"
to = "window"
TOML
"$target/profile/release/telemetryx-agent" run --config "$folder/agent.toml" >"$folder/log" 2>&1 &
agent=$!
for _ in $(seq 100); do (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break; sleep 0.1; done

perf record -q -F 499 --call-graph dwarf,16384 -p "$agent" -o "$folder/perf.data" -- sleep "$seconds" &
"$target/release/examples/line_load" --port "$port" --seconds "$((seconds + 1))"
wait %2
if command -v inferno-flamegraph >/dev/null; then
    perf script -i "$folder/perf.data" 2>/dev/null | inferno-collapse-perf | inferno-flamegraph >"$here/profile.svg"
    echo "profile.svg"
else
    perf report -i "$folder/perf.data" --no-children --stdio -g none 2>/dev/null | sed -n 1,60p >"$here/profile.txt"
    echo "profile.txt (for a flamegraph: cargo install inferno)"
fi
