# shellcheck shell=bash disable=SC2154 # the variables are bench.sh's and lib.sh's
# Disk, directory and network of a guest of ours against the same devices by hand: the same QEMU command line, the same
# virtiofsd, such a tap. Both guests are up, and asked in turns. By busybox's dd, tar and httpd in the tiny guest.

measure_io() {
    say "io: disk, virtiofs and network, against the same devices by hand"
    remove $NAME-vm $NAME-plain
    local mib=64 files=100 a b turn listener
    [ -z "$SMOKE" ] || mib=8 files=30
    mkdir -p "$work/share" "$work/share.bare"
    boots "${plugin[@]}" --name $NAME-vm -v "$work/share:/share" --rootfs "$work/vm" "" "${options[@]}"
    a=$pid
    key_of "$a"
    bare_template "$qemu"
    bare_virtiofsd "$a"
    bare_start 0
    echo "$virtiofsd" >> "$bare_dir/pids"
    bare_ready "$bare_dir"
    head -c $((mib << 20)) /dev/zero > "$work/bytes"
    b=$bare_ns
    for pid in "$a" "$b"; do
        by_hand "$pid" "modprobe virtiofs; mkdir -p /share; mount -t virtiofs /share /share && mkdir -p /share/small /run/small
            dd if=/dev/zero of=/run/bytes bs=1M count=$mib 2>/dev/null; httpd -p 5002 -h /run; mkfifo /run/open
            for i in \$(seq $files); do head -c 1000 /dev/urandom > /run/small/\$i; done
            until grep -q ' /disk ' /proc/mounts; do usleep 100000; done" <&6
    done
    for round in $(rounds); do
        for turn in $([ $((round % 2)) = 0 ] && echo ours bare || echo bare ours); do
            pid=$a
            [ $turn = ours ] || pid=$b
            dd_of "disk.write.$turn" "if=/dev/zero of=/disk/f bs=1M count=$((mib / 2)) oflag=direct conv=fsync"
            dd_of "disk.read.$turn" "if=/disk/f of=/dev/null bs=1M iflag=direct"
            dd_of "disk.small.$turn" "if=/disk/f of=/dev/null bs=4k count=$((mib * 8)) iflag=direct"
            dd_of "share.write.$turn" "if=/dev/zero of=/share/f bs=1M count=$mib conv=fsync"
            dd_of "share.read.$turn" "if=/share/f of=/dev/null bs=1M iflag=direct"
            in_guest "share.small.$turn" "tar -C /run -cf - small | tar -C /share -xf - && tar -C /share -cf /dev/null small"
            timed "net.out.$turn" nsenter -t "$pid" -n busybox wget -q -O /dev/null http://10.0.99.2:5002/bytes
            # 5003 is 138B in hexadecimal
            by_hand "$pid" "[ \$(nc -l -p 5003 <>/run/open | wc -c) = $((mib << 20)) ]" <&6 &
            listener=$!
            by_hand "$pid" "until grep -q ':138B .* 0A ' /proc/net/tcp*; do usleep 20000; done" <&6
            timed "net.in.$turn" sent "$listener" nsenter -t "$pid" -n busybox nc 10.0.99.2 5003 6< "$work/bytes"
        done
    done
    round=0
    record io.mib $mib
    record io.files $files
    bare_end 0
    remove $NAME-vm
    overlays
}

# sent PID COMMAND...: until the command's end and that of PID, who takes what it sends.
sent() {
    local of=$1; shift
    "$@" && wait "$of"
}
# dd_of NAME ARGUMENTS: how long dd takes. (busybox's does not say.)
dd_of() { in_guest "$1" "dd $2 2>/dev/null"; }
# in_guest NAME COMMAND: how long COMMAND takes, by the guest's clock.
in_guest() {
    local took
    took=$(by_hand "$pid" "a=\$(cut -d' ' -f1 /proc/uptime); { $2; } >/dev/null && echo \$a \$(cut -d' ' -f1 /proc/uptime)" <&6) ||
        die "$2: failed"
    record "$1" "$(awk '{ printf "%.3f", $2 - $1 + 0.001 }' <<<"$took")"
}
# bare_virtiofsd PID: the virtiofsd of the VM whose supervisor is PID, again, for the bare guest.
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

# overlays: QEMU's exec and what is stored, with a small image and one of 10 GiB.
overlays() {
    mkdir -p "$work/small" "$work/large"
    qemu-img convert -O raw "$disk" "$work/small/disk.raw"
    cp --sparse=always "$work/small/disk.raw" "$work/large/disk.raw"
    truncate -s 10G "$work/large/disk.raw"
    local size
    for round in $(rounds); do
        for size in small large; do
            until_exec "overlay.$size" qemu-system-x86 guest= /crun-qemu/image "$work/$size/disk.raw" \
                "${plugin[@]}" --name $NAME-vm --rootfs "$work/$size" "" "${options[@]}" --format raw
            record "stored.$size" "$(du -k "/proc/$pid/root/crun-qemu/overlay.qcow2" | cut -f1)"
            remove $NAME-vm
        done
    done
    round=0
}

rows_io() {
    local mib files what
    mib=$(cat "$work/samples/io.mib") files=$(cat "$work/samples/io.files")
    for what in "disk.write:disk: $((mib / 2)) MiB written directly and flushed" "disk.read:disk: $((mib / 2)) MiB read directly" \
        "disk.small:disk: $((mib * 8)) reads of 4 KiB" "share.write:virtiofs: $mib MiB written and flushed" \
        "share.read:virtiofs: $mib MiB read directly" "share.small:virtiofs: $files files of 1000 bytes unpacked and read" \
        "net.out:network: $mib MiB over TCP out of the guest" "net.in:network: $mib MiB over TCP into the guest"; do
        row "$(tr . _ <<<"${what%%:*}")_bare" s "" "${what#*:}, by hand" median "${what%%:*}.bare"
        row "$(tr . _ <<<"${what%%:*}")_ours" s "" "  with us" median "${what%%:*}.ours"
        row "$(tr . _ <<<"${what%%:*}")_ratio" x ">= 0.95" "  throughput, ours to by hand" ratio "${what%%:*}.bare" "${what%%:*}.ours"
    done
    row overlay_small s "" "podman run to QEMU's exec, image of 128 MiB" median overlay.small
    row overlay_large s "" "podman run to QEMU's exec, image of 10 GiB" median overlay.large
    row overlay_ratio x "" "  ratio" ratio overlay.large overlay.small
    row stored_small KiB "" "overlay on disk, image of 128 MiB" median stored.small
    row stored_large KiB "" "overlay on disk, image of 10 GiB" median stored.large
}
