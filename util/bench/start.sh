# shellcheck shell=bash disable=SC2154,SC2034,SC2153 # the variables are shared with bench.sh and lib.sh
# From the command to the guest, in stages that are visible from outside: QEMU's exec, the console's first byte, the guest's
# "ready", and podman exec. Measured for rootful and rootless VMs, and for QEMU by hand.

# our_start FORM DISK COMMAND...: starts a VM in FORM (vm or user_vm) and waits for the console's first byte. The VM keeps
# running. Sets `log` to the console's log and `pid` to the supervisor.
our_start() {
    local form=$1 disk=$2; shift 2
    until_exec "$form.exec" qemu-system-x86 guest= /crun-qemu/image "$disk" "$@"
    qemu=$pid
    pid=$(awk '/^PPid:/ { print $2 }' "/proc/$qemu/status")
    log=$(logs_of "$form")
    # podman and this script use the same clock.
    console_said "$log" ""
    record "$form.first" "$(seconds $((at - begun)))"
}
# first_by_hand FORM COMMAND...: does the same for QEMU by hand, which COMMAND starts.
first_by_hand() {
    local form=$1 deadline=$((SECONDS + 60)); shift
    "$@"
    until [ -s "$bare_dir/first" ]; do
        [ $SECONDS -lt $deadline ] || die "$form: $(cat "$bare_dir/stderr")"
        sleep 0.05
    done
    record "$form.first" "$(seconds $(($(cat "$bare_dir/first") - begun)))"
}
ready_by_hand() {
    bare_ready "$bare_dir"
    record "$1.ready" "$(seconds $(($(cat "$bare_dir/ready") - begun)))"
}
# stages FORM: records the supervisor's timings, and the times of the guest's messages.
stages() {
    local status name
    status=$(podman exec "$NAME-vm" - crun-qemu-init status --json <&6)
    for name in create created supervisor libvirt qemu console; do
        record "$1.at.$name" "$(seconds $(($(sed -n "s/.*\"stages\":{[^}]*\"$name\":\([0-9]*\).*/\1/p" <<<"$status") - begun)))"
    done
    console_said "$log" "Booting from Hard Disk"
    record "$1.at.loader" "$(seconds $((at - begun)))"
    console_said "$log" "tiny: firmware"
    record "$1.at.userland" "$(seconds $((at - begun)))"
}
# ready FORM: waits until the guest that our_start has started is ready.
ready() {
    console_said "$log" "TINY READY"
    record "$1.ready" "$(seconds $((at - begun)))"
}

measure_start() {
    say "start: a plain container, a VM of ours with root and without, the same VM by hand"
    remove "$NAME-vm" "$NAME-plain"
    template
    virt_qemu_run=$(command -v virt-qemu-run || :)
    # This fills its own cache of QEMU's capabilities.
    round=-1
    [ -z "$virt_qemu_run" ] || { first_by_hand libvirt libvirt_start; bare_end 0; }
    for round in $(rounds); do
        until_exec plain.exec bench-idle '' /bin/busybox "$work/plain/bin/busybox" "${plain[@]}"
        remove "$NAME-plain"
        our_start vm "$work/vm/disk.qcow2" "${vm[@]}"
        remove "$NAME-vm"
        until_exec user_plain.exec bench-idle '' /bin/busybox "$work/rootless/plain/bin/busybox" "${user_plain[@]}"
        as_user podman rm -f -t 0 "$NAME-plain" >/dev/null
        our_start user_vm "$work/rootless/vm/disk.qcow2" "${user_vm[@]}"
        as_user podman rm -f -t 0 "$NAME-vm" >/dev/null
        first_by_hand bare bare_start 0
        bare_end 0
        [ -z "$virt_qemu_run" ] || { first_by_hand libvirt libvirt_start; bare_end 0; }
        cold_once
    done
    for ((round = 0; round < BOOTS; round++)); do boot_once; done
    round=0
    execs
}

# boot_once: measures the time until the guest is ready, and its first exec.
boot_once() {
    "${plain[@]}" >/dev/null
    our_start vm "$work/vm/disk.qcow2" "${vm[@]}"
    ready vm
    record vm.rss "$(rss "$qemu")"
    exec_once
    stages vm
    remove "$NAME-vm" "$NAME-plain"
    our_start user_vm "$work/rootless/vm/disk.qcow2" "${user_vm[@]}"
    # An exec right after the start waits for the guest's sshd.
    as_user podman exec "$NAME-vm" root true <&6 2>/dev/null
    record user_vm.sshd "$(since "$begun")"
    ready user_vm
    as_user podman rm -f -t 0 "$NAME-vm" >/dev/null
    first_by_hand bare bare_start 0
    ready_by_hand bare
    record bare.rss "$(rss "$qemu")"
    bare_end 0
    [ -n "$virt_qemu_run" ] || return 0
    first_by_hand libvirt libvirt_start
    ready_by_hand libvirt
    bare_end 0
}

# exec_once: measures the first podman exec of this VM, compared with ssh by hand into a guest whose sshd has been used once,
# and with podman exec in a plain container.
exec_once() {
    key_of "$pid"
    by_hand "$pid" true <&6
    timed ssh by_hand "$pid" true
    timed exec.plain podman exec "$NAME-plain" true
    timed exec.first podman exec "$NAME-vm" root true
}

