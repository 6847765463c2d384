# shellcheck shell=bash disable=SC2034 # used by the recipes
# Sourced: trees of Debian with systemd, for guests. They are slimmed, because without KVM each unit and generator costs boot
# time.

# The packages that all these guests have.
DEBIAN_PACKAGES=linux-image-cloud-amd64,systemd-sysv,udev,dbus,kmod,tiny-initramfs,gzip,openssh-server
DEBIAN_PACKAGES=$DEBIAN_PACKAGES,sudo,iproute2,iputils-ping,netbase,procps,less,ca-certificates

CMDLINE="rw console=ttyS0,115200 quiet mitigations=off apparmor=0 audit=0 nokaslr norandmaps tsc=reliable
    cryptomgr.notests random.trust_cpu=on fsck.mode=skip"

# suite: prints the release of Debian: the host's, unless a recipe sets another.
suite() { echo "${SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}"; }

# sources: prints lines for apt, with that release from the archive that the host's apt uses.
sources() {
    apt_lists
    local suite
    suite=$(suite)
    if [ -n "${SUITE-}" ]; then
        apt_archives | awk -v s="$suite" '$2 !~ /-/ { print "deb", $1, s, "main"; exit }'
        return
    fi
    apt_archives | awk -v s="$suite" '$2 == s || $2 == s "-security" || $2 == s "-updates" { print "deb", $1, $2, "main" }'
}

# debian_root DIR PACKAGES [FIRST]: makes a Debian tree with the packages (comma-separated). The files in FIRST are copied
# into it first.
debian_root() {
    local root=$1 packages=$2 pre=$W/pre suite
    suite=$(suite)
    mkdir -p "$pre" "$CACHE/debs"
    cp -r "$HERE/debian/pre/." "$pre"
    [ -z "${3-}" ] || cp -r "$3/." "$pre"
    say "mmdebstrap $suite"
    # shellcheck disable=SC2016 # $1 is mmdebstrap's
    sources | mmdebstrap --mode=root --variant=minbase --quiet \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Check-Date "false"' \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
        --dpkgopt=force-unsafe-io --dpkgopt=force-confold \
        --include="$packages" --skip=essential/unlink --skip=cleanup/apt \
        --setup-hook='mkdir -p "$1/var/cache/apt/archives"; cp -a '"$CACHE"'/debs/*.deb "$1/var/cache/apt/archives/" 2>/dev/null || :' \
        --setup-hook='cp -r '"$pre"'/. "$1/"' \
        --customize-hook='cp -an "$1"/var/cache/apt/archives/*.deb '"$CACHE"'/debs/ || :; rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' \
        "$suite" "$root" - >&2 2>"$W/mmdebstrap.log" || { tail -40 "$W/mmdebstrap.log" >&2; die "mmdebstrap failed"; }
}

# debian_configure DIR UUID: configures what all guests have in common. UUID names the root file system.
debian_configure() {
    local root=$1 system=$1/etc/systemd/system g
    rm -f "$root"/usr/sbin/policy-rc.d "$root"/etc/ssh/ssh_host_* "$root"/var/lib/dbus/machine-id "$root"/etc/resolv.conf
    : > "$root/etc/machine-id"
    echo "UUID=$2 / ext4 defaults,noatime 0 0" > "$root/etc/fstab"
    cp -r "$HERE/debian/root/." "$root"
    ln -s ../run/resolv.conf "$root/etc/resolv.conf"
    ln -sf /lib/systemd/system/multi-user.target "$system/default.target"
    rm -f "$system/getty.target.wants/getty@tty1.service"
    wants "$root" getty.target serial-getty@.service serial-getty@ttyS0.service
    wants "$root" multi-user.target systemd-networkd.service
    wants "$root" multi-user.target lease-resolver.path
    mkdir -p "$root/etc/systemd/system-generators"
    for g in bless-boot cryptsetup debug gpt-auto hibernate-resume integritysetup rc-local run system-update sysv veritysetup; do
        ln -sf /dev/null "$root/etc/systemd/system-generators/systemd-$g-generator"
    done
    mask "$root" apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service dpkg-db-backup.timer \
        e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pstore.service apparmor.service man-db.timer \
        systemd-update-utmp-runlevel.service systemd-update-utmp.service getty-static.service \
        dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount dev-mqueue.mount \
        sys-fs-fuse-connections.mount sys-kernel-config.mount modprobe@drm.service modprobe@dm_mod.service \
        modprobe@loop.service modprobe@configfs.service modprobe@fuse.service modprobe@efi_pstore.service \
        systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-random-seed.service \
        systemd-journal-flush.service systemd-sysusers.service systemd-hwdb-update.service kmod-static-nodes.service \
        systemd-ask-password-console.path systemd-ask-password-wall.path systemd-modules-load.service \
        systemd-repart.service systemd-boot-system-token.service systemd-network-generator.service \
        systemd-tmpfiles-clean.timer cryptsetup.target integritysetup.target veritysetup.target
}

# wants DIR TARGET UNIT [NAME]: makes TARGET want UNIT.
wants() {
    mkdir -p "$1/etc/systemd/system/$2.wants"
    ln -sf "/lib/systemd/system/$3" "$1/etc/systemd/system/$2.wants/${4-$3}"
}

# mask DIR UNIT...: masks units.
mask() {
    local root=$1 u; shift
    for u; do ln -sf /dev/null "$root/etc/systemd/system/$u"; done
}

# kernel_version DIR: prints the version of the kernel in DIR.
kernel_version() { basename "$1"/boot/vmlinuz-* | sed 's/^vmlinuz-//'; }
