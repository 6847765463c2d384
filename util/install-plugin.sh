#!/bin/sh
# Usage: install-plugin.sh PLUGIN | install-plugin.sh --uninstall
# Installs crun-qemu.so into the handlers directory of the crun in $CRUN (default: the one in PATH), or removes it.
# crun loads every file in that directory on every command, whatever the container, and fails if one does not load. So the
# plugin is installed in one step, and removed again if crun does not load it. With $DESTDIR, the latter is not checked.
set -eu
. "$(dirname "$0")/common.sh"
DESTDIR=${DESTDIR-}

# Prints the handlers directory, which is compiled into crun or into its library.
handlers() {
    for f in "$1" $(ldd "$1" 2>/dev/null | awk '$1 ~ /^libcrun/ { print $3 }'); do
        grep -aoE '/[[:graph:]]*/crun/handlers' "$f" && return
    done | head -n 1
}

case ${1-} in
-h | --help) usage; exit ;;
'') die "expected one argument: the plugin, or --uninstall" ;;
esac
crun=$(command -v "${CRUN:-crun}") || die "${CRUN:-crun}: not found (install crun, or set CRUN=PATH)"
dir=$DESTDIR$(handlers "$crun")
[ "$dir" != "$DESTDIR" ] || die "$crun: has no handlers directory (crun 1.8 or later is needed)"
plugin=$dir/crun-qemu.so

if [ "$1" = --uninstall ]; then
    rm -f "$plugin"
    exit
fi
[ -f "$1" ] || die "$1: no such file"
if ! cmp -s "$1" "$plugin"; then
    mkdir -p "$dir"
    [ -w "$dir" ] || die "$dir: cannot be written (sudo is needed)"
    # crun skips files whose names begin with a dot.
    install -m 755 "$1" "$dir/.crun-qemu.so.new"
    mv -f "$dir/.crun-qemu.so.new" "$plugin"
    say "installed $plugin"
fi
[ -z "$DESTDIR" ] || exit 0
case $("$crun" --version 2>&1) in
*+QEMU*) ;;
*)
    said=$("$crun" --version 2>&1 >/dev/null | head -n 1)
    rm -f "$plugin"
    die "$crun did not load the plugin, which was removed again${said:+ (crun says: $said)}"
    ;;
esac
