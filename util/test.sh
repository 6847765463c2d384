#!/bin/bash
# Usage: test.sh [NAME...]
# Runs all tests, or those whose names contain one of NAME, and ends with a summary of passed, failed and skipped tests.
# Needs an installed crun-qemu, as make test has it. Two end-to-end tests run at a time, or TEST_THREADS=N.
set -euo pipefail
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
[ "$(id -u)" = 0 ] || die "root is needed: sudo make test"

# On hosts that need a namespace, all tests run in one.
[ -n "${CRUN_QEMU_TEST_INSIDE-}" ] || CRUN_QEMU_TEST_INSIDE=1 exec "$here/host-quirks.sh" "$0" "$@"

# Removes what an earlier run left when it was killed.
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
sweep >/dev/null || say "some remains of an earlier run could not be removed"

# The tests call the same scripts. Here the time of building does not count as a test's.
for guest in tiny tiny-uefi bench cloud ignition systemd trixie; do "$here/guest.sh" $guest >/dev/null; done
"$here/build-crun.sh" 1.21 >/dev/null
"$here/newest-crun.sh" >/dev/null
"$here/build-virtiofsd.sh" >/dev/null

# libtest reports in JSON only with its unstable options, which RUSTC_BOOTSTRAP permits. A test's child process may print to
# the same pipe, so a report is looked for at any place of a line. Other lines are such output.
# shellcheck disable=SC2016 # jq's variables
reports='
    def report: (capture("(?<json>\\{ *\"(type|binary)\":.*\\})\\s*$").json | fromjson)? // {output: .};
    def skips: (.stdout // "") | split("\n") | map(select(startswith("SKIP: ")));
    def seconds: "\((.exec_time // 0) * 10 | round / 10)s";'
live='report
    | if .output then .output
      elif .type != "test" or .event == "started" then empty
      elif .event == "timeout" then "still running: \(.name)"
      elif .event == "ok" then (skips[], "ok \(.name) \(seconds)")
      elif .event == "failed" then "FAILED \(.name) \(seconds)\n\(.message // "")\(.stdout // "")"
      else "\(.event) \(.name)" end'
# One binary after the other; a test without a result was running when its binary crashed.
# shellcheck disable=SC2016 # jq's variables
summary='
    reduce (inputs | report) as $r ({failed: [], skipped: [], passed: 0};
        if $r.binary then .target = $r.binary | .running = [] | .bad = []
        elif $r.type == "end" then
            (.bad + if $r.status == 0 then [] else .running end) as $bad
            | .failed += if $r.status != 0 and $bad == [] then [.target] else [$bad[] | "\($r.target) -- --exact --nocapture \(.)"] end
        elif $r.type != "test" or $r.event == "timeout" then .
        elif $r.event == "started" then .running += [$r.name]
        else
            .running -= [$r.name]
            | ($r | skips) as $skips
            | .skipped += $skips
            | if $r.event == "failed" then .bad += [$r.name]
              elif $r.event == "ignored" then .skipped += ["SKIP: \($r.name): ignored"]
              elif $skips == [] then .passed += 1
              else . end
        end)
    | .skipped |= unique'

mkdir -p target
log=target/test.log
: > $log

# binaries unit|integration: the test binaries: folder of the package, arguments of cargo test, path.
binaries() {
    jq -r --arg kind "$1" 'select(.reason == "compiler-artifact" and .profile.test and .executable)
        | select((.target.kind[0] == "test") == ($kind == "integration"))
        | [(.manifest_path | rtrimstr("/Cargo.toml")),
           (if .target.kind[0] | IN("test", "bin") then "--\(.target.kind[0]) \(.target.name)" else "--lib" end),
           .executable] | @tsv' <<< "$builds" | sort
}

# run_tests unit|integration ARGUMENT...: runs these binaries with these arguments.
run_tests() {
    local kind=$1 folder target binary status
    shift
    while IFS=$'\t' read -r folder target binary; do
        jq -cn --arg target "$target" '{binary: $target}' >> $log
        status=0
        (cd "$folder" && RUSTC_BOOTSTRAP=1 "$binary" -Z unstable-options --format json --report-time --show-output "$@") \
            </dev/null | tee -a $log | jq -Rr --unbuffered "$reports $live" || status=$?
        jq -cn --arg target "$target" --argjson status $status '{type: "end", $target, $status}' >> $log
    done < <(binaries "$kind")
}

failed=0
# Tests start the executables of all packages.
cargo build || failed=1
builds=$(cargo test --no-run --message-format=json-render-diagnostics) || failed=1
say "unit tests"
run_tests unit "$@"
cargo test --doc -q -- "$@" || failed=1
say "end-to-end tests"
# With the last container of its network, netavark removes rules that the start of another container may need at that
# moment. A pod that outlives all tests keeps them.
pod=crun-qemu-test-network
{ podman pod create --name $pod --label crun-qemu-test && podman pod start $pod; } >/dev/null || say "no pod keeps the rules"
run_tests integration --test-threads="${TEST_THREADS:-2}" "$@"
podman pod rm -f -t 0 $pod >/dev/null || :

results=$(jq -Rn "$reports $summary" $log)
echo
# shellcheck disable=SC2016 # jq's variables
jq -r '.skipped[], if .failed == [] then empty else "failed; each again, alone:" end,
    (.failed[] | "    util/host-quirks.sh cargo test \(.)"),
    "tests: \(.passed) passed, \(.failed | length) failed, \(.skipped | length) skipped"' <<< "$results"
[ $failed = 0 ] || say "cargo failed, see above"
jq -e --argjson failed $failed '.passed > 0 and .failed == [] and $failed == 0' <<< "$results" >/dev/null
