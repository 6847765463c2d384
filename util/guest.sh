#!/bin/bash
# Usage: guest.sh NAME
# Prints the path of a test guest's disk, built first if it is not in the cache (see build-guest.sh for the names).
# The file's name in the cache contains a hash of the recipe, so that a changed recipe makes a new guest.
set -euo pipefail
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
case ${1-} in -h | --help) usage; exit ;; esac
[ $# = 1 ] || die "expected one argument: NAME"
name=$1
[ -d "$here/guests/${name%-uefi}" ] || die "$name: no such guest"

recipe() {
    cd "$here/guests"
    # The recipe of trixie is based on that of systemd, the recipe of bench on that of tiny.
    find ../common.sh ../build-guest.sh ./*.sh debian systemd tiny "${name%-uefi}" -type f -print0 | LC_ALL=C sort -zu | xargs -0 sha256sum
}
hash=$(recipe | sha256sum | cut -c1-12)
# One that root has built is readable for everybody.
for dir in "$CACHE" /var/cache/crun-qemu; do
    disk=$dir/guests/$name-$hash.qcow2
    [ ! -r "$disk" ] || { echo "$disk"; exit; }
done

disk=$CACHE/guests/$name-$hash.qcow2
mkdir -p "$CACHE/guests"
exec 9>"$CACHE/guests/$name.lock"
flock -n 9 || { say "$name: waiting for another build"; flock 9; }
if [ ! -e "$disk" ]; then
    say "building the guest $name (once)"
    "$here/build-guest.sh" "$name" "$disk.new" 9>&-
    # Another checkout may be using guests of other recipes.
    find "$CACHE/guests" -name "$name-????????????.qcow2" -atime +1 -delete
    mv "$disk.new" "$disk"
fi
echo "$disk"
