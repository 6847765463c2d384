#!/bin/bash
# Usage: run.sh DIR [VM-OPTION...]
# Makes a container image of the disk in DIR and runs it with the options in vm.container. Podman's generator (4.4 or newer)
# prints the service that it makes of that file. The container itself is run without systemd here, with the same options.
set -euo pipefail
name=crun-qemu-example-quadlet
here=$(cd "$(dirname "$0")" && pwd)
disk=$(find "$(realpath "${1:?expected a directory that holds a disk}")" -maxdepth 1 -type f)
shift
trap 'podman rm -f -i -t 0 $name >/dev/null; podman rmi -f -i localhost/$name >/dev/null' EXIT
values() { sed -n "s/^$1=//p" "$here/vm.container"; }
# Each of these keys stands for arguments on podman's command line.
options=()
for word in $(values PodmanArgs); do options+=("$word"); done
for word in $(values Annotation); do options+=(--annotation "$word"); done
read -ra command <<<"$(values Exec)"
set -x
"$here/../../util/package-vm-image.sh" --replace "$disk" "$(values Image)"
if [ -x /usr/libexec/podman/quadlet ]; then QUADLET_UNIT_DIRS=$here /usr/libexec/podman/quadlet -dryrun; fi
podman run -d --rm --replace --name "$(values ContainerName)" ${LABEL:+--label "$LABEL"} "${options[@]}" \
    ${RUNTIME:+--runtime "$RUNTIME"} "$(values Image)" "${command[@]}" "$@"
# An exec waits for the guest's sshd.
podman exec $name root uname -a
podman stop $name
