#!/usr/bin/env bash
# Makes what is installed: packages of the agent and the collector, the wheel, the bill of materials; all into dist/.
#
#   packaging/build.sh [WHAT...] [--arch ARCH] [--agent PROGRAM] [--wheel WHEEL] [--out FOLDER] [--check]
#
#   WHAT            agent (.deb), rpm (the agent's), wheel, collector (.deb), sbom; default: all of them
#   --arch ARCH     amd64 (the default), arm64, armhf, or all; for agent and rpm
#   --agent PROGRAM package this program, compiled for ARCH, in place of compiling one with the profile `dist`
#   --wheel WHEEL   package this wheel in place of building one
#   --out FOLDER    where it goes in place of dist/
#   --check         make each package a second time in another place and compare the bytes, ask lintian, run the self-test of each architecture
#
# The same sources give the same bytes: times are SOURCE_DATE_EPOCH (the last commit's, when it isn't set), owners are root, lists are sorted,
# no path of the build is in a program. REVISION is the packages' revision (1). Tools: see packaging/README.md.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=${TELEMETRYX_PACKAGE_WORK:-$root/.cache/package}
out=$root/dist
python=${PYTHON:-$root/.venv/bin/python}
arch=amd64 agent='' wheel='' check='' what=()

say() { printf '==> %s\n' "$*"; }
fail() { printf 'build: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,14s/^# \?//p' "$0"; }

while [ $# -gt 0 ]; do
    case $1 in
        agent | rpm | wheel | collector | sbom) what+=("$1") ;;
        --arch) arch=${2:?--arch needs a name}; shift ;;
        --agent) agent=$(realpath "${2:?--agent needs a file}"); shift ;;
        --wheel) wheel=$(realpath "${2:?--wheel needs a file}"); shift ;;
        --out) out=$(realpath -m "${2:?--out needs a folder}"); shift ;;
        --check) check=yes ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; fail "'$1' is not known" ;;
    esac
    shift
done
[ ${#what[@]} -gt 0 ] || what=(agent rpm wheel collector sbom)
case $arch in
    amd64 | arm64 | armhf) arches=("$arch") ;;
    all) arches=(amd64 arm64 armhf) ;;
    *) fail "--arch is amd64, arm64, armhf or all, not '$arch'" ;;
esac
[ -z "$agent" ] || [ "$arch" != all ] || fail "--agent is one program, for one --arch"
[ -z "$agent" ] || [ -x "$agent" ] || fail "$agent is no program"

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/agent/Cargo.toml")
revision=${REVISION:-1}
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null) || fail "not a git checkout: set SOURCE_DATE_EPOCH to the sources' time, in seconds"
fi
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8 TZ=UTC
umask 022

needs() {
    for tool in "$@"; do
        command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install debhelper rpm lintian debootstrap binutils, or packaging/bootstrap.sh setup test"
    done
}

# --- progress and sizes -----------------------------------------------------------------------------------

# counted LOG COMMAND: runs what compiles and says how far it is. Cargo by itself would list 250 libraries, or say nothing for minutes;
# what it says is in LOG, the end of which is shown when it fails. The last minutes compile nothing new: the program is optimised as a whole.
counted() {
    local log=$1 begun=$SECONDS told=$SECONDS compiled=0 code line from pid
    shift
    exec {from}< <("$@" 2>&1 >/dev/null)
    pid=$!
    : >"$log"
    while :; do
        code=0
        IFS= read -r -t 10 -u "$from" line || code=$?
        if [ $((SECONDS - told)) -ge 30 ]; then
            told=$SECONDS
            printf '    %3d libraries, %d s\n' "$compiled" "$((SECONDS - begun))" >&2
        fi
        [ "$code" -le 128 ] || continue
        [ "$code" = 0 ] || break
        printf '%s\n' "$line" >>"$log"
        case $line in
            '==> '*) printf '%s\n' "$line" >&2 ;;
            *' Compiling '*) compiled=$((compiled + 1)) ;;
        esac
    done
    exec {from}<&-
    wait "$pid" || { tail -n 30 "$log" >&2; fail "$1 failed after $((SECONDS - begun)) s (all it said: $log)"; }
    printf '    compiled in %d s\n' "$((SECONDS - begun))" >&2
}

mb() { awk -v bytes="$1" 'BEGIN { printf "%.2f MB", bytes / 1e6 }'; }

# made FILE [STAGE]: its size, and what it takes once it is installed
made() {
    say "$(basename "$1"): $(mb "$(stat -c %s "$1")")${2:+, installed $(mb "$(du -sb "$2" | cut -f 1)")}"
}

