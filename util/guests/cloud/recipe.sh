# shellcheck shell=bash
# cloud: Debian with cloud-init (NoCloud), systemd, networkd and OpenSSH, as in Debian's cloud images.

recipe() {
    local root=$W/root uuid=c10d0000-0000-4000-8000-00000000c10d k
    debian_root "$root" "$DEBIAN_PACKAGES,cloud-init,cloud-guest-utils"
    debian_configure "$root" $uuid
    echo localhost > "$root/etc/hostname"
    printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n' > "$root/etc/hosts"
    cp -r "$HERE/cloud/root/." "$root"
    rm -f "$root/etc/cloud/cloud.cfg.d/90_dpkg.cfg"
    # The list of data sources is fixed, so this probe is not needed: a probe that cannot be executed counts as "found".
    chmod 644 "$root/usr/lib/cloud-init/ds-identify"
    wants "$root" network-online.target systemd-networkd-wait-online.service
    mask "$root" cloud-init-hotplugd.socket
    k=$(kernel_version "$root")
    "disk_$FIRMWARE" $((FIRMWARE_MIB + 2048)) "$root" "$root/boot/vmlinuz-$k" "$root/boot/initrd.img-$k" \
        "root=UUID=$uuid $CMDLINE" -L cloudroot -U $uuid -m 1 -J size=16
}
