#!/bin/sh
# SPDX-License-Identifier: MIT
# Counts the lines, words and bytes of this machine's own files in worker processes and compares with wc(1), byte for byte;
# then once more with inputs that crash the worker. Usage: examples/demo.sh BUILD-DIRECTORY
set -eu

build=${1:?usage: demo.sh BUILD-DIRECTORY}
procpool=$build/cli/procpool
wc_task=$build/examples/wc.so:count
picky_task=$build/examples/crash.so:picky
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export LC_ALL=C

fail()
{
    echo "demo: $*" >&2
    exit 1
}

# Runs a command, prints how long it took, keeps its exit status in $status.
timed()
{
    begin=$(date +%s%N)
    status=0
    "$@" || status=$?
    end=$(date +%s%N)
    ms=$(((end - begin) / 1000000))
    printf '    %d.%03d s\n' $((ms / 1000)) $((ms % 1000))
}

# The regular files below a directory whose names fit on a line.
list()
{
    find "$1" -type f -readable 2>/dev/null | grep -v '[[:cntrl:]]' | sort
}

run_wc()
{
    # One process for each file, since wc makes its columns as wide as all its files together need.
    xargs -d '\n' -n 1 wc <"$work/files" >"$work/expected"
}

run_count()
{
    "$procpool" map "$wc_task" <"$work/files" >"$work/counted" 2>"$work/errors"
}

run_picky()
{
    "$procpool" map --timeout=500ms "$picky_task" <"$work/mixed" >"$work/survived" 2>"$work/errors"
}

# Every 400th line is followed by an input that brings its worker down, in one of five ways.
mix_in_crashes()
{
    awk '{ print }
         NR % 400 == 200 { split("segfault abort exit kill hang", how); print how[n++ % 5 + 1] }' "$work/files"
}

echo "The inputs: headers, licences and binaries of this machine"
{
    list /usr/share/common-licenses
    list /usr/bin
    list /usr/include | head -n 3000
} >"$work/files"
files=$(wc -l <"$work/files")
[ "$files" -gt 0 ] || fail "found no files"
echo "    $files files"

echo "wc, one process for each file"
timed run_wc
[ "$status" -eq 0 ] || fail "wc failed with status $status"

echo "procpool map $wc_task"
timed run_count
[ "$status" -eq 0 ] || fail "exit status $status instead of 0: $(head -n 3 "$work/errors")"
[ ! -s "$work/errors" ] || fail "unexpected: $(head -n 3 "$work/errors")"
cmp "$work/expected" "$work/counted" || fail "the output is not wc's"
echo "    $(wc -l <"$work/counted") lines, $(wc -c <"$work/counted") bytes, the same as wc's"

mix_in_crashes >"$work/mixed"
crashes=$(($(wc -l <"$work/mixed") - files))
echo "procpool map $picky_task, with $crashes inputs that crash or hang the worker"
timed run_picky
[ "$status" -eq 1 ] || fail "exit status $status instead of 1: $(head -n 3 "$work/errors")"
[ "$(wc -l <"$work/errors")" -eq "$crashes" ] || fail "$(wc -l <"$work/errors") failures instead of $crashes"
! grep -v -E '^(segfault|abort|exit|kill|hang): ' "$work/errors" || fail "a file failed"
cmp "$work/expected" "$work/survived" || fail "a crash changed other results"
echo "    $crashes failed, each by itself, and $files results are still the same as wc's. The first five:"
head -n 5 "$work/errors" | sed 's/^/        /'

echo "procpool map --backtrace $picky_task segfault"
status=0
"$procpool" map --backtrace "$picky_task" segfault 2>"$work/errors" || status=$?
[ "$status" -eq 1 ] || fail "exit status $status instead of 1: $(head -n 3 "$work/errors")"
grep -q '^    #.* picky ' "$work/errors" || fail "no backtrace: $(head -n 3 "$work/errors")"
sed "s|$(pwd)/||g; s/^/        /" "$work/errors"
