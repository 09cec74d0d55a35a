#!/bin/busybox sh
# The machine's first process. It carries out what the host sends by the second serial line, one
# line of shell at a time, and says `@end` and how that ended.
/bin/busybox mkdir -p /bin /dev /proc /sys /tmp /run /mnt/ext4 /mnt/xfs /mnt/virtio
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/shm
mount -t tmpfs none /dev/shm
mount -t tmpfs none /tmp
for module in $(cat /modules/order); do
    insmod "/modules/$module" || echo "module $module is refused"
done
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up

# The devices of persistent memory of a kind. Their numbers are not the same at each boot.
devices() { # nvdimm|virtio
    for block in /sys/block/pmem*; do
        case $(readlink -f "$block") in
        */virtio*) kind=virtio ;;
        *) kind=nvdimm ;;
        esac
        if [ "$kind" = "$1" ]; then basename "$block"; fi
    done
}

# Gives one of them a namespace that can have DAX, and a file system.
make() { # nvdimm|virtio WHICH ext4|xfs
    device=$(devices "$1" | sed -n "$2p")
    namespace=$(basename "$(readlink -f "/sys/block/$device/device")")
    ndctl create-namespace -f -e "$namespace" -m fsdax -M mem || return 1
    case $3 in
    ext4) mkfs.ext4 -q -b 4096 "/dev/$device" ;;
    xfs) mkfs.xfs -q -f "/dev/$device" ;;
    esac
}

# Mounts the one of them that has this file system, unless it is mounted.
attach() { # nvdimm|virtio ext4|xfs PATH always|never
    if grep -q " $3 " /proc/mounts; then return 0; fi
    for device in $(devices "$1"); do
        if mount -t "$2" -o "dax=$4" "/dev/$device" "$3"; then return 0; fi
    done
    return 1
}

exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty raw -echo
echo "@ready"
while read -r line; do
    (eval "$line") </dev/null
    echo "@end $?"
done
