#!/bin/bash
# Usage: run.sh DIR [VM-OPTION...]
# Boots the disk in DIR, which must have Ignition (Fedora CoreOS, Flatcar, …), with the config.ign beside this script.
set -euo pipefail
name=crun-qemu-example-ignition
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath "${1:?expected a directory that holds a disk}")
shift
trap 'podman rm -f -i -t 0 $name >/dev/null' EXIT
set -x
podman run -d --name $name ${LABEL:+--label "$LABEL"} --runtime "${RUNTIME:-/usr/local/bin/crun-qemu}" --memory 768m \
    --rootfs "$root" "" --ignition "$here/config.ign" "$@"
# An exec waits for the guest's sshd. core is the default user of such systems.
podman exec $name core cat /etc/motd
podman stop -t 60 $name
