# KIND WHAT HOW PATH …: what the container was given, for the guest.
d=/run/crun-qemu
umask 022
mkdir -p $d
chmod 700 $d
failed() { echo "crun-qemu: $path: $1" > /dev/console; }
parent() { case $path in /*/*) mkdir -p "${path%/*}";; esac; }
files() { [ -e $d/files ] || { mkdir $d/files && mount -t virtiofs crun-qemu-files $d/files || { rmdir $d/files; false; }; }; }
over() { [ "$path" -ef "$1" ] && return; parent; [ -e "$path" ] || : > "$path"; mount --bind "$1" "$path" && { [ "$how" = rw ] || mount -o "remount,bind,$how" "$path"; }; }
# What systemd has mounted already, by credentials, is not mounted again.
share() { mkdir -p "$path" && { mount -t virtiofs -o "$how" "$what" "$path" || [ "$(stat -f -c %T "$path")" = fuseblk ]; }; }
file() { files && over "$d/files/$what"; }
secret() { files && mkdir -p -m 700 $d/secrets && (umask 077 && cat "$d/files/$what" > "$d/secrets/$what") &&
    chmod 400 "$d/secrets/$what" && chown "$(stat -c %u:%g "$d/files/$what")" "$d/secrets/$what" && over "$d/secrets/$what"; }
tmpfs() {
    mkdir -p "$path" || return
    ! grep -qF "crun-qemu $(echo "$path" | sed 's/ /\\040/g') tmpfs " /proc/mounts || umount "$path" || return 0
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
n=0
while [ $# -ge 4 ]; do
    kind=$1 what=$2 how=$3 path=$4 n=$((n + 1)); shift 4
    mkdir $d/$n 2>/dev/null || continue
    why=$($kind 2>&1) || { rmdir $d/$n; failed "$why"; }
done
