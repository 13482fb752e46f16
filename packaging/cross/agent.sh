#!/bin/sh
# Compiles the agent for another architecture; runs inside packaging/cross/root.sh's tree, where the checkout is /src.
#
#   packaging/cross/agent.sh arm64|armhf
#
# PROFILE is Cargo's profile (dist), CARGO_TARGET_DIR where it compiles. The program is TARGET_DIR/TRIPLE/PROFILE/telemetryx-agent.
set -eu

arch=$1
profile=${PROFILE:-dist}
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-/src/.cache/cross-target}"
# No path of a build in the program: the same sources give the same bytes.
flags="--remap-path-prefix=/src=. --remap-path-prefix=$HOME/.cargo/registry/src=cargo --remap-path-prefix=/usr/src=rust"
prefix_map="-ffile-prefix-map=/src=. -ffile-prefix-map=$HOME/.cargo/registry/src=cargo -ffile-prefix-map=$CARGO_TARGET_DIR=target"

cd /src/agent
case $arch in
    arm64)
        # Debian has the standard library compiled for it.
        triple=aarch64-unknown-linux-gnu
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
        export CFLAGS_aarch64_unknown_linux_gnu="$prefix_map"
        set --
        ;;
    armhf)
        # It has none for 32-bit ARM beside another architecture's packages, so std is compiled too. The bootstrap flag lets
        # the stable compiler do that.
        triple=armv7-unknown-linux-gnueabihf
        export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc CC_armv7_unknown_linux_gnueabihf=arm-linux-gnueabihf-gcc
        export CFLAGS_armv7_unknown_linux_gnueabihf="$prefix_map" RUSTC_BOOTSTRAP=1
        set -- -Zbuild-std=std,panic_unwind
        ;;
    *) echo "agent.sh: '$arch' is neither arm64 nor armhf" >&2; exit 2 ;;
esac
export RUSTFLAGS="$flags"
exec cargo build --locked --profile "$profile" --target "$triple" "$@" -p telemetryx-agent
