#!/bin/sh
# Usage: host-quirks.sh COMMAND [ARGUMENT...]
# Runs COMMAND in an environment in which podman works on unusual hosts; on other hosts it only runs COMMAND. For the demo
# and the tests; crun-qemu itself does not need it. May be nested: a whole test run shares one namespace.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case ${1-} in '' | -h | --help) . "$here/common.sh"; usage; exit ;; esac
[ "$(id -u)" = 0 ] || exec "$@"

# udev usually sets this mode; without it, users other than root cannot make a tap.
[ ! -c /dev/net/tun ] || [ "$(stat -c %a /dev/net/tun)" = 666 ] || chmod 666 /dev/net/tun

# Without CAP_SYS_RESOURCE (bit 24) crun cannot raise limits to podman's defaults for root. The file is copied to a place
# that every user can read, because COMMAND may run podman as another user.
if [ $((0x$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status) >> 24 & 1)) = 0 ] && [ -z "${CONTAINERS_CONF-}" ]; then
    CONTAINERS_CONF=/run/crun-qemu-host-quirks.conf
    cmp -s "$here/host-quirks.conf" $CONTAINERS_CONF || install -m 644 "$here/host-quirks.conf" $CONTAINERS_CONF
    export CONTAINERS_CONF
fi

# cgroup v1 with v2 beside it: podman and crun recognise neither.
if grep -q '^[^ ]* /sys/fs/cgroup/unified ' /proc/mounts; then
    # shellcheck disable=SC2016 # for the inner shell
    exec unshare -m sh -c 'umount /sys/fs/cgroup/unified && exec "$@"' sh "$@"
fi
exec "$@"
