# shellcheck shell=bash
# bench: tiny, with this host's fio and iperf3 on its disk: /disk/bin/fio, /disk/bin/iperf3.

# shellcheck source=../tiny/recipe.sh
. "$HERE/tiny/recipe.sh"

recipe() {
    local program loader
    mkdir -p "$W/disk"/{bin,lib}
    loader=$(readelf -p .interp "$(command -v fio)" | sed -n 's/.* \//\//p')
    cp -L "$loader" "$W/disk/lib/loader"
    for program in fio iperf3; do
        cp "$(command -v $program)" "$W/disk/lib/$program"
        ldd "$W/disk/lib/$program" | awk '$2 == "=>" { print $3 }' | xargs cp -Lt "$W/disk/lib"
        printf '#!/bin/sh\nexec /disk/lib/loader --library-path /disk/lib /disk/lib/%s "$@"\n' $program > "$W/disk/bin/$program"
        chmod 755 "$W/disk/bin/$program"
    done
    tiny 384
}
