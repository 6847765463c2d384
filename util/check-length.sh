#!/bin/sh
# Usage: check-length.sh LINES
# Fails if a source file has more than LINES lines.
set -eu
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; '') die "expected one argument: LINES" ;; esac
cd "$(dirname "$0")/.."
long=$(git ls-files -z '*.rs' 'crun-handler/*' 'util/*' Makefile | xargs -0 awk -v max="$1" '
    FNR == max + 1 { print FILENAME }' | tr '\n' ' ')
[ -z "$long" ] || die "more than $1 lines: $long"
