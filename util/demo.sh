#!/bin/bash
# Usage: demo.sh
# Boots the tiny guest with podman and crun. Everything must be installed, as `make demo` does. On a terminal, the terminal
# becomes the guest's console. Otherwise the script shows the boot, runs commands in the guest, stops it, and succeeds only
# if all of that worked.
set -euo pipefail
. "$(dirname "$0")/common.sh"
case ${1-} in -h | --help) usage; exit ;; esac
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || die "root is needed: sudo make demo"
NAME=crun-qemu-demo
BOOT_SECONDS=180

# On hosts that need a namespace, everything below runs in one.
[ -n "${CRUN_QEMU_DEMO_INSIDE-}" ] || CRUN_QEMU_DEMO_INSIDE=1 exec "$here/host-quirks.sh" "$0" "$@"

disk=$("$here/guest.sh" tiny)
if "$here/kvm-works.sh"; then
    accelerator=KVM options=()
else
    accelerator="TCG (emulation: no guest runs under KVM here)" options=(--emulated)
fi

podman rm -f -i -t 0 $NAME >/dev/null
# The container's root: a directory that holds only the disk. The hard link costs no space.
root=$CACHE/demo/root
rm -rf "$CACHE/demo"
mkdir -p "$root"
ln "$disk" "$root/tiny.qcow2"

run=(podman run --name "$NAME" --label crun-qemu-demo --runtime crun --annotation run.oci.handler=qemu)
vm=(--rootfs "$root" "" "${options[@]}")
say "accelerator: $accelerator"

if [ -t 0 ] && [ -t 1 ]; then
    elsewhere=podman
    [ ! -d /sys/fs/cgroup/unified ] && [ -z "${CONTAINERS_CONF-}" ] || elsewhere="$here/host-quirks.sh podman"
    say "the VM's console is this terminal: a root shell, no password; ctrl-] ends the VM"
    say "from another terminal: $elsewhere exec -it $NAME root"
    status=0
    "${run[@]}" --rm -it "${vm[@]}" || status=$?
    # 130 is the status after ctrl-].
    [ $status = 130 ] || exit $status
    exit 0
fi

# On any failure, the VM is removed and the demo fails.
trap 'podman rm -f -i -t 0 $NAME >/dev/null 2>&1 || :' EXIT
trap 'exit 1' HUP INT TERM
step() { say "$*"; "$@" || die "failed: $*"; }

say "${run[*]} -d --log-driver k8s-file --rootfs $root \"\" ${options[*]}"
"${run[@]}" -d --log-driver k8s-file "${vm[@]}" >/dev/null || die "podman run failed"
exec 3< <(exec timeout $BOOT_SECONDS podman logs -f $NAME 2>&1)
logs=$!
ready=
while IFS= read -r line <&3; do
    printf '%s\n' "$line"
    case $line in *"TINY READY"*) ready=1; break ;; esac
done
kill $logs 2>/dev/null || :
exec 3<&-
[ -n "$ready" ] || die "the VM ended or did not boot within $BOOT_SECONDS s"

say "podman exec $NAME root whoami"
who=$(podman exec $NAME root whoami) || die "podman exec failed"
echo "$who"
[ "$who" = root ] || die "whoami in the guest said '$who', not root"
step podman exec $NAME root uname -a
step podman stop -t 60 $NAME
status=$(podman wait $NAME)
[ "$status" = 0 ] || die "the VM ended with status $status"
say "everything worked"
