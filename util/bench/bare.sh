# shellcheck shell=bash disable=SC2154,SC2034,SC2153 # the variables are shared with bench.sh and lib.sh
# The same guest by hand: QEMU with the command line that libvirt made for us, in a network namespace with a tap.

# bare_template QEMU: copies the command line and the files of a running VM. It replaces what libvirt holds open or does not
# share: monitor, master key, tap and console.
bare_template() {
    local arg last='' from=() i
    mapfile -d '' -t from < "/proc/$1/cmdline"
    mkdir -p "$work/template"
    for i in seed.img config.ign setup; do
        [ ! -e "/proc/$1/root/crun-qemu/$i" ] || cp "/proc/$1/root/crun-qemu/$i" "$work/template/$i"
    done
    sed -n 's/.*"domain":"\(\([^"\\]\|\\.\)*\)".*/\1/p' "/proc/$1/root/crun-qemu/supervisor.json" | sed 's/\\n/\n/g; s/\\"/"/g' \
        > "$work/template/domain.xml"
    bare_command=()
    for arg in "${from[@]}"; do
        [ "$arg" != -S ] || continue
        case $last$arg in
        -object*'"id":"masterKey0"'*) unset 'bare_command[-1]'; last=''; continue ;;
        -add-fdset=*) unset 'bare_command[-1]'; last=''; continue ;;
        # Files that QEMU has by descriptors: the image, the overlay and the seed disk.
        -blockdev*'"filename":"/dev/fdset/'*'"read-only":false'*) arg=$(named overlay.qcow2) ;;
        -blockdev*'"filename":"/dev/fdset/'*)
            case ${bare_command[*]} in *"$image"*) arg=$(named seed.img) ;; *) arg=$(named image) ;; esac
            ;;
        -chardevsocket,id=charmonitor,*) arg="socket,id=charmonitor,path=@dir@/monitor,server=on,wait=off" ;;
        -chardevsocket,id=charserial0,*) arg="stdio,id=charserial0,signal=off" ;;
        -netdev*'"type":"tap"'*)
            i=$(sed -n 's/.*"id":"\([^"]*\)".*/\1/p' <<<"$arg")
            case $arg in *'"vhost":true'*) last=',"vhost":true' ;; *) last='' ;; esac
            arg="{\"type\":\"tap\",\"ifname\":\"tap0\",\"script\":\"no\",\"downscript\":\"no\",\"id\":\"$i\"$last}" ;;
        esac
        arg=${arg//\/crun-qemu\/image/$image}
        arg=${arg//\/crun-qemu\/overlay.qcow2/@dir@\/overlay.qcow2}
        arg=${arg//\/run\/virtiofs\//@dir@\/}
        bare_command+=("${arg//\/crun-qemu\//$work\/template\/}")
        last=$arg
    done
    bare_group=$(cpu_group "$1")
}

# named FILE: prints $arg with /crun-qemu/FILE in place of the descriptor.
named() { echo "${arg/\/dev\/fdset\/[0-9]/\/crun-qemu\/$1}"; }

# cpu_group PID: prints a directory beside the CPU cgroup of the process's container, or nothing if there is none. On a busy
# host the cgroup decides how much CPU time a process gets, so QEMU by hand must be in such a cgroup too.
cpu_group() {
    local line controllers dir
    line=$(awk -F: '$2 ~ /(^|,)cpu(,|$)/ { v1 = $0 } $2 == "" { v2 = $0 } END { print v1 != "" ? v1 : v2 }' "/proc/$1/cgroup")
    IFS=: read -r _ controllers dir <<<"$line"
    dir=/sys/fs/cgroup/$controllers${dir%/*}
    [ ! -w "$dir/cgroup.procs" ] || echo "$dir/$NAME"
}

# bare_host N: makes directory N with an overlay, and a network namespace with a tap and a DHCP server. Sets `bare_dir` to the
# directory and `bare_ns` to the process that holds the namespace.
bare_host() {
    local dir=$work/bare.$1
    bare_dir=$dir
    mkdir -p "$dir"
    qemu-img create -q -f qcow2 -F qcow2 -b "$image" "$dir/overlay.qcow2"
    unshare -n sleep infinity &
    bare_ns=$!
    echo "$bare_ns" > "$dir/pids"
    until [ "$(readlink /proc/$bare_ns/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
    nsenter -t $bare_ns -n sh -c 'ip link set lo up; ip tuntap add tap0 mode tap vnet_hdr; ip addr add 10.0.99.1/30 dev tap0
        ip link set tap0 up'
    : > "$dir/leases"
    printf '%s\n' "start 10.0.99.2" "end 10.0.99.2" "interface tap0" "lease_file $dir/leases" "pidfile $dir/udhcpd.pid" \
        "option subnet 255.255.255.252" "option router 10.0.99.1" > "$dir/udhcpd.conf"
    nsenter -t $bare_ns -n busybox udhcpd -f "$dir/udhcpd.conf" 2>/dev/null &
    echo $! >> "$dir/pids"
}

# bare_start N: boots guest N, with its console in the file `console` of its directory. Sets `qemu` to QEMU's process, `begun`
# to the time of the start, and `bare_dir` to the directory.
bare_start() {
    bare_host "$1"
    begun=${EPOCHREALTIME/[.,]/}
    # shellcheck disable=SC2016 # for the inner shell
    nsenter -t "$bare_ns" -n sh -c '[ -z "$0" ] || { mkdir -p "$0" && echo $$ > "$0/cgroup.procs"; }; exec "$@"' \
        "${bare_group:+$bare_group-$1}" "${bare_command[@]//@dir@/$bare_dir}" </dev/null 2>"$bare_dir/stderr" > >(stamp "$bare_dir") &
    qemu=$!
    echo "$qemu" >> "$bare_dir/pids"
}
# stamp DIR: records the times of the console's first byte, of the end of the firmware and of the guest's "ready".
stamp() {
    local line
    IFS= read -r -N 1 line || :
    echo "${EPOCHREALTIME/[.,]/}" > "$1/first"
    while IFS= read -r line; do
        case $line in *"Booting from Hard Disk"*) note_time "$1/loader" ;; *"TINY READY"*) note_time "$1/ready" ;; esac
    done
}
note_time() {
    echo "${EPOCHREALTIME/[.,]/}" > "$1.new"
    mv "$1.new" "$1"
}
# libvirt_start: boots the same domain with libvirt's virt-qemu-run, which embeds the driver as our supervisor does; otherwise
# like bare_start. From the run before, which was killed, only the cache of QEMU's capabilities is kept: a leftover domain
# would have to be removed first, possibly while the next one is started.
libvirt_start() {
    bare_host 0
    rm -rf "$work/libvirt/run" "$work/libvirt/lib"
    mkfifo "$bare_dir/console"
    mkdir -p "$work/libvirt/etc"
    # libvirt looks up its usual user, which may not exist here, before it reads the configured one.
    { cat /etc/passwd; echo libvirt-qemu:x:0:0::/:/bin/false; } > "$work/libvirt/etc/passwd"
    { cat /etc/group; echo libvirt-qemu:x:0:; } > "$work/libvirt/etc/group"
    printf '%s\n' 'user = "root"' 'group = "root"' 'cgroup_controllers = []' 'stdio_handler = "file"' > "$work/libvirt/etc/qemu.conf"
    sed "s#/crun-qemu/image#$image#; s#/crun-qemu/overlay.qcow2#$bare_dir/overlay.qcow2#
        s#\"/crun-qemu/#\"$work/template/#; s#dev=\"vm-[0-9a-f]*\"#dev=\"tap0\"#; s#<serial type=\"unix\">#<serial type=\"file\">#
        s# fdgroup=\"[^\"]*\"##; s#<source mode=\"connect\" path=\"[^\"]*\"/>#<source path=\"$bare_dir/console\"/>#" "$work/template/domain.xml" > "$bare_dir/domain.xml"
    stamp "$bare_dir" <>"$bare_dir/console" &
    echo $! >> "$bare_dir/pids"
    begun=${EPOCHREALTIME/[.,]/}
    # shellcheck disable=SC2016 # for the inner shell
    nsenter -t "$bare_ns" -n unshare -m sh -c 'for f in passwd group; do mount --bind "$0/$f" /etc/$f; done; exec "$@"' \
        "$work/libvirt/etc" virt-qemu-run -r "$work/libvirt" "$bare_dir/domain.xml" </dev/null >"$bare_dir/stderr" 2>&1 &
    echo $! >> "$bare_dir/pids"
}
# bare_ready DIR: waits until the guest is ready.
bare_ready() {
    local deadline=$((SECONDS + BOOT_SECONDS))
    until [ -e "$1/ready" ]; do
        if [ $SECONDS -ge $deadline ] || ! kill -0 "$(tail -1 "$1/pids")" 2>/dev/null; then
            die "the guest did not boot within $BOOT_SECONDS s: $(cat "$1/stderr")"
        fi
        sleep 0.1
    done
}
bare_end() {
    local p
    for p in $(pgrep -f -- "$work/bare.$1/" || :) $(tac "$work/bare.$1/pids"); do
        kill -9 "$p" 2>/dev/null || :
        wait "$p" 2>/dev/null || :
    done
    [ -z "${bare_group-}" ] || rmdir "$bare_group-$1" 2>/dev/null || :
    rm -rf "$work/bare.$1"
}
bare_end_all() {
    local dir
    for dir in "$work"/bare.*; do [ ! -e "$dir" ] || bare_end "${dir##*.}"; done
}

# template: makes once what bare_start needs. The guest need not have booted.
template() {
    [ ! -e "$work/template" ] || return 0
    until_exec template qemu-system-x86 guest= /crun-qemu/image "$work/vm/disk.qcow2" "${vm[@]}"
    bare_template "$pid"
    remove "$NAME-vm"
}
