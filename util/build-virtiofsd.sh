#!/bin/bash
# Usage: build-virtiofsd.sh
# Builds the virtiofsd written in Rust, once, and prints the path of the executable. For tests on hosts that have QEMU's
# old virtiofsd.
set -euo pipefail
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
VERSION=1.14.0
dir=$CACHE/virtiofsd-$VERSION
# One that root has built is readable for everybody.
for d in "$dir" /var/cache/crun-qemu/virtiofsd-$VERSION; do
    [ ! -x "$d/bin/virtiofsd" ] || { echo "$d/bin/virtiofsd"; exit; }
done
"$(dirname "$0")/setup.sh" build test
mkdir -p "$CACHE"
exec 9>"$CACHE/virtiofsd.lock"
flock 9
if [ ! -x "$dir/bin/virtiofsd" ]; then
    say "virtiofsd $VERSION: compiling (a minute or two)"
    cargo install --quiet --locked --version "$VERSION" --root "$dir.new" virtiofsd >&2 9>&-
    rm -rf "$dir"
    mv "$dir.new" "$dir"
fi
echo "$dir/bin/virtiofsd"
