#!/bin/sh
# From a fresh machine to a running demo or a passed test run, in one command.
#
# Installs what is missing, saying so line by line, keeps it in this checkout (.venv, agent/target,
# .cache) or in the system's packages, then hands over to `just`. Run again it finds everything in
# place and starts at once. Nothing is fetched but packages: Debian's or Ubuntu's, PyPI's, crates.io's.
set -eu

usage() {
    cat <<'TEXT'
usage: packaging/bootstrap.sh COMMAND [ARGUMENT...]

  demo [--for 30s] [...]   install what the demo needs, then run the whole of TelemetryX on this host
  test                     install what the tests need, then run all checks and tests
  setup [demo|test]        only install
  just RECIPE [...]        install what the tests need, then run any recipe of the justfile

Needs Debian 12 or newer or Ubuntu 22.04 or newer, and root or sudo for system packages (none, if all are there).
TEXT
}

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
export DEBIAN_FRONTEND=noninteractive
export PYTHONPYCACHEPREFIX="$root/.cache/pycache"
venv="$root/.venv"
marks="$root/.cache/bootstrap"
min_rust=91

say() { printf '==> %s\n' "$*"; }
fail() { printf 'bootstrap: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif have sudo; then sudo -E "$@"
    else fail "the system package step needs root: run as root, install sudo, or install by hand: $*"
    fi
}

apt_updated=
apt_install() {
    have apt-get || fail "these are missing and this system has no apt-get; install them by hand: $*"
    if [ -z "$apt_updated" ]; then
        say "reading the system's package lists"
        as_root apt-get update -qq || fail "apt-get update failed: check the network and /etc/apt"
        apt_updated=1
    fi
    say "installing system packages: $*"
    as_root apt-get install -y -qq --no-install-recommends "$@" >"$marks/apt.log" 2>&1 \
        || { tail -n 20 "$marks/apt.log" >&2; fail "apt-get install $* failed (whole output: $marks/apt.log)"; }
}

