#!/bin/bash
# Usage: test.sh [NAME...]
# Runs all tests, or those whose names contain one of NAME, everything being installed (make test sees to that), and
# ends with a summary: passed, failed, skipped. End-to-end tests run two at a time; TEST_THREADS=N makes it N.
set -euo pipefail
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
[ "$(id -u)" = 0 ] || die "root is needed: sudo make test"

# One namespace for all tests, on hosts that need it.
[ -n "${CRUN_QEMU_TEST_INSIDE-}" ] || CRUN_QEMU_TEST_INSIDE=1 exec "$here/host-quirks.sh" "$0" "$@"

# What an earlier run left behind when it was killed.
sweep() {
    local label=label=crun-qemu-test
    podman ps -aq --filter $label | xargs -r podman rm -f -t 0
    podman pod ps -q --filter $label | xargs -r podman pod rm -f
    podman network ls -q --filter $label | xargs -r podman network rm -f
    podman volume ls -q --filter $label | xargs -r podman volume rm -f
    podman images -aq --filter $label | xargs -r podman rmi -f
    podman images -q --filter 'reference=localhost/crun-qemu-test-*' | xargs -r podman rmi -f
    podman secret ls --format '{{.Name}}' | awk '/^crun-qemu-(test|example)-/' | xargs -r podman secret rm
    losetup -n -O NAME,BACK-FILE | awk '$2 ~ /\/crun-qemu-(test|example)/ { print $1 }' | xargs -r losetup -d
    rm -rf /var/tmp/crun-qemu-test-?????? /var/tmp/crun-qemu-example.??????
}
sweep >/dev/null || say "what an earlier run left behind could not all be removed"

# The tests ask for these by the same scripts; made here, their building does not count as a
# test's time.
for guest in tiny tiny-uefi bench cloud ignition systemd trixie; do "$here/guest.sh" $guest >/dev/null; done
"$here/build-crun.sh" 1.21 >/dev/null
"$here/newest-crun.sh" >/dev/null
"$here/build-virtiofsd.sh" >/dev/null

mkdir -p target
log=target/test.log
: > $log
failed=0
tests() { cargo test --no-fail-fast "$@" 2>&1 | tee -a $log || failed=1; }
cargo build 2>&1 | tee -a $log || failed=1
say "unit tests"
tests --lib --bins -- "$@"
tests --doc -- "$@"
if compgen -G 'tests/*.rs' >/dev/null || compgen -G 'tests/*/main.rs' >/dev/null; then
    say "end-to-end tests"
    tests --test '*' -- --test-threads="${TEST_THREADS:-2}" "$@"
fi

# A test that cannot run here says "SKIP: name: why" and returns: to the test harness it has passed.
awk -v cargo_failed=$failed '
    /^ *Running / { target = $0; sub(/^ *Running (unittests )?/, "", target); sub(/ \(.*/, "", target); listing = 0 }
    /^ *Doc-tests / { target = "doc" }
    /^(test .* \.\.\. )?SKIP: / { s = substr($0, index($0, "SKIP: ")); if (!(s in seen)) { seen[s]; skips[++nskips] = s } }
    /^failures:$/ { listing = 1; next }
    listing && /^    [^ ]+$/ { if (!((target, $1) in bad)) { bad[target, $1]; bads[++nbads] = command(target, $1) } }
    /^test result:/ {
        listing = 0
        for (i = 1; i < NF; i++) {
            if ($(i + 1) ~ /^passed/) passed += $i
            if ($(i + 1) ~ /^failed/) failed += $i
            if ($(i + 1) ~ /^ignored/) ignored += $i
        }
    }
    function command(target, test,   t) {
        if (target == "doc") t = "--doc"
        else if (target == "src/lib.rs") t = "--lib"
        else if (target ~ /^src/) t = "--bins"
        else { t = target; sub(/^tests\//, "", t); sub(/(\/main)?\.rs$/, "", t); t = "--test " t }
        return "util/host-quirks.sh cargo test " t " -- --exact --nocapture " test
    }
    END {
        print ""
        for (i = 1; i <= nskips; i++) print skips[i]
        if (nbads) print "failed; each again, alone:"
        for (i = 1; i <= nbads; i++) print "    " bads[i]
        printf "tests: %d passed, %d failed, %d skipped\n", passed - nskips, failed, ignored + nskips
        if (cargo_failed && !failed) print "cargo test itself failed, see above"
        exit failed > 0 || cargo_failed || passed == 0
    }' $log
