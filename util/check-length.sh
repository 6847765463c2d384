#!/bin/sh
# Usage: check-length.sh LINES
# Fails if a source file has more lines than that, not counting tests: files in folders called tests, files called tests.rs
# or *_tests.rs, and the part of a file from "#[cfg(test)] mod tests {" on.
set -eu
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; '') die "expected one argument: LINES" ;; esac
cd "$(dirname "$0")/.."
long=$(git ls-files -z '*.rs' 'crun-handler/*' 'util/*' Makefile ':!**/tests/**' ':!tests/**' ':!**/tests.rs' ':!**/*_tests.rs' |
    xargs -0 awk -v max="$1" '
        FNR == 1 { lines = 0; tests = 0; attribute = 0 }
        attribute && /^mod tests \{/ { tests = 1; lines-- }
        { attribute = /^#\[cfg\(test\)\]$/ }
        !tests && ++lines == max + 1 { print FILENAME }' | tr '\n' ' ')
[ -z "$long" ] || die "more than $1 lines without tests: $long"
