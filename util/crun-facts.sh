#!/bin/sh
# Usage: crun-facts.sh SOURCE
# Prints how crun, whose configured and built source tree is SOURCE, lays out the structs of include/crun.h. Files in
# tests/abi/layouts have this of each version in which it has changed.
set -eu
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
[ $# = 1 ] || die "one argument wanted: SOURCE"
here=$(cd "$(dirname "$0")/.." && pwd)
exe=$(mktemp)
trap 'rm -f "$exe"' EXIT
# A member is called linux, which gcc predefines. Nothing is linked with crun.
"${CC:-cc}" -std=gnu11 -Ulinux -w -DLIBCRUN_PUBLIC= -I"$1" -I"$1/src" -I"$1/libocispec/src" -o "$exe" "$here/tests/abi/facts.c"
"$exe"
