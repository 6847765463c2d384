#!/bin/bash
# Usage: run.sh DIR [VM-OPTION...]
# Boots the disk in DIR, which must have cloud-init, with a directory, a single file, a secret and a tmpfs.
set -euo pipefail
name=crun-qemu-example-shared-directory
root=$(realpath "${1:?expected a directory that holds a disk}")
shift
work=$(mktemp -d)
trap 'podman rm -f -i -t 0 $name >/dev/null; podman secret rm $name >/dev/null 2>&1 || :; rm -rf "$work"' EXIT
mkdir "$work/directory"
echo 'from the host' > "$work/directory/file"
echo 'a = 1' > "$work/app.conf"
set -x
printf 'a secret' | podman secret create $name -
podman run -d --name $name ${LABEL:+--label "$LABEL"} --runtime "${RUNTIME:-/usr/local/bin/crun-qemu}" --memory 768m \
    -v "$work/directory:/srv/directory" -v "$work/directory:/srv/read-only:ro" -v "$work/app.conf:/etc/app.conf" \
    --secret $name --tmpfs /scratch:size=16m --rootfs "$root" "" "$@"
# Everything is mounted on every boot, before the guest's services start.
podman exec $name root findmnt -r -n -o TARGET,FSTYPE,OPTIONS -t virtiofs
podman exec $name root cat /srv/directory/file /etc/app.conf /run/secrets/$name
podman exec $name root sh -c 'echo from the guest > /srv/directory/answer'
cat "$work/directory/answer"
# The host refuses writes to this directory, whatever the guest does.
podman exec $name root sh -c 'mount -o remount,rw /srv/read-only; ! touch /srv/read-only/x'
podman stop -t 60 $name
