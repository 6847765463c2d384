#!/bin/sh
# Usage: link-plugin.sh ARCHIVE DIR CORE
# Makes two libraries: the plugin DIR/crun-qemu.so, which crun loads on every command for every container; and, from ARCHIVE
# (Cargo's static library), DIR/crun-qemu-core.so, which the plugin loads from the path CORE when a container is a VM. Each
# may link libc only and may export its entry points only. $CC compiles, with $CFLAGS and $LDFLAGS.
set -eu
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
[ $# = 3 ] || die "expected three arguments: ARCHIVE DIR CORE"
archive=$1 dir=$2 core=$3
case $core in /*) ;; *) die "$core: not an absolute path" ;; esac
here=$(cd "$(dirname "$0")/.." && pwd)

# link NAME EXPORTS ARGUMENT...: links DIR/NAME and checks which libraries it needs.
link() {
    name=$1 exports=$2; shift 2
    # shellcheck disable=SC2086 # lists of words
    "${CC:-cc}" ${LDFLAGS-} -shared -static-libgcc -o "$dir/$name.new" "$@" -Wl,--version-script="$here/crun-handler/$exports.map" \
        -Wl,-z,defs,-z,relro,-z,now -Wl,--gc-sections,--as-needed,--strip-all -lc
    dynamic=$(readelf -d "$dir/$name.new") || die "$name: readelf failed"
    needs=$(echo "$dynamic" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -vE '^(libc\.so\.6|ld-linux.*)$' | tr '\n' ' ') || :
    [ -z "$needs" ] || { rm -f "$dir/$name.new"; die "$name: needs $needs in addition to libc"; }
    mv "$dir/$name.new" "$dir/$name"
}

mkdir -p "$dir"
# The plugin comes last, because it cannot work without the core.
link crun-qemu-core.so core -Wl,--require-defined=crun_qemu_core "$archive"
# shellcheck disable=SC2086
link crun-qemu.so exports ${CFLAGS--O2} -std=gnu11 -Wall -Wextra -fPIC -fvisibility=hidden \
    -DCRUN_QEMU_CORE="\"$core\"" -I"$here/include" "$here"/crun-handler/*.c
