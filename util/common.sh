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

# apt_suite DIR SUITE KIND: prepares apt for SUITE of that archive alone, KIND being deb or deb-src, with all of its state
# below DIR, where nothing is installed.
apt_suite() {
    mkdir -p "$1/lists/partial" "$1/debs/partial"
    : > "$1/status"
    apt_lists
    archive=$(apt_archives | awk '$2 !~ /-/ { print $1; exit }')
    [ -n "$archive" ] || die "apt has no archive of Debian's configured"
    echo "$3 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $2 main" > "$1/sources.list"
}

# apt_in DIR ARGUMENT...: apt-get as prepared in DIR. An archive may be a copy of another day.
apt_in() {
    apt_dir=$1; shift
    apt-get -q -o Dir::Etc::SourceList="$apt_dir/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$apt_dir/lists" \
        -o Dir::State::status="$apt_dir/status" -o Dir::Cache::archives="$apt_dir/debs" -o Dir::Cache::pkgcache= \
        -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false "$@" 9>&-
}