# --- compiling ----------------------------------------------------------------------------------------

# Prints the agent for an architecture; compiles it unless one was given.
compiled_agent() {
    if [ -n "$agent" ]; then
        echo "$agent"
        return
    fi
    say "compiling the agent for $1 (some minutes)" >&2
    case $1 in
        amd64)
            local home=${CARGO_HOME:-$HOME/.cargo} target=${CARGO_TARGET_DIR:-$root/agent/target}
            (
                cd "$root/agent"
                export RUSTFLAGS="--remap-path-prefix=$root=. --remap-path-prefix=$home/registry/src=cargo"
                export CFLAGS="-ffile-prefix-map=$root=. -ffile-prefix-map=$home/registry/src=cargo -ffile-prefix-map=$target=target"
                counted "$work/agent-amd64.log" cargo build --locked --profile dist -p telemetryx-agent
            )
            echo "$target/dist/telemetryx-agent"
            ;;
        arm64)
            PROFILE=dist counted "$work/agent-arm64.log" "$root/packaging/cross/root.sh" packaging/cross/agent.sh arm64
            echo "$root/.cache/cross-target/aarch64-unknown-linux-gnu/dist/telemetryx-agent"
            ;;
        armhf)
            PROFILE=dist counted "$work/agent-armhf.log" "$root/packaging/cross/root.sh" packaging/cross/agent.sh armhf
            echo "$root/.cache/cross-target/armv7-unknown-linux-gnueabihf/dist/telemetryx-agent"
            ;;
    esac
}

# A program of this machine's architecture, to write pages with.
native_agent() {
    for program in ${agent:+"$agent"} ${TELEMETRYX_AGENT:+"$TELEMETRYX_AGENT"} "${CARGO_TARGET_DIR:-$root/agent/target}"/{dist,release,debug}/telemetryx-agent; do
        if [ -x "$program" ] && "$program" --version >/dev/null 2>&1; then
            echo "$program"
            return
        fi
    done
    fail "the man pages are written by an agent that runs on this machine, and there is none yet: just build"
}

# --- checks -------------------------------------------------------------------------------------------------

# Twice from one stage, in folders of different names: a path, a time or an order that gets in shows.
same_bytes() {
    cmp "$1" "$2" || fail "$(basename "$1") differs when it is made again: diffoscope $1 $2"
    say "$(basename "$1"): the same bytes when made again"
}

lint_deb() {
    needs lintian
    lintian --allow-root --fail-on error,warning --profile debian "$1" || fail "lintian complains about $(basename "$1"): cure it, or override it with a reason in packaging/debian"
    say "$(basename "$1"): lintian has nothing to say"
}

# The packaged program at work: on this machine, or under user-mode emulation.
selftest() {
    local program=$work/telemetryx-agent-$1/stage/usr/bin/telemetryx-agent emulator=
    say "the self-test of the agent for $1"
    case $1 in
        amd64)
            "$root/packaging/selftest.sh" "$program"
            return
            ;;
        arm64) emulator=qemu-aarch64-static ;;
        armhf) emulator="qemu-arm-static -L /usr/arm-linux-gnueabihf" ;;
    esac
    "$root/packaging/cross/root.sh" env "EMULATOR=$emulator" packaging/selftest.sh "$(realpath --relative-to="$root" "$program")"
}

# --- staging: the tree of files as it will lie on the disk ----------------------------------------------

