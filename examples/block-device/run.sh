#!/bin/bash
# Usage: run.sh DIR [VM-OPTION...]
# Boots the disk in DIR, which must have cloud-init, with a block device and a qcow2 image as further disks. Needs root to
# make a loop device.
set -euo pipefail
name=crun-qemu-example-block-device
root=$(realpath "${1:?expected a directory that holds a disk}")
shift
work=$(mktemp -d /var/tmp/crun-qemu-example.XXXXXX)
device=
trap 'podman rm -f -i -t 0 $name >/dev/null; [ -z "$device" ] || losetup -d "$device"; rm -rf "$work"' EXIT
truncate -s 64M "$work/disk"
device=$(losetup -f --show "$work/disk")
set -x
qemu-img create -q -f qcow2 "$work/image.qcow2" 1G
podman run -d --name $name ${LABEL:+--label "$LABEL"} --runtime "${RUNTIME:-/usr/local/bin/crun-qemu}" --memory 768m \
    --device "$device:/dev/my-disk" -v "$work/image.qcow2:/image.qcow2" \
    --rootfs "$root" "" --blockdev source=/image.qcow2,target=/dev/my-image,format=qcow2 "$@"
podman exec $name root lsblk -n -o SIZE,SERIAL /dev/my-disk /dev/my-image
podman exec $name root sh -c 'mkfs.ext4 -q /dev/my-disk && mount /dev/my-disk /mnt && echo kept > /mnt/file && umount /mnt'
podman stop -t 60 $name
# The device has what the guest wrote.
debugfs -R 'cat file' "$device" 2>/dev/null
