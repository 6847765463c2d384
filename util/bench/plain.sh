# shellcheck shell=bash disable=SC2154,SC2034,SC2153 # the variables are shared with bench.sh and lib.sh
# An ordinary container with and without the plugin: the time, and the number of instructions, which has no noise.

measure_plain() {
    say "plain: crun run of an ordinary container with and without the plugin"
    local crun handlers times=150
    crun=$(command -v crun)
    [ -z "$SMOKE" ] || times=3
    # A crun whose handlers directory does not exist.
    mkdir -p "$work/crun" "$work/bundle"
    cp "$crun" "$work/crun/with"
    LC_ALL=C sed 's#/crun/handlers#/crun/no-plugs#' "$crun" > "$work/crun/without"
    chmod 755 "$work"/crun/*
    "$work/crun/with" --version | grep -q +QEMU || die "$crun has not loaded the plugin"
    ! "$work/crun/without" --version | grep -q +QEMU || die "could not make a crun without the plugin"
    (cd "$work/bundle" && "$crun" spec)
    # valgrind needs descriptors of its own, so the limits are removed.
    sed -i 's/"terminal": true/"terminal": false/; s#"path": "rootfs"#"path": "'"$work"'/plain"#
        s#^\([[:space:]]*\)"sh"$#\1"true"#; /"rlimits": \[/,/\],/d' "$work/bundle/config.json"
    for round in $(seq $((0 - WARM)) $((RUNS * times - 1))); do
        # Each variant is the first one in every other round.
        for which in $([ $((round % 2)) = 0 ] && echo with without || echo without with); do
            timed "crun.$which" "$work/crun/$which" run -b "$work/bundle" "$NAME-ordinary"
        done
    done
    round=0
    instructions with
    instructions without
    handlers=$(strings "$crun" | sed -n 's#/crun/handlers$#&#p')
    record so.size "$(awk -v n="$(stat -c %s "$handlers/crun-qemu.so")" 'BEGIN { printf "%.3f", n / 1048576 }')"
    record so.relocations "$(readelf -rW "$handlers/crun-qemu.so" | grep -c '^[0-9a-f]\{12,\}')"
}

# instructions WHICH: records the instructions that crun executes in user space, in millions. crun copies itself to memory and
# executes the copy, which valgrind cannot follow; on a read-only mount it does not.
instructions() {
    # shellcheck disable=SC2016 # for the inner shell
    unshare -m sh -c 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && _LIBCONTAINER_CLONED_BINARY=1 exec \
        valgrind --tool=callgrind --callgrind-out-file=/dev/null "$1/$2" run -b "$3" "$4"' \
        sh "$work/crun" "$1" "$work/bundle" "$NAME-ordinary" >/dev/null 2>"$work/stderr" <&6 || die "$(cat "$work/stderr")"
    record "instructions.$1" "$(awk '/Collected/ { printf "%.4f", $NF / 1e6 }' "$work/stderr")"
}

rows_plain() {
    row crun_without s "" "crun run of an ordinary container without the plugin" median crun.without
    row crun_with s "" "  with the plugin" median crun.with
    row crun_ratio x "<= 1.03" "  ratio" ratio crun.with crun.without
    row instructions_without M "" "  its instructions in user space without the plugin" median instructions.without
    row instructions_added M "" "  more with the plugin" difference instructions.with instructions.without
    row plugin_size MiB "" "  the plugin's size" median so.size
    row plugin_relocations "" "" "  the plugin's relocations" median so.relocations
}
