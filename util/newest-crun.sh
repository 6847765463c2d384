#!/bin/bash
# Usage: newest-crun.sh
# Unpacks the newest crun in Debian (sid), once, with the libraries that it needs, and prints the path of the executable.
# Its handlers directory is the same as that of the host's crun. For tests of the plugin. To get a newer one, remove its
# directory.
set -euo pipefail
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
dir=$CACHE/crun-sid
# One that root has made is readable for everybody.
for d in "$dir" /var/cache/crun-qemu/crun-sid; do
    [ ! -x "$d/crun" ] || { echo "$d/crun"; exit; }
done
"$(dirname "$0")/setup.sh" test
mkdir -p "$CACHE"
exec 9>"$CACHE/crun.lock"
flock 9
[ ! -x "$dir/crun" ] || { echo "$dir/crun"; exit; }

work=$(mktemp -d /var/tmp/crun.XXXXXX)
trap 'rm -rf "$work"' EXIT
say "crun of Debian sid: packages"
apt_suite "$work" sid deb
{ apt_in "$work" update && apt_in "$work" -y --no-install-recommends --download-only install crun; } > "$work/log" 2>&1 ||
    { cat "$work/log" >&2; die "crun cannot be downloaded from Debian sid"; }
rm -rf "$dir"
mkdir "$dir"
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$dir/root"; done
# This crun needs newer libraries than the host's, and executes itself again by /proc/self/exe, so the paths must be in the
# executable.
libraries=$(dirname "$(find "$dir/root" -name libc.so.6)")
cp "$dir/root/usr/bin/crun" "$dir/crun.new"
patchelf --set-interpreter "$(echo "$libraries"/ld-linux-*.so.*)" --set-rpath "$libraries" "$dir/crun.new"
"$dir/crun.new" --version >&2 || die "the unpacked crun does not run"
mv "$dir/crun.new" "$dir/crun"
echo "$dir/crun"