# Man pages and completions from a folder that `pages` has written.
stage_pages() {
    local from=$1 to=$2 name=$3
    install -d "$to/usr/share/man/man1"
    install -m 0644 "$from"/man/*.1 "$to/usr/share/man/man1/"
    find "$to/usr/share/man" -name '*.1' -exec gzip -9n {} +
    install -D -m 0644 "$from/completions/$name.bash" "$to/usr/share/bash-completion/completions/$name"
    install -D -m 0644 "$from/completions/_$name" "$to/usr/share/zsh/vendor-completions/_$name"
    install -D -m 0644 "$from/completions/$name.fish" "$to/usr/share/fish/vendor_completions.d/$name.fish"
}

stage_agent() {
    local to=$1 for_arch=$2 pages program
    program=$(compiled_agent "$for_arch")
    pages=$(mktemp -d)
    "$(native_agent)" pages "$pages"
    install -D -m 0755 "$program" "$to/usr/bin/telemetryx-agent"
    # The profile `dist` has stripped it; a program of another profile is stripped here, if it is this machine's.
    if [ "$(readelf --sections --wide "$to/usr/bin/telemetryx-agent" | grep -c ' \.debug_info')" != 0 ]; then
        strip --strip-unneeded "$to/usr/bin/telemetryx-agent" || fail "strip can't read $program; give one that is stripped"
    fi
    made "$to/usr/bin/telemetryx-agent"
    install -D -m 0644 "$root/packaging/agent.toml" "$to/etc/telemetryx/agent.toml"
    stage_pages "$pages" "$to" telemetryx-agent
    rm -rf "$pages"
}

stage_collector() {
    local to=$1 pages
    "$root/packaging/collector-tree.sh" "$to" "$wheel"
    install -d "$to/usr/bin"
    install -D -m 0644 "$root/packaging/collector.toml" "$to/etc/telemetryx/collector.toml"
    ln -s ../lib/telemetryx/bin/telemetryx "$to/usr/bin/telemetryx"
    pages=$(mktemp -d)
    PYTHONPATH="$root/collector/src" "$python" "$root/packaging/pages.py" "$pages"
    stage_pages "$pages" "$to" telemetryx
    rm -rf "$pages"
}

# --- packages --------------------------------------------------------------------------------------------

# make_deb PACKAGE ARCH STAGE WORK OUT
make_deb() {
    local package=$1 for_arch=$2 stage=$3 at=$4 to=$5 elf=()
    needs dh dpkg-deb readelf
    rm -rf "$at"
    mkdir -p "$at" "$to"
    cp -a "$root/packaging/debian" "$at/debian"
    cp -a "$stage" "$at/stage"
    for kind in service sysusers; do cp "$root/packaging/systemd/$package.$kind" "$at/debian/$package.$kind"; done
    cp "$root/CHANGELOG.md" "$at/upstream-changelog.md"
    cat >"$at/debian/changelog" <<TEXT
telemetryx ($version-$revision) stable; urgency=medium

  * Built from the sources of version $version; what changed is in changelog.gz.

 -- TelemetryX maintainers <maintainers@telemetryx.example>  $(date --utc --date="@$SOURCE_DATE_EPOCH" -R)
TEXT
    mapfile -t elf < <(elf_files "$stage")
    echo "shlibs:Depends=$("$root/packaging/needs.py" deb "${elf[@]}")" >"$at/needs"
    (
        cd "$at"
        # The package alone decides, not what the caller exported for other builds.
        unset MAKEFLAGS MAKELEVEL MFLAGS
        export PACKAGE=$package
        dpkg-architecture -a "$for_arch" -f -c debian/rules binary
    ) >"$at/log" 2>&1 || { tail -n 30 "$at/log" >&2; fail "$package for $for_arch: debhelper failed (whole output: $at/log)"; }
    [ -f "$at/debian/$package/lib/systemd/system/$package.service" ] || [ -f "$at/debian/$package/usr/lib/systemd/system/$package.service" ] || fail "$package.service is not in the package: see dh_installsystemd in packaging/debian/rules"
    mv "$at/${package}_${version}-${revision}_$for_arch.deb" "$to/" 2>/dev/null || mv "$at/../${package}_${version}-${revision}_$for_arch.deb" "$to/"
}

elf_files() {
    find "$1" -type f \( -perm -u+x -o -name '*.so' -o -name '*.so.*' \) | sort | while IFS= read -r file; do
        if [ "$(head -c 4 "$file" | tail -c 3)" = ELF ]; then echo "$file"; fi
    done
}

deb() {
    local package=$1 for_arch=$2 name="$1_$version-${revision}_$2.deb"
    local stage=$work/$package-$for_arch/stage
    say "packaging $name"
    make_deb "$package" "$for_arch" "$stage" "$work/$package-$for_arch/deb" "$out"
    made "$out/$name" "$stage"
    if [ -n "$check" ]; then
        make_deb "$package" "$for_arch" "$stage" "$work/$package-$for_arch/deb-made-again" "$work/again"
        same_bytes "$out/$name" "$work/again/$name"
        lint_deb "$out/$name"
    fi
}

staged_agent() {
    local stage=$work/telemetryx-agent-$1/stage
    # One compile serves .deb and .rpm of a run.
    [ -z "${staged[$1]:-}" ] || return 0
    rm -rf "$stage"
    mkdir -p "$stage"
    stage_agent "$stage" "$1"
    staged[$1]=yes
}

staged_collector() {
    local stage=$work/telemetryx-collector-amd64/stage
    [ -n "$wheel" ] || build_wheel
    rm -rf "$stage"
    mkdir -p "$stage"
    stage_collector "$stage"
    staged[collector]=yes
}

build_wheel() {
    local home=${CARGO_HOME:-$HOME/.cargo} made
    needs maturin unzip
    made=$(mktemp -d)
    say "building the wheel"
    (
        cd "$root/collector"
        export RUSTFLAGS="--remap-path-prefix=$root=. --remap-path-prefix=$home/registry/src=cargo"
        counted "$work/wheel.log" maturin build --release --locked --out "$made"
    )
    wheel=$(echo "$made"/*.whl)
    [ "$(unzip -p "$wheel" | grep -caF "$root/")" = 0 ] || fail "$wheel names the folder of the build"
    cp "$wheel" "$out/"
    made "$out/$(basename "$wheel")"
}

# rpmbuild --target's name of an architecture, and what readelf calls it
rpm_arch() {
    case $1 in
        amd64) echo x86_64 ;;
        arm64) echo aarch64 ;;
        armhf) echo armv7hl ;;
    esac
}

# make_rpm ARCH STAGE WORK OUT
make_rpm() {
    local for_arch=$1 stage=$2 at=$3 to=$4 elf=() name
    needs rpmbuild readelf
    name=telemetryx-agent-$version-$revision.$(rpm_arch "$for_arch").rpm
    rm -rf "$at"
    mkdir -p "$at" "$to"
    cp -a "$stage" "$at/stage"
    # Where the families of rpm have them.
    mkdir -p "$at/stage/usr/share/zsh/site-functions"
    mv "$at/stage/usr/share/zsh/vendor-completions/_telemetryx-agent" "$at/stage/usr/share/zsh/site-functions/"
    rmdir "$at/stage/usr/share/zsh/vendor-completions"
    install -D -m 0644 "$root/packaging/systemd/telemetryx-agent.service" "$at/stage/usr/lib/systemd/system/telemetryx-agent.service"
    install -D -m 0644 "$root/packaging/systemd/telemetryx-agent.sysusers" "$at/stage/usr/lib/sysusers.d/telemetryx-agent.conf"
    install -D -m 0644 "$root/LICENSE" "$at/stage/usr/share/licenses/telemetryx-agent/LICENSE"
    find "$at/stage" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    mapfile -t elf < <(elf_files "$stage")
    rpmbuild -bb --quiet --target "$(rpm_arch "$for_arch")" \
        --define "_topdir $at/rpm" --define "stage $at/stage" --define "needs $("$root/packaging/needs.py" rpm "${elf[@]}")" \
        --define "version $version" --define "revision $revision" --define "changelog_date $(date --utc --date="@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')" \
        "$root/packaging/rpm/telemetryx-agent.spec" >"$at/log" 2>&1 || { tail -n 30 "$at/log" >&2; fail "$name: rpmbuild failed (whole output: $at/log)"; }
    mv "$at"/rpm/RPMS/*/"$name" "$to/"
}

