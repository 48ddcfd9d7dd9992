#!/bin/sh
# SPDX-License-Identifier: MIT
# Whether all that docs/python.md names is there: each public name stands in include/procpool.h, each "struct.field" is a field of that
# struct, each file is a file, and each row of a table has as many cells as the row above it.
#
#     check-python.sh SOURCE
set -eu
cd "${1:?usage: check-python.sh SOURCE}"
page=docs/python.md header=include/procpool.h status=0

complain()
{
    echo "$page: $*"
    status=1
}

has_field()
{
    sed -n "/^typedef struct $1 {/,/^} $1;/p" "$header" | grep -qE "\b$2(;|\))"
}

names=$(grep -oE '\b(pp|PP)_[A-Za-z0-9_]+(\.[a-z_]+)?' "$page" | sort -u)
for name in $names; do
    case $name in
    *.*) has_field "${name%.*}" "${name#*.}" || complain "no field $name" ;;
    *) grep -qw -- "$name" "$header" || complain "no $name in $header" ;;
    esac
done

# shellcheck disable=SC2016 # backquotes of the page
for file in $(grep -oE '`(src|examples|include|docs)/[^` ]+`' "$page" | tr -d '`' | sort -u); do
    [ -f "$file" ] || complain "no file $file"
done

awk -F '|' '
    !/^\|/ { cells = 0; next }
    cells && NF != cells { print FILENAME ":" FNR ": " NF - 2 " cells instead of " cells - 2; bad = 1 }
    { cells = NF; rows++ }
    END { exit bad || !rows }' "$page" || status=1

echo "$(echo "$names" | wc -l) names looked up"
exit $status
