#!/bin/bash
# Usage: extract-vm-image.sh [--replace] CONTAINER-IMAGE OUTFILE
# Copies the VM image out of a container image: the only regular file in / or in /disk/. Uses podman, docker or buildah,
# whichever is installed, and no registry. An existing OUTFILE is an error without --replace.
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
[ $# = 2 ] || die "expected two arguments: CONTAINER-IMAGE OUTFILE (see --help)"
image=$1 out=$2
[ ! -d "$out" ] || die "$out: is a directory"
[ ! -L "$out" ] || die "$out: is a symbolic link"
[ ! -e "$out" ] || [ -f "$out" ] || die "$out: not a regular file"
[ -n "$replace" ] || [ ! -e "$out" ] || die "$out: exists already (--replace replaces it)"
[ -d "$(dirname -- "$out")" ] || die "$(dirname -- "$out"): no such directory"

# create makes a container that is never started, and prints its name. files writes its content as a tar archive.
for engine in podman docker buildah ''; do command -v "${engine:-true}" >/dev/null && break; done
case $engine in
podman | docker)
    if [ "$engine" = podman ]; then podman image exists "$image"; else docker image inspect "$image" >/dev/null 2>&1; fi ||
        die "$image: no such container image here"
    create() { "$engine" create "$image" /none; }
    files() { "$engine" export "$container"; }
    remove() { "$engine" rm "$container"; }
    ;;
buildah)
    create() { buildah from --pull=never "$image"; }
    # shellcheck disable=SC2016 # for the inner shell
    files() { buildah unshare sh -c 'd=$(buildah mount "$1") && tar -C "$d" -c .' - "$container"; }
    [ "$(id -u)" != 0 ] || files() { tar -C "$(buildah mount "$container")" -c .; }
    remove() { buildah rm "$container"; }
    ;;
*) die "podman, docker or buildah is needed" ;;
esac

container='' new=''
cleanup() { rm -f ${new:+"$new"}; [ -z "$container" ] || remove >/dev/null 2>&1 || :; }
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
container=$(create) || die "$engine could not open $image"

# Types and names of everything in / and /disk/ except directories. tar escapes names, so that each line is one file.
# Docker adds /.dockerenv and some mount points to each archive that it exports.
listing=$(files | tar -tv --quoting-style=escape --numeric-owner |
    awk '$1 ~ /^d/ { next }
        { type = substr($1, 1, 1); for (i = 1; i <= 5; i++) sub(/^[^ ]+ +/, "") }
        type == "l" { sub(/ -> .*/, "") }
        type == "h" { sub(/ link to .*/, "") }
        { path = $0; sub(/^\.?\//, "", path) }
        path == ".dockerenv" { next }
        path ~ /^(disk\/)?[^\/]+$/ { print type, $0 }') || die "$image: could not be read"
case $listing in
'') die "$image: no file in / or /disk/" ;;
*$'\n'*) die "$image: more than one file in / and /disk/: $(cut -d' ' -f2- <<<"$listing" | tr '\n' ' ')" ;;
-*) name=${listing#- } ;;
l*) die "$image: /${listing#l } is a symbolic link, not a file" ;;
*) die "$image: /${listing#? } is not a regular file" ;;
esac
case $name in *\\*) die "$image: /$name: unusual characters in the file's name" ;; esac

new=$(mktemp "$(dirname -- "$out")/.extract.XXXXXX")
# A sparse file stays sparse.
files | tar -x -O --no-wildcards -- "$name" | dd of="$new" bs=1M conv=sparse iflag=fullblock status=none
chmod "$(printf %o $((0666 & ~$(umask))))" "$new"
if [ -n "$replace" ]; then mv -f "$new" "$out"; else ln "$new" "$out" 2>/dev/null || die "$out: exists already (--replace replaces it)"; fi
say "$out: /$name of $image"
