# shellcheck shell=bash
# Sourced: makes bootable disks from a directory, without loop devices and without mounting anything. W is the working
# directory; the disk is $W/disk.raw.

MIB=1048576

# The kernel brings up one virtual CPU; the others can be brought up by hand. Emulated by QEMU 7.2, a guest whose kernel
# patches its own code while two CPUs run may keep running the old code for ever, in about one boot in 200.
ONE_CPU="maxcpus=1"

# filesystem FIRST_MIB MIB DIR [MKE2FS OPTION...]: makes an ext4 with the files of DIR at an offset in the disk.
filesystem() {
    local first=$1 size=$2 dir=$3; shift 3
    mke2fs -q -t ext4 "$@" -E "offset=$((first * MIB)),assume_storage_prezeroed=1,root_owner=0:0" -d "$dir" "$W/disk.raw" "${size}M"
}

# boot_partition MIB KERNEL INITRD LOADER: makes the disk's first partition, a FAT with these files. The function LOADER adds
# the boot loader.
boot_partition() {
    local size=$1 kernel=$2 initrd=$3 loader=$4 image=$W/boot
    truncate -s "${size}M" "$image"
    mkfs.vfat -n BOOT "$image" >/dev/null
    mcopy -i "$image" "$kernel" ::/vmlinuz
    mcopy -i "$image" "$initrd" ::/initrd.img
    "$loader" "$image"
    dd if="$image" of="$W/disk.raw" bs=1M seek=1 conv=notrunc,sparse status=none
}
syslinux_in() { mcopy -i "$1" "$W/syslinux.cfg" ::/ && syslinux --install "$1"; }
grub_in() { mmd -i "$1" ::/EFI ::/EFI/BOOT && mcopy -i "$1" "$W/bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI; }

# disk_bios MIB DIR KERNEL INITRD CMDLINE [MKE2FS OPTION...]: makes a disk with an MBR, a FAT with SYSLINUX, kernel and initrd,
# and the ext4, which is last so that it can grow with the disk. With an emulated CPU, GRUB takes twice as long to read them.
disk_bios() {
    local size=$1 dir=$2 kernel=$3 initrd=$4 cmdline=$5 boot; shift 5
    boot=$((($(stat -L -c %s "$kernel" "$initrd" | paste -sd+)) / MIB + 4))
    truncate -s "$((size + boot))M" "$W/disk.raw"
    printf '%s\n' "start=1MiB, size=${boot}MiB, type=e, bootable" "start=$((boot + 1))MiB, type=83" |
        sfdisk -q --label dos "$W/disk.raw"
    filesystem $((boot + 1)) $((size - 1)) "$dir" "$@"
    printf '%s\n' 'DEFAULT linux' 'LABEL linux' 'LINUX /vmlinuz' 'INITRD /initrd.img' "APPEND ${cmdline//$'\n'/} $ONE_CPU" > "$W/syslinux.cfg"
    boot_partition "$boot" "$kernel" "$initrd" syslinux_in
    dd if=/usr/lib/syslinux/mbr/mbr.bin of="$W/disk.raw" bs=440 count=1 conv=notrunc status=none
}

# disk_uefi, with the same arguments: makes a disk with a GPT, an EFI system partition with GRUB, kernel and initrd, then the
# ext4. The protective MBR has no boot code, so that only UEFI can boot the disk.
disk_uefi() {
    local size=$1 dir=$2 kernel=$3 initrd=$4 cmdline=$5 esp=64; shift 5
    truncate -s "${size}M" "$W/disk.raw"
    printf '%s\n' "start=1MiB, size=${esp}MiB, type=U" "start=$((esp + 1))MiB, type=L" |
        sfdisk -q --label gpt "$W/disk.raw"
    # The last MiB holds the copy of the GPT.
    filesystem $((esp + 1)) $((size - esp - 2)) "$dir" "$@"
    # The commands name no root: GRUB uses the partition from which the firmware loaded it.
    printf '%s\n' "linux /vmlinuz ${cmdline//$'\n'/} $ONE_CPU" 'initrd /initrd.img' boot > "$W/grub.cfg"
    grub-mkimage -O x86_64-efi -o "$W/bootx64.efi" -p /EFI/BOOT -c "$W/grub.cfg" part_gpt fat linux boot
    boot_partition $esp "$kernel" "$initrd" grub_in
}

# initramfs DIR OUT: makes an initramfs, with LZ4, which the kernel unpacks fastest.
initramfs() { (cd "$1" && find . -print0 | cpio -0 -o -H newc --quiet) | lz4 -l -9 -c > "$2"; }
