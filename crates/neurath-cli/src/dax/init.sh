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

# Gives a device of persistent memory a namespace that can have DAX, and a file system.
make() { # DEVICE KIND
    namespace=$(basename "$(readlink -f "/sys/block/$1/device")")
    ndctl create-namespace -f -e "$namespace" -m fsdax -M mem || return 1
    case $2 in
    ext4) mkfs.ext4 -q -b 4096 "/dev/$1" ;;
    xfs) mkfs.xfs -q -f "/dev/$1" ;;
    esac
}

exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty raw -echo
echo "@ready"
while read -r line; do
    (eval "$line") </dev/null
    echo "@end $?"
done
