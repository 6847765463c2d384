#!/bin/sh
# Usage: crun-qemu.sh ARGUMENT...
# Runs the crun-qemu of this tree where it is built, else the one that is installed.
set -eu
. "$(dirname "$0")/common.sh"

for program in "$(dirname "$0")/../target/release/crun-qemu" "$(command -v crun-qemu || :)" /usr/local/bin/crun-qemu; do
    [ ! -x "$program" ] || exec "$program" "$@"
done
die "crun-qemu is missing: build it with make, or install it with make install"
