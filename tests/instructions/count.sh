#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Counts the instructions of each path under callgrind and compares them with the table, where that was made for this compiler and this libc.
#
#     count.sh PROGRAM TABLE [PATH...]     shows besides in which functions those of PATH are
set -uo pipefail
program=$1 table=$2
shift 2

command -v valgrind >/dev/null || { echo "FAILED - valgrind is not installed" && exit 1; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
status=0

# Which memcpy libc takes must not depend on the processor.
count()
{
    GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX_Fast_Unaligned_Load,-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM \
        valgrind --tool=callgrind --collect-atstart=no --callgrind-out-file="$work/out" "$program" >"$work/calls" 2>"$work/said" && return
    echo "FAILED - nothing was counted"
    cat "$work/said"
    exit 1
}

dump_of()
{
    grep -lx "desc: Trigger: Client Request: $1" "$work"/out.*
}

# per_call PATH: as the program prints them, "nothing" comes first; what the counting itself takes is taken off.
per_call()
{
    awk -v path="$1" '
        FNR == NR { calls[$1] = $2; next }
        /^desc: Trigger: Client Request: / { name = $NF }
        /^totals: / { each[name] = $2 / calls[name] }
        END { printf "%.0f\n", each[path] - each["nothing"] }' "$work/calls" "$work"/out.*
}

# where PATH: instructions per call by function, begin_count and end_count among them.
where()
{
    awk -v path="$1" '
        FNR == NR { calls[$1] = $2; next }
        match($0, /^c?fn=\([0-9]+\)/) {
            id = substr($0, index($0, "("), RLENGTH - index($0, "(") + 1)
            if (length($0) > RLENGTH)
                name[id] = substr($0, RLENGTH + 2)
            if (/^fn/)
                function_ = id
        }
        /^calls=/ { getline; next }
        /^[0-9+*-]/ { cost[function_] += $2 }
        END { for (id in cost) printf "    %6.1f %s\n", cost[id] / calls[path], name[id] }' "$work/calls" "$(dump_of "$1")" | sort -rn
}

verdict()
{
    local path=$1 have=$2 figure=${3:-} most=${4:-}
    if [ -z "$most" ]; then
        echo "FAILED - $path: $have instructions, and no figures in the table"
    elif [ "$have" -gt "$most" ]; then
        echo "FAILED - $path: $have instructions, more than it may ever have, $most; they are in"
        where "$path"
    elif [ $((have * 10)) -gt $((figure * 11)) ]; then
        echo "FAILED - $path: $have instructions, more than a tenth above $figure; they are in"
        where "$path"
    elif [ $((have * 10)) -lt $((figure * 9)) ]; then
        echo "FAILED - $path: $have instructions, more than a tenth below $figure: lower the figure in $table"
    else
        echo "ok - $path: $have instructions, figure $figure"
        return
    fi
    status=1
}

# Told to report.sh too, if that is who asks.
leave_out()
{
    echo "left out - $1"
    [ -z "${PP_TEST_LEFT_OUT:-}" ] || echo "$1" >"$PP_TEST_LEFT_OUT"
}

figures_of()
{
    awk -v path="$1" '$1 == path { print $2, $3 }' "$table"
}

count
about=$("$program" --about)
made_for=$(sed -n 's/^for //p' "$table")
[ "$about" = "$made_for" ] || leave_out "the table is for $made_for, and this is $about"
mapfile -t paths < <(awk '$1 != "nothing" { print $1 }' "$work/calls")
for path in "${paths[@]}"; do
    if [ "$about" = "$made_for" ]; then
        # shellcheck disable=SC2046 # two numbers
        verdict "$path" "$(per_call "$path")" $(figures_of "$path")
    else
        echo "left out - $path: $(per_call "$path") instructions"
    fi
done
while read -r path _; do
    [[ " ${paths[*]} " == *" $path "* ]] || { echo "FAILED - $path is in the table and was not counted" && status=1; }
done < <(grep -vE '^(#|for |$)' "$table")
for path in "$@"; do
    echo "$path:"
    where "$path"
done
exit $status
