#!/bin/bash
# Usage: bench.sh [--smoke] [--json FILE] [RUNS [SECTION...]]
# Measures what crun-qemu costs on this host and prints a table: medians of RUNS (default 7) on the tiny guest, after one
# run that is not counted. FILE (default target/bench.json) gets the same figures. Everything must be installed, as
# `make bench` does. Sections: plain start firmware memory exec scaling io. Things that are compared are measured in turns,
# in one run. Nothing is asserted: figures of different hosts cannot be compared, ratios can, and less so on a busy host.
# BOOTS=N in the environment: N whole boots, which cost most, instead of RUNS. --smoke: everything once and small, to see
# that it runs, in a minute or, without KVM, a few; its figures mean nothing.
set -euo pipefail
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
[ -n "${CRUN_QEMU_BENCH_INSIDE-}" ] || case ${1-} in -h | --help) usage; exit ;; esac
[ "$(id -u)" = 0 ] || die "root is needed: sudo make bench"
if [ -z "${CRUN_QEMU_BENCH_INSIDE-}" ]; then
    # One benchmark at a time. Processes that it starts do not inherit the lock.
    status=0
    CRUN_QEMU_BENCH_INSIDE=1 flock -n -o -E 75 /run/crun-qemu-bench.lock "$here/host-quirks.sh" "$0" "$@" || status=$?
    [ $status != 75 ] || die "another benchmark is running"
    exit $status
fi

SMOKE='' JSON=$here/../target/bench.json
while :; do
    case ${1-} in
    --smoke) SMOKE=1; shift ;;
    --json) JSON=${2:?}; shift 2 ;;
    *) break ;;
    esac
done
RUNS=${1:-${SMOKE:-7}} WARM=1
BOOTS=${BOOTS:-$RUNS}
[ -z "$SMOKE" ] || WARM=0
[[ $RUNS =~ ^[1-9][0-9]*$ ]] || die "$RUNS: not a number of runs"
[ $# = 0 ] || shift
[ $# -gt 0 ] || set -- plain start firmware memory exec scaling io

. "$here/bench/lib.sh"
. "$here/bench/bare.sh"
. "$here/bench/report.sh"
for section; do
    [ -e "$here/bench/$section.sh" ] || die "$section: no such section"
    # shellcheck disable=SC1090 # each section is checked by itself
    . "$here/bench/$section.sh"
done

work=$(mktemp -d /var/tmp/crun-qemu-bench.XXXXXX)
trap 'remove_all; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
prepare
for section; do
    load_now > "$work/load.$section"
    "measure_$section"
    load_now >> "$work/load.$section"
done
report "$@"
