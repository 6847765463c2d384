# shellcheck shell=bash disable=SC2154,SC2034,SC2153 # the variables are shared with bench.sh and lib.sh
# The effect of the choice of firmware: the time until it hands over to the disk's boot loader.

measure_firmware() {
    say "firmware: BIOS and UEFI, the network card with and without its boot ROM"
    remove "$NAME-vm" "$NAME-plain"
    template
    local form deadline without=("${bare_command[@]}")
    mkdir -p "$work/uefi"
    cp --reflink=auto "$("$here/guest.sh" tiny-uefi)" "$work/uefi/disk.qcow2"
    for round in $(rounds); do
        for form in without with; do
            bare_command=("${without[@]}")
            # libvirt's command line disables the card's boot ROM.
            [ $form = without ] || bare_command=("${without[@]//,\"romfile\":\"\"/}")
            bare_start 0
            deadline=$((SECONDS + 60))
            until [ -e "$bare_dir/loader" ]; do
                [ $SECONDS -lt $deadline ] || die "no boot loader: $(cat "$bare_dir/stderr")"
                sleep 0.05
            done
            record "rom.$form" "$(seconds $(($(cat "$bare_dir/loader") - begun)))"
            bare_end 0
        done
        until_loader bios "$work/vm" "Booting from Hard Disk"
        until_loader uefi "$work/uefi" "BdsDxe: starting"
    done
    bare_command=("${without[@]}")
    round=0
}

# until_loader FIRMWARE ROOT TEXT: measures the time from podman run until the console has printed TEXT.
until_loader() {
    begun=$(us)
    "${plugin[@]}" --name "$NAME-vm" --rootfs "$2" "" "${options[@]}" --firmware "$1" >/dev/null
    console_said "$(logs_of vm)" "$3"
    record "loader.$1" "$(seconds $((at - begun)))"
    remove "$NAME-vm"
}

rows_firmware() {
    row rom_with s "" "QEMU by hand to the boot loader, the card with its ROM" median rom.with
    row rom_without s "" "  without, as here" median rom.without
    row loader_uefi s "" "podman run to the boot loader, UEFI" median loader.uefi
    row loader_bios s "" "  BIOS, which is chosen where the disk allows it" median loader.bios
}
