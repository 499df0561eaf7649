#!/bin/sh
# boot.sh BASE CHANGES GROUP: starts the system in BASE with its own systemd, in namespaces of its own, without a
# network; what changes goes to CHANGES/upper, and its control groups are below GROUP. Ends with that system.
set -e
for hierarchy in unified systemd devices pids memory ''; do
    folder=/sys/fs/cgroup/$hierarchy
    # A hierarchy is there, under its name or, where there is one for everything, without.
    [ -e "$folder/cgroup.procs" ] || continue
    mkdir -p "$folder/$3"
    echo $$ > "$folder/$3/cgroup.procs"
done
exec unshare --mount --pid --fork --kill-child --net --uts --ipc --cgroup sh -ec '
    base=$1 changes=$2
    root=$changes/root
    mkdir -p "$changes/upper" "$changes/work" "$root"
    mount --make-rprivate /
    mount -t overlay overlay -o "lowerdir=$base,upperdir=$changes/upper,workdir=$changes/work" "$root"
    cd "$root"
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    if [ -e /sys/fs/cgroup/cgroup.procs ]; then
        mount -t cgroup2 cgroup2 sys/fs/cgroup
    else
        mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
        mkdir sys/fs/cgroup/systemd sys/fs/cgroup/devices sys/fs/cgroup/pids sys/fs/cgroup/memory
        mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
        for hierarchy in devices pids memory; do
            mount -t cgroup -o "$hierarchy" cgroup "sys/fs/cgroup/$hierarchy"
        done
    fi
    mount -t tmpfs -o mode=755 tmpfs dev
    mknod -m 666 dev/null c 1 3
    mknod -m 666 dev/zero c 1 5
    mknod -m 666 dev/full c 1 7
    mknod -m 666 dev/random c 1 8
    mknod -m 666 dev/urandom c 1 9
    mknod -m 666 dev/tty c 5 0
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    mount -t tmpfs tmpfs dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    mount -t tmpfs -o mode=755 tmpfs run
    ip link set lo up
    # Not chroot: within one the kernel gives no user namespaces, which units ask for.
    mkdir run/old
    pivot_root . run/old
    cd /
    umount -l /run/old
    rmdir /run/old
    exec env -i container=edgeprof PATH=/usr/bin:/usr/sbin /lib/systemd/systemd --show-status=no
' sh "$1" "$2"
