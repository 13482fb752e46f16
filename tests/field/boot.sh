#!/bin/bash
# Boots a real systemd from a Debian tree in namespaces of its own, with enforced memory and process limits.
#
#   boot.sh ROOT NAME      as root; ROOT holds systemd, systemd-sysv, dbus, procps, iproute2
#
# The new init is the only child of this process; `nsenter -t PID -m -u -i -n -p -r -w -- COMMAND` goes inside. When this
# process ends, everything in there does.
# NOTE: the private /dev and the read-only /proc/sys are what keeps the boot from changing the host's devices and settings.
set -eu
root=$(readlink -f "$1"); name=$2
# A control group of its own in each hierarchy, which becomes the root that is seen inside.
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
    [ -e "$hierarchy/cgroup.procs" ] && [ -w "$hierarchy" ] || continue
    mkdir -p "$hierarchy/$name"
    if [ -e "$hierarchy/$name/cpuset.mems" ] && [ -e "$hierarchy/cpuset.mems" ]; then
        cat "$hierarchy/cpuset.cpus" >"$hierarchy/$name/cpuset.cpus" 2>/dev/null || true
        cat "$hierarchy/cpuset.mems" >"$hierarchy/$name/cpuset.mems" 2>/dev/null || true
    fi
    echo $$ >"$hierarchy/$name/cgroup.procs" 2>/dev/null || true
done
export root
# shellcheck disable=SC2016  # expanded inside
exec unshare --mount --uts --ipc --pid --cgroup --net --fork --kill-child --propagation private bash -euc '
mount --bind "$root" "$root"; cd "$root"
mount -t proc proc proc; mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys; mount -t sysfs sysfs sys -o ro
mount -t tmpfs dev dev -o mode=755; mkdir dev/pts dev/shm
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r node major minor <<<"$device"; mknod -m 666 "dev/$node" c "$major" "$minor"
done
mknod -m 600 dev/console c 1 3
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666,mode=620; ln -s pts/ptmx dev/ptmx; mount -t tmpfs shm dev/shm -o mode=1777
ln -s /proc/self/fd dev/fd; ln -s /proc/self/fd/0 dev/stdin; ln -s /proc/self/fd/1 dev/stdout; ln -s /proc/self/fd/2 dev/stderr
mount -t tmpfs tmpfs run -o mode=755; mount -t tmpfs tmpfs tmp -o mode=1777
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs tmpfs sys/fs/cgroup -o mode=755
    mkdir sys/fs/cgroup/unified sys/fs/cgroup/systemd
    for c in memory cpu cpuacct pids blkio devices freezer cpuset; do
        mkdir "sys/fs/cgroup/$c"; mount -t cgroup cgroup "sys/fs/cgroup/$c" -o "$c" 2>/dev/null || rmdir "sys/fs/cgroup/$c"
    done
    mount -t cgroup cgroup sys/fs/cgroup/systemd -o none,name=systemd,xattr 2>/dev/null || mount -t cgroup cgroup sys/fs/cgroup/systemd -o none,name=systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
fi
mkdir -p old; pivot_root . old; umount -l /old; cd /
# As nspawn does: credentials are mounted in one namespace and seen in others.
mount --make-rshared /; ip link set lo up
exec env -i container=namespaces PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=journal
'
