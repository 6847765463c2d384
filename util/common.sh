# shellcheck shell=sh disable=SC2034 # CACHE is for those who source this
# Sourced by the scripts here: how they speak, and where they keep what is costly to make.

die() { echo "${0##*/}: $*" >&2; exit 1; }
say() { echo "==> $*" >&2; }

# Prints the comment at the top of the script that is running, for --help.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# The system's cache for root, the user's own otherwise.
if [ -n "${XDG_CACHE_HOME:-}" ]; then CACHE=$XDG_CACHE_HOME/crun-qemu
elif [ "$(id -u)" = 0 ]; then CACHE=/var/cache/crun-qemu
else CACHE=${HOME:?}/.cache/crun-qemu
fi

# Fetches apt's lists of packages where a slimmed-down machine has none.
apt_lists() {
    apt-cache show busybox-static >/dev/null 2>&1 || apt-get -q -o DPkg::Lock::Timeout=300 update >&2
}

# The archive that the host's own apt uses, as "URI SUITE" lines of component main; third party archives lack it.
apt_archives() {
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
        awk '$3 == "main" { print $1, $2 }' | sort -u
}
