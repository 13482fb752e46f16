#!/usr/bin/env bash
# Builds every fuzz target at once and runs each for a while, two at a time: ./all.sh SECONDS LOGS [AT_A_TIME]
# Prints one line a target, writes LOGS/TARGET.log, and fails where there is a finding.
set -euo pipefail
seconds=${1:?usage: all.sh SECONDS LOGS}
logs=${2:?usage: all.sh SECONDS LOGS}
at_a_time=${3:-2}
mkdir -p "$logs"
logs=$(cd "$logs" && pwd)
cd "$(dirname "$0")"
export seconds logs

one() {
    local log="$logs/$1.log"
    # A target ends by itself; the time limit is for one that hangs where libFuzzer doesn't see it.
    if timeout $((seconds + 120)) ./run.sh "$1" "$seconds" >"$log" 2>&1; then
        printf '%-16s %s\n' "$1" "$(sed -n 's/^stat::number_of_executed_units: */executions: /p' "$log")"
    else
        printf '%-16s FAILED; the end of %s:\n%s\n' "$1" "$log" "$(tail -n 40 "$log")"
        return 1
    fi
}
export -f one

PROGRAMS=$(./build.sh --bins)
export PROGRAMS
printf '%s\n' fuzz_targets/*.rs inputs/fuzz_targets/*.rs | xargs -n 1 basename -s .rs |
    xargs -P "$at_a_time" -I TARGET bash -c 'one TARGET'
