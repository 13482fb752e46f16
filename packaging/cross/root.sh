#!/usr/bin/env bash
# Runs a command in a Debian 12 with the compilers for arm64 and armhf, in a folder of its own: the build host's packages
# and architectures stay as they are, and whatever the host is, what is built needs no newer C library than Debian 12's.
#
#   packaging/cross/root.sh COMMAND [ARGUMENT...]     makes the tree when it is missing (about 1.6 GB), then runs COMMAND in /src
#
# Needs root and debootstrap. The checkout is /src in there; the tree stays in .cache/cross for the next build.
# TELEMETRYX_CROSS_ROOT names another place, DEBIAN_MIRROR another mirror.
set -euo pipefail

checkout=$(cd "$(dirname "$0")/../.." && pwd)
tree=${TELEMETRYX_CROSS_ROOT:-$checkout/.cache/cross}
mirror=${DEBIAN_MIRROR:-$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\(http[^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1 || true)}
mirror=${mirror:-http://deb.debian.org/debian}
packages="ca-certificates gcc libc6-dev rustc-web cargo-web rust-web-src
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross libstd-rust-web-dev:arm64
    gcc-arm-linux-gnueabihf libc6-dev-armhf-cross qemu-user-static binutils-aarch64-linux-gnu binutils-arm-linux-gnueabihf"

[ $# -gt 0 ] || { sed -n '2,8s/^# \?//p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "cross: needs root, for chroot" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "cross: apt-get install debootstrap" >&2; exit 1; }

# Mounts of the tree live in a mount namespace of this script's own and end with it.
if [ -z "${TELEMETRYX_CROSS_INSIDE:-}" ]; then
    TELEMETRYX_CROSS_INSIDE=1 exec unshare --mount --propagation private "$0" "$@"
fi

trust_this_host() {
    cp -L /etc/resolv.conf "$tree/etc/resolv.conf" 2>/dev/null || true
    cp -L /etc/hosts "$tree/etc/hosts" 2>/dev/null || true
    for file in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf.d/99*; do [ ! -e "$file" ] || cp "$file" "$tree/etc/apt/apt.conf.d/"; done
    mkdir -p "$tree/etc/ssl/certs" "$tree/root/.cargo"
    cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/trusted-here.crt" 2>/dev/null || true
    [ ! -e "$HOME/.cargo/config.toml" ] || cp "$HOME/.cargo/config.toml" "$tree/root/.cargo/config.toml"
}

mount_tree() {
    mkdir -p "$tree/src"
    mount -t proc proc "$tree/proc"
    mount --rbind /dev "$tree/dev"
    mount --bind "$checkout" "$tree/src"
}

inside() {
    chroot "$tree" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        SSL_CERT_FILE=/etc/ssl/certs/trusted-here.crt CARGO_HTTP_CAINFO=/etc/ssl/certs/trusted-here.crt \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        ${SOURCE_DATE_EPOCH:+SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH"} CARGO_INCREMENTAL=0 "$@"
}

if [ ! -e "$tree/.ready" ]; then
    echo "==> a Debian 12 with cross compilers in $tree (once; some minutes)" >&2
    rm -rf --one-file-system "$tree"
    mkdir -p "$tree"
    debootstrap --variant=minbase bookworm "$tree" "$mirror" >"$tree.log" 2>&1 || { tail -n 20 "$tree.log" >&2; exit 1; }
    trust_this_host
    rm -f "$tree/etc/apt/sources.list"
    for suite in "$mirror bookworm bookworm-updates" "$mirror-security bookworm-security"; do
        printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: amd64 arm64\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n' \
            "${suite%% *}" "${suite#* }" >>"$tree/etc/apt/sources.list.d/debian.sources"
    done
    mount_tree
    inside dpkg --add-architecture arm64
    # One version of each library for both architectures, or none of arm64 installs.
    # shellcheck disable=SC2086  # a list of package names
    { inside apt-get update -q && inside apt-get dist-upgrade -q -y && inside apt-get install -q -y --no-install-recommends $packages && inside apt-get clean; } >>"$tree.log" 2>&1 \
        || { tail -n 20 "$tree.log" >&2; exit 1; }
    touch "$tree/.ready"
else
    trust_this_host
    mount_tree
fi
inside sh -c 'cd /src && exec "$@"' sh "$@"
