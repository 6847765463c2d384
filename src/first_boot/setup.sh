# KIND WHAT HOW PATH …: what the container was given, for the guest.
d=/run/crun-qemu
umask 022
mkdir -p $d
chmod 700 $d
failed() { echo "crun-qemu: $path: $1" > /dev/console; }
parent() { case $path in /*/*) mkdir -p "${path%/*}";; esac; }
# Whether WHAT is mounted as that TYPE at PATH: systemd does it by credentials, and the user may have done it.
mounted() {
    while read -r from at type _; do
        [ "$type" = "$2" ] && [ "$(printf '%b.' "$from")" = "$1." ] && [ "$(printf '%b.' "$at")" = "$3." ] && return
    done < /proc/mounts
    false
}
files() { mounted crun-qemu-files virtiofs $d/files || { mkdir -p $d/files && mount -t virtiofs crun-qemu-files $d/files; }; }
over() { [ "$path" -ef "$1" ] && return; parent; [ -e "$path" ] || : > "$path"; mount --bind "$1" "$path" && { [ "$how" = rw ] || mount -o "remount,bind,$how" "$path"; }; }
share() { mkdir -p "$path" && { mounted "$what" virtiofs "$path" || mount -t virtiofs -o "$how" "$what" "$path"; }; }
file() { files && over "$d/files/$what"; }
secret() { files && mkdir -p -m 700 $d/secrets && (umask 077 && cat "$d/files/$what" > "$d/secrets/$what") &&
    chmod 400 "$d/secrets/$what" && chown "$(stat -c %u:%g "$d/files/$what")" "$d/secrets/$what" && over "$d/secrets/$what"; }
tmpfs() {
    mkdir -p "$path" || return
    # Again, where what is below it is wanted in it: nobody has copied that.
    ! mounted crun-qemu tmpfs "$path" || { [ $how = copy ] && umount "$path"; } || return 0
    [ $how = copy ] && [ -n "$(ls -A "$path")" ] || { mount -t tmpfs -o "${what:-defaults}" crun-qemu "$path"; return; }
    mkdir -p $d/below && mount --bind "$path" $d/below && mount --make-private $d/below || return
    mount -t tmpfs -o "${what:-defaults},rw" crun-qemu "$path" && cp -a $d/below/. "$path"
    s=$?; umount $d/below
    case ,$what, in *,ro,*) mount -o remount,ro "$path";; esac
    return $s
}
disk() {
    if [ -e "$path" ] && [ ! -L "$path" ]; then failed "something else is there"; return; fi
    to=/dev/disk/by-id/virtio-$what
    [ -d /run/udev ] || for s in /sys/block/vd*/serial; do
        [ "$(cat "$s")" != "$what" ] || { to=${s%/serial}; to=/dev/${to##*/}; }
    done
    parent; ln -sfn "$to" "$path"
}
# Anew on every boot, and in place: the addresses may have changed, and the file may be a mount.
host() {
    [ -e $d/hosts ] || { sed '/ # crun-qemu$/d' "$path" > $d/hosts && cat $d/hosts > "$path"; }
    echo "$what $how # crun-qemu" >> "$path"
}
# A power cut soon after the first boot leaves keys of no bytes, which nobody makes anew, and sshd does not start.
host_keys() {
    s=0
    for key in /etc/ssh/ssh_host_*_key; do
        [ -f "$key" ] && [ ! -s "$key" ] || continue
        kind=${key##*/ssh_host_}
        rm -f "$key" "$key.pub"
        ssh-keygen -q -t "${kind%_key}" -N '' -f "$key" < /dev/null || s=$?
        ! command -v restorecon > /dev/null || restorecon "$key" "$key.pub"
    done
    return $s
}
why=$(host_keys 2>&1) || { path=/etc/ssh; failed "$why"; }
n=0
while [ $# -ge 4 ]; do
    kind=$1 what=$2 how=$3 path=$4 n=$((n + 1)); shift 4
    mkdir $d/$n 2>/dev/null || continue
    why=$($kind 2>&1) || { rmdir $d/$n; failed "$why"; }
done
