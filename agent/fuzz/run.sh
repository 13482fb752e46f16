#!/bin/sh
# Builds a fuzz target on the stable compiler and runs it: ./run.sh TARGET SECONDS [libFuzzer option…]
# ASAN=1 adds the address sanitizer. Findings go to artifacts/TARGET/, the corpus to corpus/TARGET/.
set -eu
cd "$(dirname "$0")"
target=${1:?usage: run.sh TARGET SECONDS}
seconds=${2:?usage: run.sh TARGET SECONDS}
shift 2
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table"
[ -z "${ASAN:-}" ] || flags="$flags -Zsanitizer=address"
host=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-target}/fuzz${ASAN:+-asan}
# Sancov needs nightly switches; with --target they don't reach build scripts and procedural macros.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags --cfg fuzzing" CARGO_TARGET_DIR=$out \
    cargo build --quiet --release --target "$host" --bin "$target"
mkdir -p "corpus/$target" "artifacts/$target"
# Seeds that are checked in come first; what is found stays in corpus/, which isn't.
[ -d "seeds/$target" ] && seeds="seeds/$target" || seeds=
exec "$out/$host/release/$target" "corpus/$target" $seeds -artifact_prefix="artifacts/$target/" \
    -max_total_time="$seconds" -rss_limit_mb=512 -timeout=10 -print_final_stats=1 "$@"
