#!/bin/bash
# Usage: package-vm-image.sh [--replace] IMAGE TAG
# Makes the container image TAG that holds only the VM image IMAGE (qcow2 or raw), in /disk/. Uses podman, buildah or
# docker, whichever is installed. An existing TAG is an error without --replace.
set -euo pipefail
. "$(dirname "$0")/common.sh"

replace=
while :; do
    case ${1-} in
    -h | --help) usage; exit ;;
    --replace) replace=1; shift ;;
    --) shift; break ;;
    -*) die "$1: unknown option" ;;
    *) break ;;
    esac
done
[ $# = 2 ] || die "expected two arguments: IMAGE TAG (see --help)"
image=$1 tag=$2

# magic OFFSET LENGTH: prints bytes of the image in hexadecimal.
magic() { od -An -v -tx1 -j "$1" -N "$2" "$image" | tr -d ' \n'; }

[ -e "$image" ] || [ -L "$image" ] || die "$image: no such file"
[ -f "$image" ] || die "$image: not a regular file"
[ -r "$image" ] || die "$image: cannot be read"
[ -s "$image" ] || die "$image: is empty"
convert="only qcow2 and raw can be run (qemu-img convert -O qcow2 makes one)"
case $(magic 0 8) in
514649fb0000000[23])
    [ "$(magic 8 8)" = 0000000000000000 ] || die "$image: needs another file, its backing file (qemu-img convert -O qcow2 makes a whole one)"
    format=qcow2
    ;;
514649fb*) die "$image: qcow of an unknown version ($convert)" ;;
4b444d56* | 434f5744*) die "$image: is VMDK; $convert" ;;
7668647866696c65) die "$image: is VHDX; $convert" ;;
636f6e6563746978) die "$image: is VHD; $convert" ;;
1f8b* | fd377a585a00* | 28b52ffd* | 425a68*) die "$image: is compressed: unpack it first" ;;
*)
    [ "$(magic 64 4)" != 7f10dabe ] || die "$image: is VDI; $convert"
    format=raw
    ;;
esac

for engine in podman buildah docker ''; do command -v "${engine:-true}" >/dev/null && break; done
case $engine in
podman) exists() { podman image exists "$tag"; } ;;
buildah) exists() { buildah inspect --type image "$tag" >/dev/null 2>&1; } ;;
docker) exists() { docker image inspect "$tag" >/dev/null 2>&1; } ;;
*) die "podman, buildah or docker is needed" ;;
esac
[ -n "$replace" ] || ! exists || die "$tag: exists already (--replace replaces it)"

# The engine copies the whole directory that it is given, or decides by rules of its own what to leave out. So it gets a
# directory with a hard link to the image, which costs nothing; a copy is made only if a link is not possible.
context=$(mktemp -d "$(dirname -- "$image")/.package.XXXXXX" 2>/dev/null) || context=$(mktemp -d /var/tmp/package.XXXXXX)
trap 'rm -rf "$context"' EXIT
trap 'exit 1' HUP INT TERM
ln -L -- "$image" "$context/disk.$format" 2>/dev/null ||
    cp --reflink=auto --sparse=always -- "$image" "$context/disk.$format"
printf 'FROM scratch\nCOPY disk.%s /disk/\n' "$format" > "$context/Dockerfile"
case $engine in
buildah) buildah build -q -t "$tag" -f "$context/Dockerfile" "$context" ;;
*) "$engine" build -q -t "$tag" -f "$context/Dockerfile" "$context" ;;
esac >/dev/null || die "$engine could not build $tag"
say "$tag: /disk/disk.$format"
