#!/bin/sh
# SPDX-License-Identifier: MIT
# The shared library exports the functions of procpool.h, all of them under their version, and nothing else.
#
#     exports.sh SOURCE LIBRARY
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A declaration begins with PP_API at the line's begin.
sed -n 's/^PP_API [^(]*[ *]\(pp_[a-z0-9_]*\)(.*/\1/p' "$1/include/procpool.h" | sort >"$work/header"
nm -D --defined-only --with-symbol-versions "$2" | sed -n 's/^[0-9a-f]* [^A] //p' | sort >"$work/versioned"
sed 's/@.*//' "$work/versioned" | sort >"$work/library"

[ -s "$work/header" ] || { echo "FAILED: no declarations found in procpool.h"; exit 1; }
if ! diff -u "$work/header" "$work/library"; then
    echo "FAILED: procpool.h (-) and the library's exports (+) differ"
    exit 1
fi
if grep -v '@@PROCPOOL_[0-9]' "$work/versioned"; then
    echo "FAILED: the exports above have no version"
    exit 1
fi
soname=$(readelf -d "$2" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
minor=$(sed -n 's/^#define PP_VERSION_M[A-Z]*OR //p' "$1/include/procpool.h" | paste -sd.)
[ "$soname" = "libprocpool.so.$minor" ] || { echo "FAILED: the soname is $soname"; exit 1; }
readelf -d "$2" | grep -q NODELETE || { echo "FAILED: it can be unloaded under its own threads"; exit 1; }
echo "ok - $(wc -l <"$work/header") functions"
