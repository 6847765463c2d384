# shellcheck shell=bash disable=SC2154,SC2034 # the variables are shared with bench.sh and the sections
# Shared by the sections of the benchmark: containers, clocks, samples.

NAME=crun-qemu-bench
BOOT_SECONDS=600
# The same user as in the tests, so that images and storage can be shared.
USER_NAME=crun-qemu-test USER_HOME=/var/tmp/crun-qemu-test

load_now() { cut -d' ' -f1 /proc/loadavg; }
# rounds: prints the numbers of the rounds of a measurement; rounds below zero are not counted.
rounds() { seq $((0 - WARM)) $((RUNS - 1)); }
# record NAME VALUE: adds a sample, unless the round is not counted.
round=0
record() { [ "$round" -lt 0 ] || echo "$2" >> "$work/samples/$1"; }

us() { local t=$EPOCHREALTIME; echo "${t/[.,]/}"; }
# since US: prints the seconds from US to now.
since() { local now=$EPOCHREALTIME; seconds $((${now/[.,]/} - $1)); }
seconds() { printf '%s%d.%06d' "$([ "$1" -ge 0 ] || echo -)" $((${1#-} / 1000000)) $((${1#-} % 1000000)); }
# timed NAME COMMAND...: records how long COMMAND takes. Its stdin is descriptor 6, by default /dev/null.
timed() {
    local name=$1 begun; shift
    begun=$(us)
    "$@" >/dev/null 2>"$work/stderr" <&6 || die "failed: $*: $(tail -3 "$work/stderr")"
    record "$name" "$(since "$begun")"
}
exec 6</dev/null

# until_exec NAME COMM ARGUMENT INSIDE OUTSIDE COMMAND...: records the time from the start of COMMAND to the first exec of a
# process called COMM that has ARGUMENT in its command line, and for which INSIDE is the same file as OUTSIDE here. It does
# not fork until then, which would disturb the measurement. Sets `pid` to that process and `begun` to the time of the start.
exec {never}<> <(:)
until_exec() {
    local sample=$1 comm=$2 argument=$3 inside=$4 outside=$5 now name deadline=$((SECONDS + 60)); shift 5
    local -A old=()
    for pid in /proc/[0-9]*; do old[$pid]=1; done
    begun=${EPOCHREALTIME/[.,]/}
    "$@" >/dev/null 2>"$work/stderr" </dev/null &
    while :; do
        for pid in /proc/[0-9]*; do
            [ -z "${old[$pid]-}" ] || continue
            { read -r name < "$pid/comm"; } 2>/dev/null || continue
            now=${EPOCHREALTIME/[.,]/}
            [ "$name" != "$comm" ] || ! [ "$pid/root$inside" -ef "$outside" ] ||
                ! grep -sqae "$argument" "$pid/cmdline" || break 2
        done
        [ $SECONDS -lt $deadline ] || die "no $comm: $(cat "$work/stderr")"
        read -r -t 0.002 -u "$never" || :
    done
    pid=${pid#/proc/}
    record "$sample" "$(seconds $((now - begun)))"
    wait $! || die "failed: $*: $(cat "$work/stderr")"
}

as_user() { runuser -u $USER_NAME -- env -u XDG_CACHE_HOME -C "$USER_HOME" "HOME=$USER_HOME" "XDG_RUNTIME_DIR=$USER_HOME/run" "$@"; }

remove() { podman rm -f -i -t 0 "$@" >/dev/null 2>&1 || :; }
remove_all() {
    bare_end_all
    [ ! -e "$work/rootless" ] || as_user podman ps -aq --filter label=$NAME | xargs -r runuser -u $USER_NAME -- \
        env -C "$USER_HOME" "HOME=$USER_HOME" "XDG_RUNTIME_DIR=$USER_HOME/run" podman rm -f -t 0 >/dev/null 2>&1 || :
    podman ps -aq --filter label=$NAME 2>/dev/null | xargs -r podman rm -f -t 0 >/dev/null 2>&1 || :
}

# make_roots DIR: makes a root with the guest's disk, and one with busybox and a program of a unique name.
make_roots() {
    mkdir -p "$1/vm" "$1"/plain/{bin,dev,etc,proc,sys,tmp,run}
    cp --reflink=auto "$disk" "$1/vm/disk.qcow2"
    cp /bin/busybox "$1/plain/bin/"
    local name
    for name in sh sleep true cat; do ln -s busybox "$1/plain/bin/$name"; done
    printf '#!/bin/sh\nwhile :; do sleep 1000; done\n' > "$1/plain/bin/bench-idle"
    chmod 755 "$1/plain/bin/bench-idle"
}

# prepare: makes the guest, the roots and the commands: `vm` and `user_vm` run VMs, `plain` and `user_plain` containers.
prepare() {
    disk=$("$here/guest.sh" tiny)
    accelerator=KVM options=()
    "$here/kvm-works.sh" || accelerator=TCG options=(--emulated)
    mkdir -p "$work/samples" "$work/rows"
    chmod 755 "$work"
    remove_all
    make_roots "$work"
    image=$work/vm/disk.qcow2
    make_roots "$work/rootless"
    id -u $USER_NAME >/dev/null 2>&1 || useradd --create-home --home-dir $USER_HOME --shell /bin/sh $USER_NAME
    install -d -m 700 -o $USER_NAME $USER_HOME/run
    chown -hR $USER_NAME "$work/rootless"
    local run=(podman run -d --label "$NAME")
    plain=("${run[@]}" --name "$NAME-plain" --runtime crun --rootfs "$work/plain" bench-idle)
    plugin=("${run[@]}" --runtime crun --annotation run.oci.handler=qemu)
    vm=("${plugin[@]}" --name "$NAME-vm" --rootfs "$work/vm" "" "${options[@]}")
    user_plain=(as_user "${run[@]}" --name "$NAME-plain" --runtime crun --rootfs "$work/rootless/plain" bench-idle)
    user_vm=(as_user "${run[@]}" --name "$NAME-vm" --runtime "$(command -v crun-qemu)" --rootfs "$work/rootless/vm" ""
        "${options[@]}")
}

# console_said LOG TEXT: waits until the console has printed TEXT, or any byte if TEXT is empty, and sets `at` to the time of
# that, in microseconds since 1970. LOG is podman's, a k8s-file: time, stream, P for a part of a line, text.
console_said() {
    local deadline=$((SECONDS + BOOT_SECONDS))
    until at=$(awk -v text="$2" '{
            at = $1; partial = $3 == "P"; sub(/^[^ ]+ [^ ]+ [^ ]+ /, ""); said = said $0
            if (text == "" ? length(said) : index(said, text)) { print at; found = 1; exit }
            if (!partial) said = ""
        } END { exit !found }' "$1" 2>/dev/null); do
        [ $SECONDS -lt $deadline ] || die "the guest did not boot within $BOOT_SECONDS s"
        sleep 0.2
    done
    at=$(date -d "$at" +%s%6N)
}

# logs_of FORM: prints the path of the console log of vm or user_vm.
logs_of() {
    local of=(podman)
    [ "$1" = vm ] || of=(as_user podman)
    "${of[@]}" inspect --format '{{.HostConfig.LogConfig.Path}}' $NAME-vm
}
# boots COMMAND...: starts a VM and waits until the guest is ready. Sets `container`, `pid` (the supervisor) and `qemu`.
boots() {
    container=$("$@")
    console_said "$(podman inspect --format '{{.HostConfig.LogConfig.Path}}' "$container")" "TINY READY"
    pid=$(podman inspect --format '{{.State.Pid}}' "$container")
    qemu=$(qemu_of "$pid")
}
qemu_of() { pgrep -P "$1" qemu-system; }

# by_hand PID ARGUMENT...: runs ssh into the guest from the network namespace of PID.
by_hand() {
    local pid=$1; shift
    nsenter -t "$pid" -n ssh -F none -i "$work/key" -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR \
        -o UserKnownHostsFile=/dev/null root@10.0.99.2 "$@"
}
# key_of PID: copies the ssh key of the VM whose supervisor is PID, for by_hand.
key_of() { install -m 600 "/proc/$1/root/crun-qemu/ssh/id" "$work/key"; }

# beside PID: prints "NAME PSS DIRTY", in KiB, for each process beside QEMU of the VM whose supervisor is PID: every process of
# the container except QEMU, and conmon. PSS divides shared memory among those that share it.
beside() {
    local p name
    for p in $(awk '/^PPid:/ { print $2 }' "/proc/$1/status") "$1" $(pgrep -P "$1" || :); do
        name=$(cat "/proc/$p/comm")
        case $name in qemu-system*) continue ;; esac
        awk -v name="$name" '/^Pss:/ { pss = $2 } /^Private_Dirty:/ { dirty = $2 } END { print name, pss, dirty }' \
            "/proc/$p/smaps_rollup"
    done
}
# sum COLUMN [DIVISOR]: prints the sum of a column of stdin, divided.
sum() { awk -v c="$1" -v f="${2:-1}" '{ s += $c } END { printf "%.3f", s / f }'; }
rss() { awk '/^VmRSS:/ { printf "%.2f", $2 / 1024 }' "/proc/$1/status"; }
