#!/bin/sh
# Builds a fuzz target and runs it: ./run.sh TARGET SECONDS [libFuzzer option…]
# ASAN=1 adds the address sanitizer; PROGRAMS=FOLDER takes what is built there. Findings go to artifacts/TARGET/, the corpus to corpus/TARGET/.
set -eu
cd "$(dirname "$0")"
target=${1:?usage: run.sh TARGET SECONDS}
seconds=${2:?usage: run.sh TARGET SECONDS}
shift 2
programs=${PROGRAMS:-$(./build.sh --bin "$target")}
mkdir -p "corpus/$target" "artifacts/$target"
# Seeds that are checked in come first; what is found stays in corpus/, which isn't.
[ -d "seeds/$target" ] && seeds="seeds/$target" || seeds=
exec "$programs/$target" "corpus/$target" $seeds -artifact_prefix="artifacts/$target/" \
    -max_total_time="$seconds" -rss_limit_mb=512 -timeout=10 -print_final_stats=1 "$@"