# cold_once: measures a start without a cache of QEMU's capabilities, in a mount namespace where our cache is empty.
cold_once() {
    mkdir -p "$work/empty"
    rm -rf "${work:?}/empty/"*
    # shellcheck disable=SC2016 # for the inner shell
    until_exec vm.cold qemu-system-x86 guest= /crun-qemu/image "$work/vm/disk.qcow2" unshare -m sh -c \
        'mkdir -p /var/cache/crun-qemu && mount --bind "$0" /var/cache/crun-qemu && exec "$@"' "$work/empty" "${vm[@]}"
    remove "$NAME-vm"
}

# execs: counts our execs before QEMU's, in a traced run of its own, and records when each exec of the run took place.
execs() {
    traced "${plain[@]}"
    names "$work/strace" | sort > "$work/plain.execs"
    traced "${vm[@]}"
    names "$work/strace" | sort > "$work/vm.execs"
    ours=$(comm -13 "$work/plain.execs" "$work/vm.execs" | tr '\n' ' ')
    record vm.execs "$(wc -w <<<"$ours")"
    awk '/execve\(".* = 0$/ || /execve resumed>.* = 0$/ { if (!begun) begun = $2
        name = $0; if (!sub(/.*execve\("/, "", name)) name = "..."; sub(/".*/, "", name); sub(/.*\//, "", name)
        printf "%s%s %.3f", n++ ? ", " : "", name, $2 - begun
        if (name ~ /^qemu-system/) exit }' "$work/strace" > "$work/vm.stages"
}
traced() {
    strace -f -ttt --seccomp-bpf -qq -e trace=execve -e signal=none -o "$work/strace" "$@" >/dev/null 2>&1 <&6 &
    local tracer=$!
    sleep 4
    remove "$NAME-vm" "$NAME-plain"
    wait $tracer || :
}
# names TRACE: prints the names of the programs that were executed before QEMU or the plain container's process.
names() {
    sed -n 's/.*execve("\([^"]*\)".* = 0$/\1/p; s/.*<... execve resumed>.* = 0$/?/p' "$1" | sed 's#.*/##' |
        sed '/^\(qemu-system-.*\|bench-idle\)$/,$d'
}

rows_start() {
    row plain_exec s "" "podman run to a plain container's exec" median plain.exec
    row vm_exec s "" "podman run to QEMU's exec" median vm.exec
    row vm_ours s "<= 0.15" "  ours: less a plain container's" difference vm.exec plain.exec
    row vm_cold s "" "  with nothing known of QEMU (first start on a host)" median vm.cold
    row vm_execs "" "<= 4" "  our execs before QEMU's" median vm.execs
    note "ours: $ours"
    note "traced, seconds: $(cat "$work/vm.stages")"
    row user_plain_exec s "" "rootless podman run to a plain container's exec" median user_plain.exec
    row user_vm_exec s "" "rootless podman run to QEMU's exec" median user_vm.exec
    row user_vm_ours s "" "  ours: less a plain container's" difference user_vm.exec user_plain.exec
    row bare_first s "" "QEMU by hand to the console's first byte" median bare.first
    [ -z "$virt_qemu_run" ] || row libvirt_first s "" "virt-qemu-run to the console's first byte" median libvirt.first
    row vm_first s "" "podman run to the console's first byte" median vm.first
    row user_vm_first s "" "rootless podman run to the console's first byte" median user_vm.first
    row bare_ready s "" "QEMU by hand to the guest's ready" median bare.ready
    [ -z "$virt_qemu_run" ] || row libvirt_ready s "" "virt-qemu-run to the guest's ready" median libvirt.ready
    row vm_ready s "" "podman run to the guest's ready" median vm.ready
    row vm_ready_beyond s "" "  beyond QEMU by hand and a plain container" difference vm.ready bare.ready plain.exec
    row user_vm_ready s "" "rootless podman run to the guest's ready" median user_vm.ready
    row stage_create s "" "podman run to crun's asking for a VM" median vm.at.create
    row stage_created s "" "  to the VM's being made" median vm.at.created
    row stage_supervisor s "" "  to the supervisor" median vm.at.supervisor
    row stage_libvirt s "" "  to libvirt's driver being ready" median vm.at.libvirt
    row stage_qemu s "" "  to QEMU's virtual CPUs" median vm.at.qemu
    row stage_console s "" "  to the console's first byte, at the supervisor" median vm.at.console
    row stage_loader s "" "  to the firmware's end" median vm.at.loader
    row stage_userland s "" "  to the guest's first process" median vm.at.userland
    row user_vm_sshd s "" "rootless podman run and exec of true at once, to its end" median user_vm.sshd
    row ssh s "" "ssh into the guest by hand, connection and command" median ssh
    row exec_first s "" "podman exec of true in the VM, the first" median exec.first
    row exec_first_beyond s "<= 0.3" "  less ssh by hand and plain podman exec" difference exec.first ssh exec.plain
    row bare_rss MiB "" "QEMU's memory by hand, guest ready (RSS)" median bare.rss
    row vm_rss MiB "" "QEMU's memory with us, guest ready (RSS)" median vm.rss
    row rss_ratio x "" "  ratio" ratio vm.rss bare.rss
}
