#!/bin/bash
# Usage: run.sh DIR [VM-OPTION...]
# Boots the disk in DIR and runs commands in the guest by podman exec, which is ssh.
set -euo pipefail
name=crun-qemu-example-ssh-exec
root=$(realpath "${1:?expected a directory that holds a disk}")
shift
trap 'podman rm -f -i -t 0 $name >/dev/null' EXIT
set -x
podman run -d --name $name ${LABEL:+--label "$LABEL"} --runtime "${RUNTIME:-/usr/local/bin/crun-qemu}" --memory 512m \
    --rootfs "$root" "" "$@"
# The first word is the guest's user; an exec waits for the guest's sshd.
podman exec $name root uname -a
# Arguments arrive unchanged, …
podman exec $name root printf '%s\n' 'two words' '$HOME' "it's"
# … so does standard input, …
echo 'from the host' | podman exec -i $name root cat
# … and the exit status comes back.
status=0
podman exec $name root sh -c 'exit 7' || status=$?
echo "exit status $status"
# The user - is the container around the VM.
podman exec $name - crun-qemu-init status
podman stop -t 60 $name
