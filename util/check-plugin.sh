#!/bin/sh
# Usage: check-plugin.sh PLUGIN
# Fails, and removes PLUGIN, unless it needs libc alone and exports crun's entry point alone.
set -eu
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
[ -f "${1-}" ] || die "${1-}: no such file"

exports=$(nm -D --defined-only "$1" | awk '{ print $NF }' | tr '\n' ' ')
[ "$exports" = "run_oci_handler_get_handler " ] ||
    { rm -f "$1"; die "$1: exports '$exports', not run_oci_handler_get_handler alone"; }
needs=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc\.so\.6|ld-linux.*)$' | tr '\n' ' ') || :
[ -z "$needs" ] || { rm -f "$1"; die "$1: needs $needs besides libc"; }
