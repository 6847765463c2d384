#!/bin/bash
# Usage: kvm-works.sh
# Succeeds if a guest boots under KVM on this host. A /dev/kvm that opens proves little: in some VMs the firmware runs but
# the guest's kernel hangs. So the script boots the tiny guest, for at most 20 s, and keeps the result until the host
# reboots.
set -euo pipefail
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac

[ -r /dev/kvm ] && [ -w /dev/kvm ] || exit 1
answer=$CACHE/kvm-$(cat /proc/sys/kernel/random/boot_id)
if [ ! -e "$answer" ]; then
    disk=$("$(dirname "$0")/guest.sh" tiny)
    say "testing whether KVM runs guests here (20 s at most, once until this host reboots)"
    rm -f "$CACHE"/kvm-*
    exec 3< <(exec timeout -k 2 20 qemu-system-x86_64 -accel kvm -cpu host -m 256 -nodefaults -display none \
        -serial stdio -drive "file=$disk,if=virtio,snapshot=on" </dev/null 2>/dev/null)
    vm=$!
    if grep -aq -m1 "TINY READY" <&3; then echo yes; else echo no; fi > "$answer.new"
    kill $vm 2>/dev/null || :
    mv "$answer.new" "$answer"
fi
[ "$(cat "$answer")" = yes ]
