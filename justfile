# Every task a person runs. `packaging/bootstrap.sh just RECIPE` installs what is missing first.

set shell := ["bash", "-euo", "pipefail", "-c"]

root := justfile_directory()
venv := root / ".venv"
python := venv / "bin/python"
# Bytecode, but not beside the sources: without it each of the hundreds of collectors that tests start compiles all modules anew, half of what a start takes.
export PYTHONDONTWRITEBYTECODE := ""
export PYTHONPYCACHEPREFIX := root / ".cache/pycache"
export PATH := venv / "bin" + ":" + root / ".cache/tools/bin" + ":" + env("PATH")
export CARGO_INCREMENTAL := "0"
export VIRTUAL_ENV := venv

# list the recipes
default:
    @just --list --unsorted

# run the whole of TelemetryX on this host: collector, agent, console
[positional-arguments]
demo *ARGS:
    #!/usr/bin/env bash
    set -euo pipefail
    agent="{{ root }}/agent/target/debug/telemetryx-agent"
    cd "{{ root }}/agent"
    # Cargo itself would list 250 downloads, or compile for minutes without a word: each is announced before it begins.
    host=$(rustc -vV | sed -n 's/^host: //p')
    if ! cargo fetch --quiet --locked --offline --target "$host" 2>/dev/null; then
        echo "==> downloading the agent's libraries"
        cargo fetch --quiet --locked --target "$host"
    fi
    if [ ! -x "$agent" ]; then
        echo "==> compiling the agent (once; about three minutes on two cores)"
        cargo build --locked --offline -p telemetryx-agent
    else
        changed=$(find Cargo.toml Cargo.lock crates/*/Cargo.toml crates/*/src ../models/default -type f -newer "$agent" -print -quit)
        [ -z "$changed" ] || echo "==> compiling what has changed in the agent"
        cargo build --quiet --locked --offline -p telemetryx-agent
    fi
    cd "{{ invocation_directory() }}"
    PYTHONPATH="{{ root }}/collector/src" exec "{{ python }}" -m telemetryx demo --agent "$agent" "$@"

# everything that .ci/run and the README's test command run
test: check build test-rust test-python test-end-beside-fuzz

# formatting, lints, licences, types, floors
check: check-rust check-python

# rustfmt, clippy, cargo-deny
check-rust: _cargo-deny
    cd agent && cargo fmt --all --check
    cd agent && cargo clippy --locked --workspace --all-targets -- -D warnings
    cd agent && cargo deny --log-level error check bans licenses sources

# ruff, mypy --strict, import-linter
check-python: native
    cd collector && ruff check . ../models ../tests && ruff format --check . ../models ../tests
    cd collector && mypy --strict
    cd collector && lint-imports

# the agent, as the demo and the tests use it
build:
    cd agent && cargo build --locked -p telemetryx-agent

# telemetryx._native and the collector, into the virtual environment
native:
    cd collector && maturin develop --quiet --locked --uv

# the same, optimised as wheels have it
_native-release:
    cd collector && maturin develop --quiet --locked --uv --release

# unit and property tests of the agent's crates
test-rust:
    cd agent && cargo test --locked --workspace --quiet

# unit and property tests of the collector
test-python: native
    cd collector && pytest -q -n 2

# end to end: promises, journeys, compatibility, 20 fault rounds
test-end: build native
    pytest -q -n 3 --maxschedchunk 1 tests

# test-end, and beside it every fuzz target on what processor time is left
test-end-beside-fuzz: build native
    #!/usr/bin/env bash
    set -euo pipefail
    mkdir -p .cache/fuzz
    agent/fuzz/build.sh --bins >/dev/null
    nice -n 19 agent/fuzz/all.sh 30 .cache/fuzz 1 >.cache/fuzz/summary 2>&1 &
    fuzzing=$!
    trap 'pkill -P $fuzzing 2>/dev/null || true' EXIT
    # Most of them wait most of the time: three at once keep two cores busy.
    pytest -q -n 3 --maxschedchunk 1 tests
    echo "waiting for the fuzz targets"
    wait $fuzzing || { cat .cache/fuzz/summary; exit 1; }
    cat .cache/fuzz/summary

# run every fuzz target for SECONDS each, two at a time
fuzz SECONDS="30":
    agent/fuzz/all.sh {{ SECONDS }} .cache/fuzz

# real faults under load, by kind (kill, power, disk-full, link, outage …), with what they cost; without a kind, the list
fault *ARGS: build native
    {{ python }} -m tests.fault {{ ARGS }}

# other people's test suites: `just compat paho DIR` runs Eclipse Paho's against an agent
compat SUITE *ARGS: build native
    {{ python }} -m tests.compat.{{ SUITE }}_suite {{ ARGS }}

# runs of the agent on one thread, on a disk and a network that fail: `just sim --seeds 20000 --traces 1000` replays the first 1000 against the real collector
[positional-arguments]
sim *ARGS: native
    #!/usr/bin/env bash
    set -euo pipefail
    rm -rf .cache/sim
    case " $* " in
        *" --seed "* | *" --seed="* | *" --outage "* | *" --outage="* | *" --help "*) exec cargo run --quiet --locked --manifest-path agent/Cargo.toml -p sim -- "$@" ;;
    esac
    cargo run --quiet --locked --manifest-path agent/Cargo.toml -p sim -- --record .cache/sim "$@"
    PYTHONPATH=collector/src {{ python }} -m tests.sim.replay .cache/sim

# benchmarks as a table; --json FILE for scripts
bench *ARGS: _release _native-release
    {{ python }} tests/load/bench.py {{ ARGS }}

# the documents that are generated from the code
docs: build native
    agent/target/debug/telemetryx-agent config --reference > docs/reference/agent-config.md
    telemetryx config reference --markdown > docs/reference/collector-config.md
    telemetryx openapi --markdown > docs/reference/http-api.md
    {{ python }} -c 'from telemetryx.rules.reference import reference; print(reference(), end="")' > docs/reference/rules.md
    {{ python }} -m tests.harness.commands > docs/reference/commands.md
    {{ python }} -m tests.harness.agent_status > docs/reference/agent-status.md

# the batches that both languages must decode alike
vectors:
    cd agent && cargo run --locked -p wire --example vectors -- ../proto/vectors

# the console's libraries, fetched from npm and verified by hash
vendor:
    {{ python }} packaging/vendor.py

# the default model, trained anew
models: native
    {{ python }} models/recipes/host.py

# packages (.deb, .rpm, wheel), bills of materials and the installer, into dist/: `just package agent --arch arm64 --check`; without arguments, all for amd64
[positional-arguments]
package *ARGS:
    packaging/build.sh "$@"

# a Debian with a real systemd is booted, and the services go through what happens in the field (needs root and debootstrap; not in CI)
field *ARGS: build native
    {{ python }} -m tests.field {{ ARGS }}

# prove the two README commands in a bare Debian chroot (needs root and debootstrap)
fresh *ARGS:
    packaging/fresh.sh {{ ARGS }}

# build both container images without a registry, run them locked down, send a reading through (needs root, buildah and podman)
containers *ARGS: native
    packaging/container/check.sh {{ ARGS }}

# a flamegraph of the agent under load
profile *ARGS: _release
    tests/load/profile.sh {{ ARGS }}

_release:
    cd agent && cargo build --locked --profile dist -p telemetryx-agent

_cargo-deny:
    @[ -x .cache/tools/bin/cargo-deny ] || { echo "==> building cargo-deny (once)"; cargo install --quiet --locked --debug --root .cache/tools cargo-deny@0.20.2; }
