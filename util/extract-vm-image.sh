#!/bin/sh
# Usage: extract-vm-image.sh [--replace] CONTAINER-IMAGE OUTFILE
# Takes the VM image out of a container image: the sole regular file in / or in /disk/. Uses podman, docker or buildah,
# whichever is there, and asks no registry. An existing OUTFILE is an error without --replace. See crun-qemu image unpack.
set -eu
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
exec "$(dirname "$0")/crun-qemu.sh" image unpack "$@"
