#!/bin/sh
# Usage: install-file.sh MODE FILE DIR
# Installs FILE into DIR by renaming, because the old file may be running. A file with the same content is left as it is.
set -eu
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
[ $# = 3 ] || die "expected three arguments: MODE FILE DIR"
to=$3/${2##*/}
! cmp -s "$2" "$to" || exit 0
mkdir -p "$3" 2>/dev/null || :
[ -w "$3" ] || die "$3: cannot be written (sudo is needed)"
install -m "$1" "$2" "$to.new"
mv -f "$to.new" "$to"
say "installed $to"
