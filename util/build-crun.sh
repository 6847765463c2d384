#!/bin/bash
# Usage: build-crun.sh 1.21
# Builds this version of crun from Debian's source package, once, and prints the path of the executable. Beside the
# executable are its handlers directory, lib/crun/handlers, and the file layout, the output of crun-facts.sh for it. For
# tests of the plugin with another crun than the host's.
set -euo pipefail
. "$(dirname "$0")/common.sh"
case ${1-} in
-h | --help) usage; exit ;;
1.21) suite=trixie ;;
*) die "expected version 1.21, which a release of Debian has (trixie)" ;;
esac
version=$1 dir=$CACHE/crun-$1
here=$(cd "$(dirname "$0")" && pwd)
# One that root has built is readable for everybody.
for d in "$dir" /var/cache/crun-qemu/crun-"$version"; do
    [ ! -x "$d/crun" ] || [ ! -s "$d/layout" ] || { echo "$d/crun"; exit; }
done
"$here/setup.sh" test
mkdir -p "$CACHE"
exec 9>"$CACHE/crun.lock"
flock 9
[ ! -x "$dir/crun" ] || [ ! -s "$dir/layout" ] || { echo "$dir/crun"; exit; }

work=$(mktemp -d /var/tmp/crun.XXXXXX)
trap 'rm -rf "$work"' EXIT
apt_suite "$work" "$suite" deb-src
say "crun $version: source package of Debian $suite"
cd "$work"
apt_in "$work" update > log 2>&1 || { cat log >&2; die "apt-get update failed"; }
# Only the upstream tarball is needed; the packaging may already be gone from the archive.
apt_in "$work" --only-source --download-only --tar-only source crun > log 2>&1 || :
tarball=$(echo crun_"$version"*.orig.tar.*)
[ -f "$tarball" ] || { cat log >&2; die "Debian $suite has no source of crun $version"; }
say "crun $version: compiling (a minute)"
mkdir src
tar -x -C src --strip-components=1 -f "$tarball"
cd src
printf '#define GIT_VERSION "%s"\n' "$version" > git-version.h
# Compiling libocispec generates its headers, which are incomplete until that has ended.
{ [ -x configure ] || ./autogen.sh; ./configure --libdir="$dir/lib" && make -C libocispec libocispec.la && make -j2 crun; } \
    > ../log 2>&1 9>&- ||
    { tail -30 ../log >&2; die "crun $version does not compile"; }
mkdir -p "$dir/lib/crun/handlers"
cp crun "$dir/crun.new"
"$dir/crun.new" --version | grep -q "$version" || die "the result is not crun $version"
"$here/crun-facts.sh" . > "$dir/layout"
mv "$dir/crun.new" "$dir/crun"
echo "$dir/crun"
