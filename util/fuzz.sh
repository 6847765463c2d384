#!/bin/sh
# Usage: fuzz.sh SECONDS [TARGET...]
# Runs each fuzz target (fuzz/src/targets), or those named, under libFuzzer for SECONDS. Inputs that reach new code are kept
# in fuzz/target/corpus and used again. An input that fails is left in fuzz/artifacts, and ends the run. JOBS=N runs N
# targets at a time. Any Rust toolchain works; AddressSanitizer is used if the toolchain has it.
set -eu
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
[ $# -gt 0 ] || die "expected an argument: SECONDS"
seconds=$1; shift
case $seconds in '' | *[!0-9]*) die "$seconds: not a number of seconds" ;; esac
cd "$(dirname "$0")/../fuzz"

# The flags for sanitizers and for the coverage that libFuzzer needs are for nightly toolchains; this variable makes stable
# ones accept them too.
export RUSTC_BOOTSTRAP=1
host=$(rustc -vV | sed -n 's/^host: //p')
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
flags="$flags -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
flags="$flags -Cllvm-args=-sanitizer-coverage-trace-compares"
probe=$(mktemp)
if echo 'fn main() {}' | rustc -Zsanitizer=address -o "$probe" - 2>/dev/null; then flags="$flags -Zsanitizer=address"; fi
rm -f "$probe"
flags="$flags -Ccodegen-units=1 --cfg fuzzing"
# With --target, the flags do not apply to build scripts.
RUSTFLAGS=$flags cargo build --release --locked --target "$host" --target-dir target
fuzz=$PWD/target/$host/release/fuzz

one() {
    name=$1
    [ -d "corpus/$name" ] || die "$name: no such target"
    mkdir -p "target/corpus/$name" target/log artifacts
    # Hostile input must not exceed these limits on memory, on the time for one input and on its length.
    FUZZ_TARGET=$name "$fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2560 -max_len=16384 -print_final_stats=1 \
        -artifact_prefix="artifacts/$name-" "target/corpus/$name" "corpus/$name" >"target/log/$name" 2>&1 || {
        grep -aE 'panicked|ERROR|Test unit written' -A 3 "target/log/$name" >&2 || :
        die "$name: failed, see fuzz/target/log/$name; again: FUZZ_TARGET=$name $fuzz fuzz/artifacts/$name-…"
    }
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "target/log/$name")
    say "$name: $runs inputs, $(find "target/corpus/$name" -type f | wc -l) kept"
}

if [ $# = 0 ]; then
    # shellcheck disable=SC2046 # the names have no spaces
    set -- $(ls corpus)
fi
jobs=${JOBS:-1}
if [ "$jobs" -gt 1 ]; then
    # The build above is up to date for each of them.
    export JOBS=1
    printf '%s\n' "$@" | xargs -P "$jobs" -n 1 "../util/fuzz.sh" "$seconds"
else
    for target; do one "$target"; done
fi