apt_has() { apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'; }

# --- Python -----------------------------------------------------------------------------------------
find_python() {
    for candidate in python3 python3.13 python3.12 python3.11; do
        if have "$candidate" && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$(command -v "$candidate")
            return 0
        fi
    done
    return 1
}

need_python() {
    if ! find_python; then
        apt_install python3 python3-venv
        find_python || { apt_install python3.11 python3.11-venv; find_python || fail "Python 3.11 or newer is needed and this system offers none"; }
    fi
    if [ ! -x "$venv/bin/python" ]; then
        if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
            version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
            apt_install "python$version-venv"
        fi
        say "making the virtual environment .venv with $("$python" --version)"
        "$python" -m venv "$venv"
    fi
}

# Installs a lock file once: its hash is the mark.
need_wheels() {
    lock=$1 what=$2
    sum=$(sha256sum "$lock" | cut -c1-16)
    mark="$marks/wheels-$(basename "$lock")-$sum"
    [ -e "$mark" ] && [ "$mark" -nt "$venv/pyvenv.cfg" ] && return 0
    say "installing the Python packages of $what"
    if "$venv/bin/python" -m uv --version >/dev/null 2>&1; then
        "$venv/bin/python" -m uv pip install -q --python "$venv/bin/python" -r "$lock"
    else
        "$venv/bin/python" -m pip install -q --disable-pip-version-check -r "$lock"
    fi
    touch "$mark"
}

# `telemetryx` from the sources in this checkout, for people; the test set-up installs the package in its place.
need_command() {
    [ -e "$venv/bin/telemetryx" ] && return 0
    say "making .venv/bin/telemetryx"
    cat >"$venv/bin/telemetryx" <<'TEXT'
#!/bin/sh
# Written by packaging/bootstrap.sh.
bin=$(CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")" && pwd)
PYTHONPATH="$bin/../../collector/src${PYTHONPATH:+:$PYTHONPATH}" exec "$bin/python" -m telemetryx "$@"
TEXT
    chmod +x "$venv/bin/telemetryx"
}

# --- Rust -------------------------------------------------------------------------------------------
rust_is_new_enough() {
    have cargo && have rustc || return 1
    minor=$(rustc --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
    [ -n "$minor" ] && [ "$minor" -ge "$min_rust" ]
}

need_rust() {
    # Versioned compilers of Ubuntu lie beside the path.
    for folder in /usr/lib/rust-1.*/bin "$HOME/.cargo/bin"; do [ -d "$folder" ] && PATH="$folder:$PATH"; done
    export PATH
    if ! rust_is_new_enough; then
        [ -n "$apt_updated" ] || { as_root apt-get update -qq; apt_updated=1; }
        if apt_has rustc-web; then apt_install rustc-web cargo-web
        elif newest=$(apt-cache search --names-only '^rustc-1\.[0-9]+$' | sed -n 's/^rustc-1\.\([0-9]*\) .*/\1/p' | sort -n | tail -n 1) \
            && [ -n "$newest" ] && [ "$newest" -ge "$min_rust" ]; then
            apt_install "rustc-1.$newest" "cargo-1.$newest"
            PATH="/usr/lib/rust-1.$newest/bin:$PATH"
        else apt_install rustc cargo
        fi
        rust_is_new_enough || fail "Rust 1.$min_rust or newer is needed, found '$(rustc --version 2>&1)'. On Debian 12 enable the security suite (rustc-web), on Ubuntu the updates suite, or install rustup from https://rustup.rs"
    fi
    have cc || apt_install gcc libc6-dev
    [ -e /usr/include/stdio.h ] || apt_install libc6-dev
    [ -e /etc/ssl/certs/ca-certificates.crt ] || apt_install ca-certificates
}

need_rust_lints() {
    if ! cargo clippy --version >/dev/null 2>&1 || ! cargo fmt --version >/dev/null 2>&1; then
        minor=$(rustc --version | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
        if apt_has rust-web-clippy; then apt_install rust-web-clippy rustfmt-web
        elif apt_has "rust-1.$minor-clippy"; then apt_install "rust-1.$minor-clippy" "rustfmt-1.$minor"
        else apt_install rust-clippy rustfmt; fi
    fi
}

# --- what each command needs -------------------------------------------------------------------------
need_demo() {
    mkdir -p "$marks"
    need_python
    need_rust
    need_wheels "$root/packaging/tools.lock" "the recipes (just, uv)"
    need_wheels "$root/collector/requirements-runtime.lock" "the collector"
    need_command
}

need_test() {
    need_demo
    need_rust_lints
    missing=
    have git || missing="$missing git"
    [ -x /usr/sbin/mosquitto ] || have mosquitto || missing="$missing mosquitto"
    have mosquitto_pub || missing="$missing mosquitto-clients"
    # Asks the collector as Prometheus' own tool does, and answers the same questions for comparison.
    have promtool && have prometheus || missing="$missing prometheus"
    have chromium || missing="$missing chromium"
    # The tests start servers of their own; the package's, if it starts one, is left alone.
    set -- /usr/lib/postgresql/*/bin/initdb
    [ -x "$1" ] || missing="$missing postgresql"
    have redis-server || missing="$missing redis-server"
    # Judges the units; nothing is started.
    have systemd-analyze || missing="$missing systemd"
    # The agent's package is made, judged and installed in a throw-away copy of this system; the installer is checked.
    have dh || missing="$missing debhelper"
    have lintian || missing="$missing lintian"
    have shellcheck || missing="$missing shellcheck"
    # An agent that believes it is 1970.
    have faketime || missing="$missing faketime"
    # Debian splits the C++ runtime that the fuzz targets link against.
    have g++ || missing="$missing g++"
    # shellcheck disable=SC2086  # a list of package names
    [ -z "$missing" ] || apt_install $missing
    need_wheels "$root/collector/requirements.lock" "the tests"
}

command=${1:-}
[ -n "$command" ] || { usage; exit 2; }
shift
case "$command" in
    demo) need_demo; exec "$venv/bin/just" demo "$@" ;;
    test) need_test; exec "$venv/bin/just" test "$@" ;;
    just) need_test; exec "$venv/bin/just" "$@" ;;
    setup)
        case "${1:-test}" in
            demo) need_demo ;;
            test) need_test ;;
            *) usage; exit 2 ;;
        esac
        say "ready" ;;
    -h | --help | help) usage ;;
    *) usage; fail "unknown command '$command'" ;;
esac
