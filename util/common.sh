# shellcheck shell=sh disable=SC2034 # CACHE is used by the scripts that source this
# Sourced by the scripts in this directory: messages, and the cache for what takes long to make.

die() { echo "${0##*/}: $*" >&2; exit 1; }
say() { echo "==> $*" >&2; }

# usage: prints the comment at the top of the running script, for --help.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }

# The cache: the system's for root, else the user's own.
if [ -n "${XDG_CACHE_HOME:-}" ]; then CACHE=$XDG_CACHE_HOME/crun-qemu
elif [ "$(id -u)" = 0 ]; then CACHE=/var/cache/crun-qemu
else CACHE=${HOME:?}/.cache/crun-qemu
fi

# apt_lists: fetches apt's package lists if the machine has none.
apt_lists() {
    apt-cache show busybox-static >/dev/null 2>&1 || apt-get -q -o DPkg::Lock::Timeout=300 update >&2
}

# apt_archives: prints the Debian archives that the host's apt uses, as lines "URI SUITE", for component main.
apt_archives() {
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
        awk '$3 == "main" { print $1, $2 }' | sort -u
}

# apt_suite DIR SUITE KIND: prepares apt for SUITE of that archive only, with all of apt's state below DIR, where no package
# is installed. KIND is deb or deb-src.
apt_suite() {
    mkdir -p "$1/lists/partial" "$1/debs/partial"
    : > "$1/status"
    apt_lists
    archive=$(apt_archives | awk '$2 !~ /-/ { print $1; exit }')
    [ -n "$archive" ] || die "apt has no Debian archive configured"
    echo "$3 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $2 main" > "$1/sources.list"
}

# apt_in DIR ARGUMENT...: runs apt-get as prepared in DIR. The archive may be an old snapshot.
apt_in() {
    apt_dir=$1; shift
    apt-get -q -o Dir::Etc::SourceList="$apt_dir/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$apt_dir/lists" \
        -o Dir::State::status="$apt_dir/status" -o Dir::Cache::archives="$apt_dir/debs" -o Dir::Cache::pkgcache= \
        -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root -o Acquire::Check-Valid-Until=false "$@" 9>&-
}
