#!/usr/bin/env bash
# Makes the package from which an upgrade begins: the agent of an earlier commit, by that commit's own scripts, as revision 0 into dist/previous.
#
#   packaging/previous.sh [COMMIT]
#
# COMMIT is by default the last one before agents took configurations from the collector. It is compiled once, with Cargo's profile PROFILE (dev).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
commit=${1:-c7b4e78c}
profile=${PROFILE:-dev}
out=$root/dist/previous work=$root/.cache/previous
git -C "$root" cat-file -e "$commit^{commit}" 2>/dev/null || { echo "previous: this checkout has no commit $commit: fetch the whole history (git fetch --unshallow), or name another commit" >&2; exit 1; }

mkdir -p "$out" "$work"
ended() { git -C "$root" worktree remove --force "$work/tree" 2>/dev/null || true; }
trap ended EXIT
ended
git -C "$root" worktree add --quiet --force --detach "$work/tree" "$commit"
echo "==> compiling the agent of $commit (some minutes)"
(cd "$work/tree/agent" && CARGO_TARGET_DIR="$work/target" cargo build --quiet --locked --profile "$profile" -p telemetryx-agent)
REVISION=0 TELEMETRYX_PACKAGE_WORK="$work/package" "$work/tree/packaging/build.sh" agent --agent "$work/target/${profile/#dev/debug}/telemetryx-agent" --out "$out"
