# shellcheck shell=bash disable=SC2154,SC2034,SC2153 # the variables are shared with bench.sh and lib.sh
# Disk, directory and network of a VM, compared with the same devices by hand: the same QEMU command line, the same virtiofsd,
# the same kind of tap. Both guests are up and are measured in turns, by fio, tar and iperf3.

measure_io() {
    say "io: disk, virtiofs and network, against the same devices by hand"
    remove "$NAME-vm" "$NAME-plain"
    local for=3 mib=64 files=300 image=$work/bench/disk.qcow2 a b turn
    [ -z "$SMOKE" ] || for=1 mib=8 files=30
    mkdir -p "$work/share" "$work/share.bare" "$work/bench"
    cp --reflink=auto "$("$here/guest.sh" bench)" "$image"
    boots "${plugin[@]}" --name "$NAME-vm" -v "$work/share:/share" --rootfs "$work/bench" "" "${options[@]}"
    a=$pid
    key_of "$a"
    bare_template "$qemu"
    bare_virtiofsd "$a"
    bare_start 0
    echo "$virtiofsd" >> "$bare_dir/pids"
    bare_ready "$bare_dir"
    b=$bare_ns
    for pid in "$a" "$b"; do
        by_hand "$pid" "modprobe virtiofs; mkdir -p /share; mount -t virtiofs /share /share && mkdir -p /share/small /run/small
            for i in \$(seq $files); do head -c 1000 /dev/urandom > /run/small/\$i; done
            until grep -q ' /disk ' /proc/mounts; do usleep 100000; done; /disk/bin/iperf3 -s -D" <&6
    done
    for round in $(rounds); do
        for turn in $([ $((round % 2)) = 0 ] && echo ours bare || echo bare ours); do
            pid=$a
            [ "$turn" = ours ] || pid=$b
            fio /disk "$turn" disk.write:write:1M disk.read:read:1M disk.random.read:randread:4k disk.random.write:randwrite:4k
            fio /share "$turn" share.write:write:1M share.read:read:1M
            in_guest "share.small.$turn" "tar -C /run -cf - small | tar -C /share -xf - && tar -C /share -cf /dev/null small"
            iperf "net.in.$turn"
            iperf "net.out.$turn" -R
            iperf "net.udp.in.$turn" -u -b 0 -l 1400
            iperf "net.udp.out.$turn" -u -b 0 -l 1400 -R
        done
    done
    round=0
    record io.files $files
    bare_end 0
    remove "$NAME-vm"
    overlays
}

# fio DIRECTORY TURN JOB...: records the MiB/s of each JOB (NAME:KIND:BLOCK), one by one, past the guest's page cache.
fio() {
    local directory=$1 turn=$2 job jobs=() name kind block rate; shift 2
    for job; do
        IFS=: read -r name kind block <<<"$job"
        jobs+=("--name=$name" --stonewall "--rw=$kind" "--bs=$block")
    done
    by_hand "$pid" "/disk/bin/fio --minimal --thread --directory=$directory --filename=fio --size=${mib}M --direct=1 --end_fsync=1 \
        --time_based --runtime=$for ${jobs[*]}" <&6 > "$work/fio" || die "fio: $(tail -3 "$work/fio")"
    # In version 3 of this format, field 7 is the read rate in KiB/s and field 48 the write rate.
    while read -r name rate; do record "$name.$turn" "$rate"; done < <(awk -F ';' '$1 == 3 { printf "%s %.3f\n", $3, ($7 + $48) / 1024 }' "$work/fio")
}
# iperf NAME ARGUMENT...: records the Mbit/s that arrive.
iperf() {
    local name=$1 rate tries=40; shift
    # The server refuses clients until it has finished with the previous one, which takes a while in an emulated guest.
    until nsenter -t "$pid" -n timeout 60 iperf3 -f m -t "$for" -c 10.0.99.2 "$@" <&6 > "$work/iperf" 2>&1; do
        ((tries--)) || die "iperf3: $(tail -3 "$work/iperf")"
        sleep 0.5
    done
    rate=$(awk '$NF == "receiver" { for (i = 2; i < NF; i++) if ($i == "Mbits/sec") print $(i - 1) }' "$work/iperf")
    [ -n "$rate" ] || die "iperf3 says no rate: $(cat "$work/iperf")"
    record "$name" "$rate"
}
# in_guest NAME COMMAND: records how long COMMAND takes, by the guest's clock.
in_guest() {
    local took
    took=$(by_hand "$pid" "a=\$(cut -d' ' -f1 /proc/uptime); { $2; } >/dev/null && echo \$a \$(cut -d' ' -f1 /proc/uptime)" <&6) ||
        die "$2: failed"
    record "$1" "$(awk '{ printf "%.3f", $2 - $1 + 0.001 }' <<<"$took")"
}
# bare_virtiofsd PID: starts a virtiofsd for the guest by hand, like that of the VM whose supervisor is PID.
bare_virtiofsd() {
    local daemon from=() arg command=() socket fd
    daemon=$(pgrep -P "$1" virtiofsd | head -1)
    mapfile -d '' -t from < "/proc/$daemon/cmdline"
    socket=$(printf '%s\n' "${bare_command[@]}" | sed -n 's#.*path=@dir@/\([^,]*\).*#\1#p' | grep -v monitor | head -1)
    for arg in "${from[@]}"; do
        case $arg in
        --fd=*) arg=--socket-path=$work/virtiofs.sock ;;
        source=*,*) arg=source=$work/share.bare,${arg#*,} ;;
        source=*) arg=source=$work/share.bare ;;
        --shared-dir=*) arg=--shared-dir=$work/share.bare ;;
        esac
        command+=("$arg")
    done
    for arg in /usr/libexec/virtiofsd /usr/lib/virtiofsd /usr/{,local/}bin/virtiofsd /usr/local/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do
        [ ! "$arg" -ef "/proc/$daemon/exe" ] || command[0]=$arg
    done
    fd=("${bare_command[@]//@dir@\/$socket/$work/virtiofs.sock}")
    bare_command=("${fd[@]}")
    printf '%s\n' "${command[@]}" > "$work/virtiofsd.command"
    "${command[@]}" >/dev/null 2>"$work/virtiofsd.err" <&6 &
    virtiofsd=$!
    until [ -S "$work/virtiofs.sock" ]; do sleep 0.05; kill -0 $virtiofsd 2>/dev/null || die "virtiofsd: $(cat "$work/virtiofsd.err")"; done
}

