# shellcheck shell=bash disable=SC2154,SC2034,SC2153 # the variables are shared with bench.sh and lib.sh
# The memory of one VM: beside QEMU, by mapping, and the memory that the guest returns to the host.

# by_mapping PID: prints PSS and private dirty memory in KiB by mapped file, the largest first.
by_mapping() {
    awk '/^[0-9a-f]+-[0-9a-f]+ / { name = NF > 5 ? $6 : "anonymous"; sub(/.*\//, "", name) }
        /^Pss:/ { pss[name] += $2 } /^Private_Dirty:/ { dirty[name] += $2 }
        END { for (name in pss) print pss[name], dirty[name], name }' "/proc/$1/smaps" | sort -rn
}

measure_memory() {
    say "memory: beside QEMU, and what the guest gives back"
    local dir
    record image "$(du -k "$work/vm/disk.qcow2" | cut -f1)"
    for ((round = 0; round < BOOTS; round++)); do
        remove "$NAME-vm" "$NAME-plain"
        boots "${vm[@]}"
        beside "$pid" > "$work/beside"
        by_mapping "$pid" > "$work/mappings"
        dir=$(podman inspect --format '{{.StaticDir}}' "$NAME-vm")/crun-qemu
        record beside.pss "$(sum 2 1024 < "$work/beside")"
        record beside.dirty "$(sum 3 1024 < "$work/beside")"
        record beside.processes "$(wc -l < "$work/beside")"
        record stored "$(du -sk "$dir" | cut -f1)"
        given_back "$pid" "$qemu"
    done
    round=0
    # The exec section can use this VM.
}

# given_back PID QEMU: records QEMU's memory while the guest has a file in a tmpfs, and after it has removed the file.
given_back() {
    local full=160 holding after
    [ -z "$SMOKE" ] || full=64
    key_of "$1"
    by_hand "$1" "modprobe virtio_balloon; mkdir -p /mnt/t && mount -t tmpfs -o size=1g t /mnt/t && dd if=/dev/zero of=/mnt/t/f bs=1M count=$full 2>/dev/null" <&6
    holding=$(rss "$2")
    by_hand "$1" "rm /mnt/t/f && umount /mnt/t && sync && echo 3 > /proc/sys/vm/drop_caches" <&6
    # The guest reports pages that have been free for two seconds, a part at a time.
    sleep "$([ -n "$SMOKE" ] && echo 2 || echo 12)"
    after=$(rss "$2")
    record rss.full "$holding"
    record rss.after "$after"
    record given.back "$(awk -v f="$holding" -v a="$after" -v n=$full 'BEGIN { printf "%.3f", (f - a) / n }')"
}

rows_memory() {
    row beside_pss MiB "<= 26.7" "beside QEMU, one VM: PSS (28 MB)" median beside.pss
    row beside_dirty MiB "<= 9.54" "beside QEMU, one VM: private dirty (10 MB)" median beside.dirty
    row beside_processes "" "<= 2" "beside QEMU: processes" median beside.processes
    local name pss dirty
    while read -r name pss dirty; do note "$name: PSS $pss KiB, private dirty $dirty KiB"; done < "$work/beside"
    note "the supervisor's mappings (PSS/private dirty, KiB):"
    head -9 "$work/mappings" | while read -r pss dirty name; do note "  $name $pss/$dirty"; done
    row stored KiB "" "stored for a VM (image: $(cat "$work/samples/image") KiB)" median stored
    row rss_full MiB "" "QEMU's memory with a file in the guest's tmpfs (RSS)" median rss.full
    row rss_after MiB "" "  when the guest has removed it" median rss.after
    row given_back x "" "  of the file's size given back" median given.back
}
