# shellcheck shell=bash
# ignition: Debian with systemd, networkd and OpenSSH. On the first boot, Debian's ignition runs from a busybox initramfs,
# before the root is entered. It reads its configuration from fw_cfg opt/com.coreos/config.

MODULES="virtio_pci virtio_blk virtio_scsi sd_mod ext4 virtio_net virtio-rng qemu_fw_cfg"

# The initramfs has busybox and modules only. ignition, useradd and their libraries run from the mounted root.
ignition_initramfs() {
    local root=$1 k=$2 i=$W/initramfs n=10 m f
    mkdir -p "$i"/{bin,modules,dev,proc,sys,run,sysroot,tmp,etc,var/log}
    cp -r "$HERE/ignition/initramfs/." "$i"
    cp "$root/bin/busybox" "$i/bin/"
    ln -s busybox "$i/bin/sh"
    # The modules are numbered in the order of loading.
    for m in $MODULES; do modprobe -d "$root" -S "$k" --show-depends "$m" | awk '/^insmod/ { print $2 }'; done |
        awk '!seen[$0]++' | while read -r f; do cp "$f" "$i/modules/$n-${f##*/}"; n=$((n + 1)); done
    initramfs "$i" "$W/initrd.img"
}

recipe() {
    local root=$W/root uuid=19100000-0000-4000-8000-000000000191 k
    debian_root "$root" "$DEBIAN_PACKAGES,busybox-static,ignition,passwd"
    debian_configure "$root" $uuid
    echo ignition > "$root/etc/hostname"
    printf '127.0.0.1 localhost ignition\n::1 localhost\n' > "$root/etc/hosts"
    cp -r "$HERE/ignition/root/." "$root"
    chmod 440 "$root/etc/sudoers.d/nopasswd"
    touch "$root/boot/ignition.firstboot"
    k=$(kernel_version "$root")
    ignition_initramfs "$root" "$k"
    rm -f "$root"/boot/initrd.img-*
    "disk_$FIRMWARE" $((FIRMWARE_MIB + 2048)) "$root" "$root/boot/vmlinuz-$k" "$W/initrd.img" \
        "root=UUID=$uuid $CMDLINE" -L ignitionroot -U $uuid -m 1 -J size=16
}
