#!/bin/bash
# Usage: bench.sh [RUNS]
# Measures what crun-qemu costs on this host, everything being installed (make bench sees to that), and prints a table:
# medians of RUNS (default 7) on the tiny guest, after one run that is not counted. Nothing is asserted: figures of
# different hosts do not compare, ratios do, and those on a busy host do not.
set -euo pipefail
. "$(dirname "$0")/common.sh"
here=$(cd "$(dirname "$0")" && pwd)
case ${1-} in -h | --help) usage; exit ;; esac
RUNS=${1:-7}
[[ $RUNS =~ ^[1-9][0-9]*$ ]] || die "$RUNS: not a number of runs"
[ "$(id -u)" = 0 ] || die "root is needed: sudo make bench"
[ -n "${CRUN_QEMU_BENCH_INSIDE-}" ] || CRUN_QEMU_BENCH_INSIDE=1 exec "$here/host-quirks.sh" "$0" "$@"

VM=crun-qemu-bench-vm PLAIN=crun-qemu-bench-plain
BOOT_SECONDS=180
disk=$("$here/guest.sh" tiny)
accelerator=KVM options=()
"$here/kvm-works.sh" || accelerator=TCG options=(--emulated)

work=$(mktemp -d /var/tmp/crun-qemu-bench.XXXXXX)
remove() { podman rm -f -i -t 0 $VM $PLAIN >/dev/null 2>&1 || :; }
trap 'remove; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
remove

# Roots: one with the guest's disk, one with busybox and a process whose name nothing else has.
mkdir -p "$work/vm" "$work"/plain/{bin,dev,proc,sys,tmp}
cp --reflink=auto "$disk" "$work/vm/disk.qcow2"
cp /bin/busybox "$work/plain/bin/"
for name in sh sleep true; do ln -s busybox "$work/plain/bin/$name"; done
printf '#!/bin/sh\nwhile :; do sleep 1000; done\n' > "$work/plain/bin/bench-idle"
chmod 755 "$work/plain/bin/bench-idle"

plain=(podman run -d --name "$PLAIN" --label crun-qemu-bench --runtime crun --rootfs "$work/plain" bench-idle)
vm=(podman run -d --name "$VM" --label crun-qemu-bench --runtime crun --annotation run.oci.handler=qemu
    --rootfs "$work/vm" "" "${options[@]}")

