# shellcheck shell=bash disable=SC2154,SC2034 # the variables are shared with bench.sh and the sections
# The table and the JSON, with one row for each figure.

# stats KIND NAME...: prints "value q1 q3 min max n" of samples. KIND is `median` of the only one, `difference` of the first
# median and the others, or `ratio` of the first median to the second. The spread of the latter two is that of their
# values in each round.
stats() {
    local kind=$1 files=() name; shift
    for name; do files+=("$work/samples/$name"); done
    paste "${files[@]}" | awk -F '\t' -v kind="$kind" '
        function put(set, value) { v[set, ++n[set]] = value }
        function order(set,   i, j, t) {
            for (i = 2; i <= n[set]; i++)
                for (j = i; j > 1 && v[set, j - 1] > v[set, j]; j--) { t = v[set, j]; v[set, j] = v[set, j - 1]; v[set, j - 1] = t }
        }
        function quantile(set, q,   at, low) {
            at = 1 + (n[set] - 1) * q; low = int(at)
            return low == n[set] ? v[set, low] : v[set, low] + (at - low) * (v[set, low + 1] - v[set, low])
        }
        function join(a, b) { return kind == "ratio" ? (b ? a / b : 0) : a - b }
        {
            for (i = 1; i <= NF; i++) if ($i != "") put(i, $i + 0)
            whole = $1 != ""; value = $1 + 0
            for (i = 2; i <= NF; i++) if ($i == "") whole = 0; else value = join(value, $i + 0)
            if (whole) put("rounds", value)
        }
        END {
            for (i = 1; i <= NF; i++) order(i)
            order("rounds")
            value = quantile(1, 0.5)
            for (i = 2; i <= NF; i++) value = join(value, quantile(i, 0.5))
            printf "%.6g %.6g %.6g %.6g %.6g %d\n", value, quantile("rounds", 0.25), quantile("rounds", 0.75),
                v["rounds", 1], v["rounds", n["rounds"]], n["rounds"]
        }'
}

# row KEY UNIT BUDGET LABEL KIND NAME...: prints a row. BUDGET is "<= N", ">= N" or "".
row() {
    local key=$1 unit=$2 budget=$3 label=$4 kind=$5 value q1 q3 min max n met=null; shift 5
    read -r value q1 q3 min max n < <(stats "$kind" "$@")
    [ -z "$budget" ] || met=$(awk -v v="$value" -v o="${budget% *}" -v b="${budget#* }" \
        'BEGIN { print (o == "<=" ? v + 0 <= b + 0 : v + 0 >= b + 0) ? "true" : "false" }')
    printf '%s\n' "{\"key\":\"$key\",\"label\":\"$label\",\"kind\":\"$kind\",\"unit\":\"$unit\",\"value\":$value,\"q1\":$q1,\"q3\":$q3,\
\"min\":$min,\"max\":$max,\"n\":$n,\"budget\":\"$budget\",\"met\":$met,\"load\":[$loads]}" >> "$work/json"
    local flag=' '
    case $met in false) flag='!' ;; esac
    printf '%-60s %10s  %-17s %3d  %-7s %s %s\n' "$label" "$(figure "$value") $unit" "$(figure "$q1")..$(figure "$q3")" "$n" \
        "$budget" "$flag" "${loads/,/-}"
}
figure() { awk -v v="$1" 'BEGIN { printf((v * v >= 1e6 ? "%.0f" : v * v >= 1e4 ? "%.1f" : "%.3f"), v) }'; }
# note TEXT: prints a line of explanation below a row.
note() { echo "    $*"; }

# report SECTION...: prints the table, and writes the JSON in one step.
report() {
    local section loads
    : > "$work/json"
    {
        echo "tiny guest, $accelerator, $(nproc) CPUs, $RUNS runs, $BOOTS boots; '!': over budget; load: that of the host (1 min), before and after"
        printf '%-60s %10s  %-17s %3s  %-7s %s %s\n' "" median "quartiles" n budget " " load
        for section; do
            loads=$(paste -sd, "$work/load.$section")
            echo "-- $section"
            "rows_$section"
        done
    } | tee "$work/table"
    mkdir -p "$(dirname "$JSON")"
    {
        printf '{"accelerator":"%s","cpus":%d,"runs":%d,"boots":%d,"smoke":%s,"rows":[\n' "$accelerator" "$(nproc)" "$RUNS" \
            "$BOOTS" "$([ -n "$SMOKE" ] && echo true || echo false)"
        sed '$!s/$/,/' "$work/json"
        echo ']}'
    } > "$JSON.new"
    mv "$JSON.new" "$JSON"
}
