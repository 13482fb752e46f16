#!/bin/sh
# Builds fuzz targets on the stable compiler: ./build.sh --bins, or ./build.sh --bin TARGET. Says where they are.
# ASAN=1 adds the address sanitizer.
set -eu
cd "$(dirname "$0")"
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table"
[ -z "${ASAN:-}" ] || flags="$flags -Zsanitizer=address"
host=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-$PWD/target}/fuzz${ASAN:+-asan}
# Sancov needs nightly switches; with --target they don't reach build scripts and procedural macros.
# Always with --workspace, or one target alone would want its dependencies with other features, compiled anew.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags --cfg fuzzing" CARGO_TARGET_DIR=$out \
    cargo build --quiet --locked --release --target "$host" --workspace "$@"
echo "$out/$host/release"
