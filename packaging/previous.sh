#!/usr/bin/env bash
# Makes the package from which an upgrade begins: the agent of an earlier commit, by that commit's own scripts, as revision 0 into dist/previous.
#
#   packaging/previous.sh [COMMIT]
#
# COMMIT is by default the first one that could make such a package: the oldest from which anybody can upgrade. It is compiled once, with
# Cargo's profile PROFILE (dev).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
commit=${1:-}
if [ -z "$commit" ]; then
    # In a shallow checkout the newest commit would pass for the first.
    [ "$(git -C "$root" rev-parse --is-shallow-repository)" = false ] || { echo "previous: this checkout has no history: fetch it (git fetch --unshallow), or name a commit" >&2; exit 1; }
    # By what it added and not by its name, which a rewritten history would change.
    commit=$(git -C "$root" log --diff-filter=A --reverse --format=%h -- packaging/previous.sh | sed -n 1p)
fi
profile=${PROFILE:-dev}
out=$root/dist/previous work=$root/.cache/previous
git -C "$root" cat-file -e "$commit^{commit}" 2>/dev/null || { echo "previous: this checkout has no commit $commit" >&2; exit 1; }

mkdir -p "$out" "$work"
ended() { git -C "$root" worktree remove --force "$work/tree" 2>/dev/null || true; }
trap ended EXIT
ended
git -C "$root" worktree add --quiet --force --detach "$work/tree" "$commit"
echo "==> compiling the agent of $commit (some minutes)"
(cd "$work/tree/agent" && CARGO_TARGET_DIR="$work/target" cargo build --quiet --locked --profile "$profile" -p telemetryx-agent)
REVISION=0 TELEMETRYX_PACKAGE_WORK="$work/package" "$work/tree/packaging/build.sh" agent --agent "$work/target/${profile/#dev/debug}/telemetryx-agent" --out "$out"
