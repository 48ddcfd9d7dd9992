#!/bin/sh
# SPDX-License-Identifier: MIT
# What a library built with seams calls from outside itself without PP_SYS is in the list beside this, and files that the list excepts need it.
#
#     direct.sh ARCHIVE
set -eu
list=$(dirname "$0")/direct
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# "NAME FILE", but for the table's own; the names that headers put in the place of others are these others.
nm -A -u "${1:?usage: direct.sh ARCHIVE}" | sed -n 's/^.*:\([a-z_0-9]*\.c\)\.o: *[Uw] \(.*\)/\2 \1/p' |
    sed -E 's/^__(isoc[0-9]*_)?([a-z]+)_chk /\2 /; s/^__isoc[0-9]*_//' |
    grep -vE '^_*pp_|^__stack_chk|seam\.c$' | sort -u >"$work/calls"
[ -s "$work/calls" ] || { echo "FAILED: no calls found in $1"; exit 1; }

awk '
    /^#/ { next }
    NR == FNR {
        split($0, part, ":")
        names = split(part[1], name, " ")
        files = split(part[2], file, " ")
        for (i = 1; i <= names; i++) {
            if (!files)
                anywhere[name[i]] = 1
            for (j = 1; j <= files; j++)
                unused[name[i] " " file[j]] = 1
        }
        next
    }
    $1 in anywhere { next }
    $0 in unused { unused[$0] = 0; next }
    { print $2 " calls " $1 " directly: by PP_SYS, or there is a reason in tests/install/direct"; bad = 1 }
    END {
        for (call in unused)
            if (unused[call]) {
                print "excepted without need: " call
                bad = 1
            }
        exit bad
    }' "$list" "$work/calls" || { echo "FAILED"; exit 1; }
echo "ok - $(cut -d ' ' -f 1 "$work/calls" | sort -u | wc -l) names"
