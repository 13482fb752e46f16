#!/usr/bin/env bash
# Proves the README's two commands on a machine that has nothing: a debootstrap'ed Debian 12 chroot.
#
#   packaging/fresh.sh [demo|test|all]    default: all
#
# Needs root and debootstrap. The chroot gets this checkout's committed files and this machine's way to
# packages (apt sources, CA certificates, pip's and cargo's settings), nothing else. It is removed at the end.
set -euo pipefail

what=${1:-all}
root=$(cd "$(dirname "$0")/.." && pwd)
work=${TELEMETRYX_FRESH_DIR:-/var/tmp/telemetryx-fresh}
tree=$work/root
mirror=${DEBIAN_MIRROR:-$(sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\?\(http[^ ]*\) .*/\2/p' /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | head -n 1 || true)}
[ "$(id -u)" = 0 ] || { echo "fresh: needs root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "fresh: apt-get install debootstrap" >&2; exit 1; }

cleanup() {
    for mount in dev/pts dev proc sys; do mountpoint -q "$tree/$mount" && umount -l "$tree/$mount"; done
    rm -rf --one-file-system "$tree"
}
trap cleanup EXIT
cleanup
mkdir -p "$tree"

echo "==> a bare Debian 12 in $tree"
debootstrap --variant=minbase bookworm "$tree" "${mirror:-http://deb.debian.org/debian}" >"$work/debootstrap.log" 2>&1 \
    || { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
# The way to packages: where from, and whom to trust.
cp -L /etc/resolv.conf "$tree/etc/resolv.conf" 2>/dev/null || true
cp -L /etc/hosts "$tree/etc/hosts" 2>/dev/null || true
rm -f "$tree/etc/apt/sources.list"
cat >"$tree/etc/apt/sources.list.d/debian.sources" <<TEXT
Types: deb
URIs: ${mirror:-http://deb.debian.org/debian}
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: ${mirror:-http://deb.debian.org/debian}-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
TEXT
for file in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf.d/99*; do [ -e "$file" ] && cp "$file" "$tree/etc/apt/apt.conf.d/"; done
mkdir -p "$tree/etc/ssl/certs" "$tree/usr/local/share/ca-certificates" "$tree/root/.cargo"
cp -r /usr/local/share/ca-certificates/. "$tree/usr/local/share/ca-certificates/" 2>/dev/null || true
cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/trusted-here.crt" 2>/dev/null || true
[ -e "$HOME/.cargo/config.toml" ] && cp "$HOME/.cargo/config.toml" "$tree/root/.cargo/config.toml"
[ -e "$HOME/.config/pip/pip.conf" ] && install -D "$HOME/.config/pip/pip.conf" "$tree/root/.config/pip/pip.conf"
mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys" && mount --make-rslave "$tree/sys"
mount --rbind /dev "$tree/dev" && mount --make-rslave "$tree/dev"
mkdir -p "$tree/src"
git -C "$root" archive HEAD | tar -x -C "$tree/src"

inside() {
    # shellcheck disable=SC2016
    chroot "$tree" /usr/bin/env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        SSL_CERT_FILE=/etc/ssl/certs/trusted-here.crt PIP_CERT=/etc/ssl/certs/trusted-here.crt CARGO_HTTP_CAINFO=/etc/ssl/certs/trusted-here.crt \
        REQUESTS_CA_BUNDLE=/etc/ssl/certs/trusted-here.crt ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        sh -c "cd /src && $1"
}

timed() {
    local from=$SECONDS
    inside "$2"
    echo "fresh: $1 took $((SECONDS - from)) s"
}

case "$what" in
    demo | all)
        timed "the first demo --for 30s, compilation included," "packaging/bootstrap.sh demo --for 30s"
        timed "the second demo --for 5s" "packaging/bootstrap.sh demo --for 5s"
        ;;&
    test | all) timed "the tests" "packaging/bootstrap.sh test" ;;
    demo) ;;
    *) echo "usage: packaging/fresh.sh [demo|test|all]" >&2; exit 2 ;;
esac
