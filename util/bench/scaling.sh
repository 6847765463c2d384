# shellcheck shell=bash disable=SC2154,SC2034,SC2153 # the variables are shared with bench.sh and lib.sh
# Several VMs at once, compared with as many QEMUs by hand: the time until all are up, and the cost of each.

measure_scaling() {
    say "scaling: VMs started at once"
    remove "$NAME-vm" "$NAME-plain"
    local counts=(1 2 4 8 16) n turn
    [ -z "$SMOKE" ] || counts=(1)
    template
    for ((round = 0; round < BOOTS; round++)); do
        for n in "${counts[@]}"; do
            for turn in $([ $((round % 2)) = 0 ] && echo ours by_hand || echo by_hand ours); do "${turn}_at_once" "$n"; done
        done
    done
    round=0
    printf '%s\n' "${counts[@]}" > "$work/counts"
}

ours_at_once() {
    local n=$1 i all=() logs=() latest=0
    begun=$(us)
    for ((i = 0; i < n; i++)); do
        "${plugin[@]}" --name "$NAME-vm$i" --rootfs "$work/vm" "" "${options[@]}" >/dev/null 2>"$work/stderr.$i" <&6 &
        all+=($!)
    done
    for i in "${!all[@]}"; do wait "${all[$i]}" || die "$(cat "$work/stderr.$i")"; done
    record "ours.$n.run" "$(since "$begun")"
    for ((i = 0; i < n; i++)); do logs+=("$(podman inspect --format '{{.HostConfig.LogConfig.Path}}' "$NAME-vm$i")"); done
    for i in "${logs[@]}"; do console_said "$i" "TINY READY"; [ "$at" -le "$latest" ] || latest=$at; done
    record "ours.$n.ready" "$(seconds $((latest - begun)))"
    for ((i = 0; i < n; i++)); do beside "$(podman inspect --format '{{.State.Pid}}' "$NAME-vm$i")"; done > "$work/beside.$n"
    record "ours.$n.pss" "$(sum 2 $((1024 * n)) < "$work/beside.$n")"
    record "ours.$n.dirty" "$(sum 3 $((1024 * n)) < "$work/beside.$n")"
    record "ours.$n.processes" "$(awk -v n="$n" 'END { print NR / n }' "$work/beside.$n")"
    for ((i = 0; i < n; i++)); do remove "$NAME-vm$i"; done
}

by_hand_at_once() {
    local n=$1 i latest=0 first
    for ((i = 0; i < n; i++)); do
        bare_start "$i"
        [ "$i" != 0 ] || first=$begun
    done
    for ((i = 0; i < n; i++)); do
        bare_ready "$work/bare.$i"
        at=$(cat "$work/bare.$i/ready")
        [ "$at" -le "$latest" ] || latest=$at
    done
    record "bare.$n.ready" "$(seconds $((latest - first)))"
    for ((i = 0; i < n; i++)); do bare_end "$i"; done
}

rows_scaling() {
    local n
    while read -r n; do
        row "scale_${n}_run" s "" "$n at once: podman run of all" median "ours.$n.run"
        row "scale_${n}_ready" s "" "  all guests ready" median "ours.$n.ready"
        row "scale_${n}_bare" s "" "  all guests ready, QEMU by hand" median "bare.$n.ready"
        row "scale_${n}_ratio" x "" "  ratio" ratio "ours.$n.ready" "bare.$n.ready"
        row "scale_${n}_pss" MiB "" "  beside QEMU, per VM: PSS" median "ours.$n.pss"
        row "scale_${n}_dirty" MiB "" "  beside QEMU, per VM: private dirty" median "ours.$n.dirty"
        row "scale_${n}_processes" "" "<= 2" "  beside QEMU, per VM: processes" median "ours.$n.processes"
    done < "$work/counts"
}
