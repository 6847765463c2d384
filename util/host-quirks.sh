#!/bin/sh
# Usage: host-quirks.sh COMMAND [ARGUMENT...]
# Runs COMMAND where podman works even on hosts that it cannot cope with by itself; on others it only runs COMMAND.
# For the demo and the tests; nothing of crun-qemu needs it. May be nested: a whole test run shares one namespace.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case ${1-} in '' | -h | --help) . "$here/common.sh"; usage; exit ;; esac
[ "$(id -u)" = 0 ] || exec "$@"

# udev would have done it; without it, users other than root get no tap
[ ! -c /dev/net/tun ] || [ "$(stat -c %a /dev/net/tun)" = 666 ] || chmod 666 /dev/net/tun

# Without CAP_SYS_RESOURCE (bit 24) crun cannot raise limits to podman's defaults for root. The file is copied to where
# every user can read it: users other than root may be entered from here.
if [ $((0x$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status) >> 24 & 1)) = 0 ] && [ -z "${CONTAINERS_CONF-}" ]; then
    CONTAINERS_CONF=/run/crun-qemu-host-quirks.conf
    cmp -s "$here/host-quirks.conf" $CONTAINERS_CONF || install -m 644 "$here/host-quirks.conf" $CONTAINERS_CONF
    export CONTAINERS_CONF
fi

# cgroup v1 with v2 beside it: podman and crun take it for neither
if grep -q '^[^ ]* /sys/fs/cgroup/unified ' /proc/mounts; then
    # shellcheck disable=SC2016 # for the inner shell
    exec unshare -m sh -c 'umount /sys/fs/cgroup/unified && exec "$@"' sh "$@"
fi
exec "$@"
