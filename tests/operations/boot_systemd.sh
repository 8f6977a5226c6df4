#!/bin/bash
# systemd as process 1 of namespaces of its own, over an overlay of this root: nothing of the machine is touched.
#
#     boot_systemd.sh CGROUP PLACE READABLE...
#
# It enters CGROUP, a new control group (v2), and its namespaces. PLACE is seen there under its own name, and so is what
# is READABLE. PLACE/units has all the units that there are, PLACE/opt becomes /opt/worker, PLACE/env its environment
# file.
set -eu
echo $$ >"$1/cgroup.procs"
shift
exec unshare --mount --pid --fork --cgroup --uts --ipc --kill-child=KILL bash -c '
    set -eu
    place=$1
    shift
    mount --make-rprivate /
    mount -t tmpfs none /mnt
    root=/mnt/root
    mkdir -p /mnt/upper /mnt/work $root
    mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work $root
    mount -t proc proc $root/proc
    mount -t sysfs sysfs $root/sys
    mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
    mount -t tmpfs run $root/run
    mount -t tmpfs home $root/root
    mount -t tmpfs dev $root/dev
    mkdir $root/dev/shm
    ln -s /proc/self/fd $root/dev/fd
    for device in null zero full random urandom tty; do
        touch $root/dev/$device
        mount --bind /dev/$device $root/dev/$device
    done
    for path in "$@"; do
        mkdir -p "$root$path"
        mount --bind -o ro "$path" "$root$path"
    done
    mkdir -p "$root$place"
    mount --bind "$place" "$root$place"
    mkdir -p $root/opt/worker
    mount --bind "$place/opt" $root/opt/worker
    ln -sfn "$place/env" $root/etc/worker-state.env
    exec chroot $root env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH="$place/units" \
        /lib/systemd/systemd --system --unit=test.target --log-target=null --show-status=no </dev/null
' _ "$@"
