# shellcheck shell=bash disable=SC2034 # SUITE is for debian.sh
# trixie: like systemd, but Debian 13, whose systemd accepts more by credentials.

SUITE=trixie
# shellcheck source=../systemd/recipe.sh
. "$HERE/systemd/recipe.sh"
