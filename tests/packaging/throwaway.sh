#!/bin/sh
# Runs a shell script on a throw-away copy of this system: an overlay in memory above /, in a mount namespace that ends with the script.
#
#   throwaway.sh FOLDER SCRIPT      FOLDER is shown as /given in there; needs root and overlayfs
set -eu

if [ -z "${THROWAWAY:-}" ]; then THROWAWAY=1 exec unshare --mount --propagation private "$0" "$@"; fi
# This namespace holds a copy of every mount. A disk whose power another test cuts would stay as it is, broken, however often it is mounted again.
awk '$1 ~ "^/dev/loop" { print $2 }' /proc/self/mounts | while read -r mounted; do umount -l "$mounted"; done
place=$(mktemp -d)
mount -t tmpfs tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$place/root"
mount -t proc proc "$place/root/proc"
mount --rbind /dev "$place/root/dev"
mkdir -p "$place/root/given"
mount --bind "$1" "$place/root/given"
code=0
chroot "$place/root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 /bin/sh -euc "$2" || code=$?
umount -l "$place"
rmdir "$place"
exit $code
