# shellcheck shell=bash
# systemd: Debian with systemd, networkd and OpenSSH, and neither cloud-init nor Ignition.

recipe() {
    local root=$W/root uuid=5d5d0000-0000-4000-8000-000000005d5d k
    debian_root "$root" "$DEBIAN_PACKAGES"
    debian_configure "$root" $uuid
    echo systemd > "$root/etc/hostname"
    printf '127.0.0.1 localhost systemd\n::1 localhost\n' > "$root/etc/hosts"
    cp -r "$HERE/systemd/root/." "$root"
    k=$(kernel_version "$root")
    "disk_$FIRMWARE" $((FIRMWARE_MIB + 2048)) "$root" "$root/boot/vmlinuz-$k" "$root/boot/initrd.img-$k" \
        "root=UUID=$uuid $CMDLINE" -L systemdroot -U $uuid -m 1 -J size=16
}