rpm_of() {
    local for_arch=$1 name stage=$work/telemetryx-agent-$1
    name=telemetryx-agent-$version-$revision.$(rpm_arch "$1").rpm
    say "packaging $name"
    make_rpm "$for_arch" "$stage/stage" "$stage/rpm" "$out"
    made "$out/$name" "$stage/stage"
    if [ -n "$check" ]; then
        make_rpm "$for_arch" "$stage/stage" "$stage/rpm-made-again" "$work/again"
        same_bytes "$out/$name" "$work/again/$name"
    fi
}

mkdir -p "$out" "$work"
declare -A staged=()
for one in "${what[@]}"; do
    case $one in
        agent)
            for for_arch in "${arches[@]}"; do
                staged_agent "$for_arch"
                deb telemetryx-agent "$for_arch"
                [ -z "$check" ] || selftest "$for_arch"
            done
            ;;
        rpm)
            for for_arch in "${arches[@]}"; do
                staged_agent "$for_arch"
                rpm_of "$for_arch"
            done
            ;;
        wheel) [ -n "$wheel" ] || build_wheel ;;
        collector)
            staged_collector
            deb telemetryx-collector amd64
            ;;
        sbom)
            [ -n "${staged[collector]:-}" ] || staged_collector
            say "writing the bills of materials"
            "$root/packaging/sbom.sh" "$out" "$work/telemetryx-collector-amd64/stage/usr/lib/telemetryx"
            ;;
    esac
done
cp "$root/packaging/install.sh" "$out/"
# What install.sh checks a download against.
sums=$(cd "$out" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum)
echo "$sums" >"$out/SHA256SUMS"
say "all of it, in $out:"
(cd "$out" && find . -maxdepth 1 -type f -printf '%f %s\n' | sort | awk '{ printf "%12.2f MB  %s\n", $2 / 1e6, $1 }')
