#!/bin/bash
# Usage: run.sh DIR [VM-OPTION...]
# Makes a container image of the disk in DIR and runs it as the pod in pod.yaml.
set -euo pipefail
name=crun-qemu-example-kube runtime=${RUNTIME:-/usr/local/bin/crun-qemu}
here=$(cd "$(dirname "$0")" && pwd)
disk=$(find "$(realpath "${1:?expected a directory that holds a disk}")" -maxdepth 1 -type f)
shift
pod=$(mktemp)
trap 'podman pod rm -f -i -t 0 $name >/dev/null; podman rmi -f -i localhost/$name >/dev/null; rm "$pod"' EXIT
# Options of the VM are arguments of the container.
args='""'
for option; do args+=", \"$option\""; done
text=$(<"$here/pod.yaml")
echo "${text/'args: [""]'/"args: [$args]"}" >"$pod"
set -x
"$here/../../util/package-vm-image.sh" --replace "$disk" localhost/$name
podman --runtime "$runtime" play kube "$pod"
# An exec waits for the guest's sshd.
podman exec $name-vm root uname -a
podman pod stop -t 60 $name
podman wait $name-vm
