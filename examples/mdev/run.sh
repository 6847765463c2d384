#!/bin/bash
# Usage: run.sh DIR [VM-OPTION...]
# Prints the libvirt domain of a VM with the disk in DIR and a mediated device (for example a slice of a GPU): the device
# that UUID names, else the first one of this host. No VM runs. On a host without such a device, shows the error.
set -euo pipefail
name=crun-qemu-example-mdev devices=/sys/bus/mdev/devices
root=$(realpath "${1:?expected a directory that holds a disk}")
shift
trap 'podman rm -f -i -t 0 $name >/dev/null' EXIT
found=$(ls $devices 2>/dev/null || true)
device=$devices/${UUID:-${found%%$'\n'*}}
limits=(--ulimit memlock=-1) # VFIO locks the guest's memory
if [ -z "${UUID-}$found" ]; then
    echo "this host has no mediated device: the error that follows says so"
    device=$devices/c2e088ba-954f-11ec-8584-525400666f2b
    limits=()
fi
status=0
set -x
podman run --name $name ${LABEL:+--label "$LABEL"} --runtime "${RUNTIME:-/usr/local/bin/crun-qemu}" "${limits[@]}" \
    --rootfs "$root" "" --vfio-pci-mdev "$device" --print-libvirt-xml "$@" || status=$?
# Without a device, an error is the expected result.
[ $status = 0 ] || [ -z "${UUID-}$found" ]
