#!/bin/sh
# Usage: crun-facts.sh SOURCE
# Prints the layout of the structs of include/crun.h in crun, whose configured and built source tree is SOURCE.
# tests/abi/layouts has this output for each version in which the layout has changed.
set -eu
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
[ $# = 1 ] || die "expected one argument: SOURCE"
here=$(cd "$(dirname "$0")/.." && pwd)
exe=$(mktemp)
trap 'rm -f "$exe"' EXIT
# crun has a member called linux, a word that gcc predefines. Nothing is linked with crun.
"${CC:-cc}" -std=gnu11 -Ulinux -w -DLIBCRUN_PUBLIC= -I"$1" -I"$1/src" -I"$1/libocispec/src" -o "$exe" "$here/tests/abi/facts.c"
"$exe"
