#!/bin/bash
# Usage: plot.sh JSON
# Prints the benchmark's results as SVG: the stages of a VM's start, and several VMs at once.
set -euo pipefail
. "$(dirname "$0")/../common.sh"
case ${1-} in '' | -h | --help) usage; exit ;; esac
# There is one row in each line, and keys contain no quotes.
sed -n 's/.*"key":"\([^"]*\)".*"value":\([^,]*\),.*/\1 \2/p' "$1" | awk '
    { v[$1] = $2 }
    function text(x, y, s, anchor) { printf "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, s }
    function bar(x, y, w, color) { if (w > 0) printf "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"18\" fill=\"%s\"/>\n", x, y, w, color }
    # The stages of a start: the exec of QEMU, the first byte on the console, the guest is ready.
    function start(y, name, a, b, c,   x) {
        x = 150
        text(x - 8, y + 14, name, "end")
        bar(x, y, a * scale, "#4878a8"); bar(x + a * scale, y, (b - a) * scale, "#e0a040"); bar(x + b * scale, y, (c - b) * scale, "#b8c4cc")
        text(x + c * scale + 6, y + 14, sprintf("%.2f / %.2f / %.2f s", a, b, c), "start")
    }
    function line(key, color, factor,   i, p) {
        for (i = 1; i <= 16; i *= 2) if (("scale_" i key) in v)
            p = p sprintf("%.1f,%.1f ", 150 + (i - 1) * 29, 330 - v["scale_" i key] * factor)
        printf "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", p, color
    }
    function max(a, b) { return a > b ? a : b }
    END {
        print "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 380\" font-family=\"sans-serif\" font-size=\"12\">"
        print "<rect width=\"720\" height=\"380\" fill=\"#fff\"/>"
        scale = 380 / max(max(v["vm_ready"], v["user_vm_ready"]), max(v["bare_ready"], 0.001))
        text(10, 18, "From the command to QEMU (blue), to the console&#8217;s first byte (orange), to the guest&#8217;s ready (grey)", "start")
        start(30, "QEMU by hand", 0, v["bare_first"], v["bare_ready"])
        start(56, "podman run", v["vm_exec"], v["vm_first"], v["vm_ready"])
        start(82, "podman run, rootless", v["user_vm_exec"], v["user_vm_first"], v["user_vm_ready"])
        text(10, 140, "Guests started at once: until all are ready, with us (blue) and QEMU by hand (orange)", "start")
        for (i = 1; i <= 16; i *= 2) if (("scale_" i "_ready") in v) most = max(most, max(v["scale_" i "_ready"], v["scale_" i "_bare"]))
        if (most) {
            line("_ready", "#4878a8", 170 / most)
            line("_bare", "#e0a040", 170 / most)
            for (i = 1; i <= 16; i *= 2) if (("scale_" i "_ready") in v) text(150 + (i - 1) * 29, 348, i, "middle")
            text(140, 166, sprintf("%.0f s", most), "end"); text(140, 334, "0", "end")
            printf "<path d=\"M150 160V330H590\" fill=\"none\" stroke=\"#888\"/>\n"
        }
        text(370, 368, "VMs", "middle")
        print "</svg>"
    }'
