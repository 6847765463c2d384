#!/bin/sh
# Usage: package-vm-image.sh [--replace] IMAGE TAG
# Makes the container image TAG that holds nothing but the VM image IMAGE (qcow2 or raw), under /disk/, with podman,
# buildah or docker, whichever is there. An existing TAG is an error without --replace. See crun-qemu image pack.
set -eu
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
exec "$(dirname "$0")/crun-qemu.sh" image pack "$@"
