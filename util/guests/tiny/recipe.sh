# shellcheck shell=bash
# tiny: Debian's cloud kernel with busybox and dropbear in an initramfs. Users root and tiny, a shell on ttyS0.
# The disk, which keeps what is written, is mounted at /disk.

PACKAGES="busybox-static dropbear-bin openssh-sftp-server libtomcrypt1 libtommath1 libgmp10 libcrypt1 zlib1g libc6"
LIBRARIES="libtomcrypt.so.1 libtommath.so.1 libgmp.so.10 libcrypt.so.1 libz.so.1 libc.so.6"
MODULES="virtio_pci virtio_blk virtio_net virtio_console virtio-rng virtio_scsi virtio_balloon virtiofs button evdev
    qemu_fw_cfg isofs vfat nls_ascii nls_cp437 nls_utf8 sd_mod sr_mod ata_piix overlay loop squashfs
    vmw_vsock_virtio_transport vsock crc32c_generic pvpanic-mmio"
CMDLINE="console=ttyS0,115200 quiet mitigations=off apparmor=0 audit=0 nokaslr norandmaps tsc=reliable
    cryptomgr.notests random.trust_cpu=on net.ifnames=0 panic=-1"

# unpack_packages DIR PACKAGE...: unpacks packages from the cache or the host's archive into DIR; nothing is installed.
unpack_packages() {
    local dir=$1 debs deb; shift
    mkdir -p "$CACHE/debs"
    debs=$(apt-get -q --print-uris download "$@" | awk '{ print $2 }')
    for deb in $debs; do
        [ -s "$CACHE/debs/$deb" ] || (cd "$W" && apt-get -q -o APT::Sandbox::User=root download "${deb%%_*}" >/dev/null &&
            mv "$deb" "$CACHE/debs/") || die "${deb%%_*}: download failed (apt-get update?)"
        dpkg-deb --fsys-tarfile "$CACHE/debs/$deb" | tar -x -C "$dir" --keep-directory-symlink --exclude=./usr/share
    done
}

# one DIR NAME: prints the path of NAME below DIR, wherever this release of Debian has it.
one() { find "$1" -name "$2" ! -type d | sort | head -1 | grep . || die "$2: not in the packages"; }

# modules FROM TO KERNEL: copies the modules and their dependencies.
modules() {
    local from=$1 to=$2 k=$3 m f d
    depmod -b "$from" "$k"
    for m in $MODULES; do modprobe -d "$from" -S "$k" --show-depends "$m" 2>/dev/null | awk '/^insmod/ { print $2 }' || :; done |
        sort -u | while read -r f; do d=$to/${f#"$from"/}; mkdir -p "${d%/*}"; cp "$f" "$d"; done
    cp "$from/lib/modules/$k"/modules.builtin* "$from/lib/modules/$k/modules.order" "$to/lib/modules/$k/"
    depmod -b "$to" "$k"
    (cd "$to/lib/modules/$k" && rm -f ./*.bin modules.builtin.modinfo modules.order modules.devname modules.softdep)
}

# tree FROM TO KERNEL: makes the tree of the initramfs.
tree() {
    local from=$1 to=$2 k=$3 a l busybox
    mkdir -p "$to"/{bin,sbin,etc/dropbear,proc,sys,dev/pts,run,tmp,root,home/tiny,mnt,disk,var/log} \
        "$to"/usr/{bin,sbin,lib} "$to"/lib/x86_64-linux-gnu "$to"/lib64
    cp -r "$HERE/tiny/root/." "$to"
    chown -R 0:0 "$to"
    chmod 1777 "$to/tmp"
    chmod 700 "$to/root"
    chown 1000:1000 "$to/home/tiny"
    printf 'root:*:19000:0:99999:7:::\ntiny:*:19000:0:99999:7:::\n' > "$to/etc/shadow"
    chmod 600 "$to/etc/shadow"
    printf 'NAME="tiny"\nID=tiny\nVERSION_ID=1\nPRETTY_NAME="tiny (Debian kernel %s)"\n' "$k" > "$to/etc/os-release"

    busybox=$(one "$from" busybox)
    cp "$busybox" "$to/bin/busybox"
    for a in $("$to/bin/busybox" --list); do [ "$a" = busybox ] || ln -s /bin/busybox "$to/bin/$a"; done
    for a in init poweroff reboot halt modprobe insmod udhcpc; do ln -sf /bin/busybox "$to/sbin/$a"; done
    rm "$to/bin/su"
    cp "$busybox" "$to/bin/su"
    chmod 4755 "$to/bin/su"
    ln -s /sbin/init "$to/init"

    cp "$(one "$from" dropbear)" "$to/usr/sbin/"
    cp "$(one "$from" dropbearkey)" "$to/usr/bin/"
    cp "$(one "$from" sftp-server)" "$to/usr/lib/"
    for l in $LIBRARIES; do cp -L "$(one "$from" "$l")" "$to/lib/x86_64-linux-gnu/$l"; done
    cp -L "$(one "$from/usr" ld-linux-x86-64.so.2)" "$to/lib64/"
    modules "$from" "$to" "$k"
}

# tiny MIB: makes the guest, with a disk of that size that holds the files of $W/disk.
tiny() {
    apt_lists
    local kernel_package k
    kernel_package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
    k=${kernel_package#linux-image-}
    say "tiny: $kernel_package and busybox"
    # /usr is merged, as in newer packages.
    mkdir -p "$W/packages/usr/lib" "$W/disk"
    ln -s usr/lib "$W/packages/lib"
    # shellcheck disable=SC2086
    unpack_packages "$W/packages" "$kernel_package" $PACKAGES
    tree "$W/packages" "$W/root" "$k"
    initramfs "$W/root" "$W/initrd.img"
    "disk_$FIRMWARE" $((FIRMWARE_MIB + $1)) "$W/disk" "$W/packages/boot/vmlinuz-$k" "$W/initrd.img" "$CMDLINE" \
        -L tinydisk -O ^metadata_csum,^64bit -J size=4 -m 0
}

recipe() { tiny 128; }