# overlays: measures the time to QEMU's exec, and what is stored, with a small image and one of 10 GiB.
overlays() {
    mkdir -p "$work/small" "$work/large"
    qemu-img convert -O raw "$disk" "$work/small/disk.raw"
    cp --sparse=always "$work/small/disk.raw" "$work/large/disk.raw"
    truncate -s 10G "$work/large/disk.raw"
    local size
    for round in $(rounds); do
        for size in small large; do
            until_exec "overlay.$size" qemu-system-x86 guest= /crun-qemu/image "$work/$size/disk.raw" \
                "${plugin[@]}" --name "$NAME-vm" --rootfs "$work/$size" "" "${options[@]}" --format raw
            record "stored.$size" "$(du -k "/proc/$pid/root/crun-qemu/overlay.qcow2" | cut -f1)"
            remove "$NAME-vm"
        done
    done
    round=0
}

rows_io() {
    local what key unit name
    for what in "disk.write:MiB/s:disk: 1 MiB after the other written" "disk.read:MiB/s:disk: read" \
        "disk.random.read:MiB/s:disk: 4 KiB read anywhere" "disk.random.write:MiB/s:disk: 4 KiB written anywhere" \
        "share.write:MiB/s:virtiofs: 1 MiB after the other written" "share.read:MiB/s:virtiofs: read" \
        "share.small:s:virtiofs: $(cat "$work/samples/io.files") files of 1000 bytes unpacked and read" \
        "net.in:Mbit/s:network: TCP into the guest" "net.out:Mbit/s:network: TCP out of the guest" \
        "net.udp.in:Mbit/s:network: UDP that arrives in the guest" "net.udp.out:Mbit/s:network: UDP that arrives from the guest"; do
        IFS=: read -r name unit what <<<"$what"
        key=${name//./_}
        row "${key}_bare" "$unit" "" "$what, by hand" median "$name.bare"
        row "${key}_ours" "$unit" "" "  with us" median "$name.ours"
        # For times, less is better.
        if [ "$unit" = s ]; then set -- "$name.bare" "$name.ours"; else set -- "$name.ours" "$name.bare"; fi
        row "${key}_ratio" x ">= 0.95" "  throughput, ours to by hand" ratio "$@"
    done
    row overlay_small s "" "podman run to QEMU's exec, tiny's image" median overlay.small
    row overlay_large s "" "podman run to QEMU's exec, image of 10 GiB" median overlay.large
    row overlay_ratio x "" "  ratio" ratio overlay.large overlay.small
    row stored_small KiB "" "overlay on disk, tiny's image" median stored.small
    row stored_large KiB "" "overlay on disk, image of 10 GiB" median stored.large
}
