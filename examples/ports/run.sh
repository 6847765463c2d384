#!/bin/bash
# Usage: run.sh DIR [VM-OPTION...]
# Boots the disk in DIR with port 80 of the guest published, serves a page in the guest and fetches it from the host.
set -euo pipefail

if [ $# -lt 1 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
dir=$(cd "$1" && pwd)
shift
name=crun-qemu-example-ports
work=$(mktemp -d)
cleanup() {
    podman rm -f -i -t 0 "$name" >/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

echo "A VM whose port 80 is published on a free port of the host:"
# shellcheck disable=SC2086 # two arguments or none
podman run -d --name "$name" ${LABEL:+--label $LABEL} --runtime "${RUNTIME:-/usr/local/bin/crun-qemu}" -p 127.0.0.1::80 \
    --rootfs "$dir" "" "$@"
address=$(podman port "$name" 80/tcp)
echo "$address leads to the guest."

page="Hello from $(podman exec "$name" root uname -n)"
echo "A web server in the guest, busybox or Python:"
podman exec "$name" root sh -c '
    mkdir -p /tmp/www && echo "$1" > /tmp/www/index.html && cd /tmp/www || exit
    if command -v busybox >/dev/null; then exec busybox httpd -p 80
    else setsid python3 -m http.server 80 </dev/null >/dev/null 2>&1 & fi' sh "$page"

echo "The page from $address:"
curl --silent --show-error --fail --retry 30 --retry-delay 1 --retry-all-errors "http://$address/" | tee "$work/page"
[ "$(cat "$work/page")" = "$page" ]