us() { local t=$EPOCHREALTIME; echo "${t/[.,]/}"; }
seconds() { awk -v us="$1" 'BEGIN { printf "%.3f s", us / 1e6 }'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", b ? a / b : 0 }'; }
mib() { awk -v k="$1" 'BEGIN { printf "%.1f MiB", k / 1024 }'; }
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { printf "%d", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
row() { printf '%-58s %14s   %s\n' "$@"; }
# timed FILE COMMAND...: appends how long it took, in microseconds.
timed() {
    local file=$1 begun; shift
    begun=$(us)
    "$@" >/dev/null 2>&1 </dev/null || die "failed: $*"
    echo $(($(us) - begun)) >> "$file"
}

# until_exec FILE COMM INSIDE OUTSIDE COMMAND...: appends the time from the command's start to the first exec of a process
# that is called COMM then and to whom INSIDE is the file that OUTSIDE is here. Without forks of its own, so as not to be
# what it measures.
exec {never}<> <(:)
until_exec() {
    local file=$1 comm=$2 inside=$3 outside=$4 begun now pid name deadline=$((SECONDS + 60)); shift 4
    local -A old=()
    for pid in /proc/[0-9]*; do old[$pid]=1; done
    begun=${EPOCHREALTIME/[.,]/}
    "$@" >/dev/null 2>"$work/stderr" </dev/null &
    while :; do
        for pid in /proc/[0-9]*; do
            [ -z "${old[$pid]-}" ] || continue
            { read -r name < "$pid/comm"; } 2>/dev/null || continue
            now=${EPOCHREALTIME/[.,]/}
            [ "$name" != "$comm" ] || ! [ "$pid/root$inside" -ef "$outside" ] || break 2
        done
        [ $SECONDS -lt $deadline ] || die "no $comm: $(cat "$work/stderr")"
        read -r -t 0.002 -u "$never" || :
    done
    echo $((now - begun)) >> "$file"
    wait $! || die "failed: $*: $(cat "$work/stderr")"
}

say "an ordinary container with and without the plugin"
crun=$(command -v crun)
mkdir -p "$work/without" "$work/bundle"
LC_ALL=C sed 's#/crun/handlers#/crun/no-plugs#' "$crun" > "$work/without/crun"
chmod 755 "$work/without/crun"
"$crun" --version | grep -q +QEMU || die "$crun has not loaded the plugin"
! "$work/without/crun" --version | grep -q +QEMU || die "could not make a crun without the plugin"
(cd "$work/bundle" && "$crun" spec)
sed -i 's/"terminal": true/"terminal": false/; s#"path": "rootfs"#"path": "'"$work"'/plain"#
    s#^\([[:space:]]*\)"sh"$#\1"true"#' "$work/bundle/config.json"
for ((i = -1; i < RUNS * 20; i++)); do
    [ $i != 0 ] || rm "$work/with.us" "$work/without.us"
    timed "$work/with.us" "$crun" run -b "$work/bundle" crun-qemu-bench-ordinary
    timed "$work/without.us" "$work/without/crun" run -b "$work/bundle" crun-qemu-bench-ordinary
done

say "from podman run to the exec of a plain container's process"
for ((i = -1; i < RUNS; i++)); do
    [ $i != 0 ] || rm "$work/plain.us"
    until_exec "$work/plain.us" bench-idle /bin/busybox "$work/plain/bin/busybox" "${plain[@]}"
    podman rm -f -t 0 $PLAIN >/dev/null
done

say "from podman run to the exec of QEMU"
for ((i = -1; i < RUNS; i++)); do
    [ $i != 0 ] || rm "$work/vm.us"
    until_exec "$work/vm.us" qemu-system-x86 /crun-qemu/image "$work/vm/disk.qcow2" "${vm[@]}"
    podman rm -f -t 0 $VM >/dev/null
done

say "our execs before QEMU's"
# execs COMMAND...: what was executed, in order, by name.
execs() {
    strace -f -qq -e trace=execve -e signal=none -o "$work/strace" "$@" >/dev/null 2>&1 </dev/null &
    local tracer=$!
    sleep 4
    podman rm -f -i -t 0 $VM $PLAIN >/dev/null
    wait $tracer || :
    sed -n 's/.*execve("\([^"]*\)".* = 0$/\1/p; s/.*<... execve resumed>.* = 0$/?/p' "$work/strace" |
        sed 's#.*/##' | sed '/^\(qemu-system-.*\|bench-idle\)$/,$d'
}
execs "${plain[@]}" | sort > "$work/plain.execs"
execs "${vm[@]}" | sort > "$work/vm.execs"
ours=$(comm -13 "$work/plain.execs" "$work/vm.execs" | tr '\n' ' ')

# boots: the VM, and waits until the guest is there.
boots() {
    "${vm[@]}" >/dev/null
    local follower status=0
    exec 3< <(exec timeout $BOOT_SECONDS podman logs -f $VM 2>&1)
    follower=$!
    grep -q -m1 "TINY READY" <&3 || status=1
    kill $follower 2>/dev/null || :
    exec 3<&-
    [ $status = 0 ] || die "the guest did not boot within $BOOT_SECONDS s"
    sleep 1
}
say "podman exec"
"${plain[@]}" >/dev/null
for i in 1 2 3; do
    boots
    if [ $i = 1 ]; then
        pid=$(podman inspect --format '{{.State.Pid}}' $VM)
        dir=$(podman inspect --format '{{.StaticDir}}' $VM)/crun-qemu
        # Every process of the container but QEMU, and conmon. What other VMs map too counts by its share only.
        : > "$work/memory"
        for p in $(awk '/^PPid:/ { print $2 }' "/proc/$pid/status") "$pid" $(pgrep -P "$pid" || :); do
            name=$(cat "/proc/$p/comm")
            case $name in qemu-system*) continue ;; esac
            awk -v name="$name" '/^Pss:/ { pss = $2 } /^Private_Dirty:/ { dirty = $2 } END { print name, pss, dirty }' \
                "/proc/$p/smaps_rollup" >> "$work/memory"
        done
        stored=$(du -sk "$dir" | cut -f1)
        ssh=(nsenter -t "$pid" -n ssh -F none -i "$dir/root/crun-qemu/ssh/id" -o BatchMode=yes
            -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null root@10.0.99.2 true)
        timed "$work/ssh.warm" "${ssh[@]}"
        for ((n = 0; n < RUNS; n++)); do timed "$work/ssh.us" "${ssh[@]}"; done
    fi
    timed "$work/first.us" podman exec $VM root true
    for ((n = 0; n < RUNS; n++)); do
        timed "$work/later.us" podman exec $VM root true
        timed "$work/exec.us" podman exec $PLAIN true
    done
    podman rm -f -t 0 $VM >/dev/null
done

m() { median "$work/$1.us"; }
echo
row "tiny guest, $accelerator, $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg), $RUNS runs" "median" "budget"
row "crun run of an ordinary container without the plugin" "$(seconds "$(m without)")" ""
row "                                  with the plugin" "$(seconds "$(m with)")" ""
row "  ratio" "$(ratio "$(m with)" "$(m without)")" "<= 1.03"
row "podman run to a plain container's exec" "$(seconds "$(m plain)")" ""
row "podman run to QEMU's exec" "$(seconds "$(m vm)")" ""
row "  difference" "$(seconds $(($(m vm) - $(m plain))))" "<= 0.15 s"
row "our execs before QEMU's" "$(wc -w <<<"$ours")" "<= 4"
echo "    $ours"
while read -r name pss dirty; do row "PSS, private dirty of $name" "$(mib "$pss")" "$(mib "$dirty")"; done < "$work/memory"
row "  sum of PSS" "$(mib "$(awk '{ s += $2 } END { print s }' "$work/memory")")" "<= 28 MB"
row "  sum of private dirty" "$(mib "$(awk '{ s += $3 } END { print s }' "$work/memory")")" "<= 10 MB"
row "  processes beside QEMU" "$(wc -l < "$work/memory")" "<= 2"
row "stored for the VM, image of $(du -k "$work/vm/disk.qcow2" | cut -f1) KiB" "$stored KiB" "overlay, seed"
row "podman exec of true in a plain container" "$(seconds "$(m exec)")" ""
row "ssh into the guest by hand, connection and command" "$(seconds "$(m ssh)")" ""
row "podman exec of true in the VM, first" "$(seconds "$(m first)")" ""
row "  less plain podman exec and ssh by hand" "$(seconds $(($(m first) - $(m exec) - $(m ssh))))" "<= 0.3 s"
row "podman exec of true in the VM, later" "$(seconds "$(m later)")" ""
row "  ratio to plain podman exec" "$(ratio "$(m later)" "$(m exec)")" "<= 1.3"
