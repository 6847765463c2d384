#!/bin/bash
# Usage: build-guest.sh NAME OUT
# Builds a test guest's disk, a qcow2 file, from Debian packages of the archive that this host's apt uses. Needs root, but
# neither loop devices nor mounting the disk. Names:
#   tiny        kernel, busybox, dropbear; boots to a shell in seconds and prints TINY READY on the serial console
#   cloud       cloud-init, systemd, OpenSSH; user debian
#   ignition    systemd, OpenSSH, configured by Ignition before the root is entered; user core
#   systemd     systemd and OpenSSH only; accepts keys by systemd credentials
#   trixie      the same with Debian 13, whose systemd also accepts mounts by credentials
#   bench       tiny with fio and iperf3
# With -uefi after the name, the disk boots by UEFI only, otherwise by BIOS only.
set -euo pipefail
. "$(dirname "$0")/common.sh"
HERE=$(cd "$(dirname "$0")" && pwd)/guests
case ${1-} in -h | --help) usage; exit ;; esac
[ $# = 2 ] || die "expected two arguments: NAME OUT"
GUEST=${1%-uefi} OUT=$2 FIRMWARE=bios FIRMWARE_MIB=0
[ "$GUEST" = "$1" ] || { FIRMWARE=uefi FIRMWARE_MIB=64; }
case $GUEST in */* | '' | debian) die "$1: no such guest" ;; esac
[ -f "$HERE/$GUEST/recipe.sh" ] || die "$1: no such guest"
[ "$(id -u)" = 0 ] || die "root is needed to build a guest: sudo $0 $*"
"$(dirname "$0")/setup.sh" run test

umask 022
W=$(mktemp -d "${TMPDIR:-/var/tmp}/guest.XXXXXX")
trap 'rm -rf "$W"' EXIT
# shellcheck source=guests/disk.sh
. "$HERE/disk.sh"
# shellcheck source=guests/debian.sh
. "$HERE/debian.sh"
# shellcheck source=guests/tiny/recipe.sh
. "$HERE/$GUEST/recipe.sh"
recipe
say "$1: compressing"
qemu-img convert -m 2 -W -c -O qcow2 -o compression_type=zstd "$W/disk.raw" "$W/disk.qcow2"
mv "$W/disk.qcow2" "$OUT"
say "$1: $(stat -c %s "$OUT") bytes in $SECONDS s"
