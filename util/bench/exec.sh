# shellcheck shell=bash disable=SC2154,SC2034,SC2153 # the variables are shared with bench.sh and lib.sh
# podman exec in a booted guest, compared with podman exec in a plain container and with ssh by hand.

measure_exec() {
    say "exec: again, twenty at once, and bytes through it"
    local mib=64 many=20
    [ "$accelerator" = KVM ] || mib=8
    [ -z "$SMOKE" ] || mib=4 many=5
    "${plain[@]}" >/dev/null
    if podman container exists "$NAME-vm"; then boots echo "$NAME-vm"; else boots "${vm[@]}"; fi
    key_of "$pid"
    head -c $((mib << 20)) /dev/urandom > "$work/bytes"
    podman exec "$NAME-vm" root true
    by_hand "$pid" "cat > /run/bytes" < "$work/bytes"
    for round in $(rounds); do
        for _ in 1 2 3; do
            timed later.vm podman exec "$NAME-vm" root true
            timed later.plain podman exec "$NAME-plain" true
        done
    done
    for round in $(rounds); do
        timed many.vm at_once "$many" podman exec "$NAME-vm" root true
        timed many.plain at_once "$many" podman exec "$NAME-plain" true
        timed in.exec podman exec -i "$NAME-vm" root sh -c 'cat > /dev/null' 6< "$work/bytes"
        timed in.ssh by_hand "$pid" 'cat > /dev/null' 6< "$work/bytes"
        timed out.exec podman exec "$NAME-vm" root cat /run/bytes
        timed out.ssh by_hand "$pid" 'cat /run/bytes'
    done
    round=0
    record bytes.mib $mib
    record many.count $many
    remove "$NAME-vm" "$NAME-plain"
}
# at_once N COMMAND...: runs COMMAND N times at once.
at_once() {
    local n=$1 i all=(); shift
    for ((i = 0; i < n; i++)); do "$@" & all+=($!); done
    for i in "${all[@]}"; do wait "$i" || return; done
}

rows_exec() {
    local mib many
    mib=$(cat "$work/samples/bytes.mib") many=$(cat "$work/samples/many.count")
    row later_plain s "" "podman exec of true in a plain container" median later.plain
    row later_vm s "" "podman exec of true in the VM, later" median later.vm
    row later_ratio x "<= 1.3" "  ratio" ratio later.vm later.plain
    row many_plain s "" "$many podman execs at once, plain container" median many.plain
    row many_vm s "" "$many podman execs at once, VM" median many.vm
    row many_ratio x "" "  ratio" ratio many.vm many.plain
    row in_exec s "" "$mib MiB into podman exec's stdin" median in.exec
    row in_ssh s "" "$mib MiB into ssh by hand" median in.ssh
    row in_ratio x ">= 0.9" "  throughput, exec to ssh by hand" ratio in.ssh in.exec
    row out_exec s "" "$mib MiB out of podman exec" median out.exec
    row out_ssh s "" "$mib MiB out of ssh by hand" median out.ssh
    row out_ratio x ">= 0.9" "  throughput, exec to ssh by hand" ratio out.ssh out.exec
}
