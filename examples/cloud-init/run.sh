#!/bin/bash
# Usage: run.sh DIR [VM-OPTION...]
# Boots the disk in DIR, which must have cloud-init, with the user-data and meta-data beside this script.
set -euo pipefail
name=crun-qemu-example-cloud-init
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath "${1:?expected a directory that holds a disk}")
shift
trap 'podman rm -f -i -t 0 $name >/dev/null' EXIT
set -x
podman run -d --name $name ${LABEL:+--label "$LABEL"} --runtime "${RUNTIME:-/usr/local/bin/crun-qemu}" --memory 768m \
    --rootfs "$root" "" --cloud-init "$here" "$@"
# An exec waits for the guest's sshd.
podman exec $name root cloud-init status --wait
podman exec $name root cat /etc/motd
podman stop -t 60 $name
