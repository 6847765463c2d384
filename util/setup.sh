#!/bin/sh
# Usage: setup.sh [run] [build] [test]
# Installs the missing Debian packages for running VMs, for building crun-qemu, and for its tests and test guests (default:
# all three). If nothing is missing, it does nothing and is quick. On other distributions it prints what to install.
set -eu
. "$(dirname "$0")/common.sh"

RUN="podman crun netavark aardvark-dns slirp4netns uidmap fuse-overlayfs catatonit
    libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86 qemu-utils seabios ovmf
    iproute2 iptables openssh-client"
BUILD="libvirt-dev libclang-dev clang pkg-config gcc libc6-dev make"
TEST="shellcheck jq fish tcsh zsh mksh python3 g++ libxml2-dev busybox-static psmisc tmux strace valgrind binutils
    nftables fio iperf3
    mmdebstrap e2fsprogs fdisk syslinux syslinux-common grub-efi-amd64-bin grub-common dosfstools mtools lz4 cpio kmod
    libyajl-dev libseccomp-dev libcap-ng-dev libcap-dev libsystemd-dev gperf autoconf automake libtool dpkg-dev patchelf"

FEDORA_RUN="podman crun netavark aardvark-dns slirp4netns shadow-utils fuse-overlayfs
    libvirt-daemon-driver-qemu qemu-system-x86-core qemu-img seabios-bin edk2-ovmf virtiofsd
    iproute iptables-nft openssh-clients"
FEDORA_BUILD="libvirt-devel clang-devel clang pkgconf-pkg-config gcc make"

# The commands that are needed, whatever the distribution calls their packages.
RUN_COMMANDS="podman crun qemu-img ip ssh"
BUILD_COMMANDS="cc make pkg-config clang"

fedora() {
    # shellcheck disable=SC2086 # lists of words, here and below
    echo "setup.sh: no apt-get here; on Fedora: sudo dnf install" $fedora
    missing=
    for c in $commands; do command -v "$c" >/dev/null || missing="$missing $c"; done
    [ -z "$missing" ] || die "missing commands:$missing"
    exit 0
}

# missing PACKAGE...: prints the packages that are not installed.
missing() {
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
        awk -v want="$*" '$1 == "installed" { have[$2] = 1 }
            END { n = split(want, w, " "); for (i = 1; i <= n; i++) if (!(w[i] in have)) print w[i] }' | sort -u
}

# same_qemu PACKAGE...: prints the packages, with qemu-utils in the version of QEMU's candidate: from another archive
# (backports) it would conflict with the release's QEMU.
same_qemu() {
    version=$(apt-cache policy qemu-system-x86 | awk '$1 == "Candidate:" { print $2 }')
    for p; do
        case $p in
        qemu-system-x86) echo "$p" "qemu-utils=$version" ;;
        qemu-utils) echo "qemu-utils=$version" ;;
        *) echo "$p" ;;
        esac
    done
}

# Up to Debian 12, QEMU's package contains virtiofsd.
[ "$(. /etc/os-release && echo "${VERSION_ID:-0}" | cut -d. -f1)" -le 12 ] || RUN="$RUN virtiofsd"

wanted='' fedora='' commands=''
[ $# -gt 0 ] || set -- run build test
for group; do
    case $group in
    run) wanted="$wanted $RUN" fedora="$fedora $FEDORA_RUN" commands="$commands $RUN_COMMANDS" ;;
    build) wanted="$wanted $BUILD" fedora="$fedora $FEDORA_BUILD" commands="$commands $BUILD_COMMANDS" ;;
    test) wanted="$wanted $TEST" ;;
    -h | --help) usage; exit ;;
    *) die "$group: not one of run, build, test" ;;
    esac
done
command -v apt-get >/dev/null || fedora

# shellcheck disable=SC2086
todo=$(missing $wanted | tr '\n' ' ')
[ -n "$todo" ] || exit 0
[ "$(id -u)" = 0 ] || die "packages are missing: sudo apt-get install --no-install-recommends $todo"

apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2; }
say "installing $todo"
apt update
# shellcheck disable=SC2046,SC2086
apt install -y --no-install-recommends --allow-downgrades $(same_qemu $todo)
