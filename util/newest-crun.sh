#!/bin/bash
# Usage: newest-crun.sh
# Unpacks the newest crun that Debian has (sid), once, with the libraries that it needs, and prints the path of the
# executable. Its handlers directory is that of the host's own crun. For tests of the plugin; `rm -r` its directory to
# have a newer one.
set -euo pipefail
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
dir=$CACHE/crun-sid
# one that root has made serves everybody
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
    { cat "$work/log" >&2; die "crun cannot be had from Debian sid"; }
rm -rf "$dir"
mkdir "$dir"
for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$dir/root"; done
# It is newer than the host's libraries, and starts itself again by /proc/self/exe: these paths have to be its own.
libraries=$(dirname "$(find "$dir/root" -name libc.so.6)")
cp "$dir/root/usr/bin/crun" "$dir/crun.new"
patchelf --set-interpreter "$(echo "$libraries"/ld-linux-*.so.*)" --set-rpath "$libraries" "$dir/crun.new"
"$dir/crun.new" --version >&2 || die "what was unpacked does not run"
mv "$dir/crun.new" "$dir/crun"
echo "$dir/crun"
