#!/bin/sh
# SPDX-License-Identifier: MIT
# Whether each test that docs/features.md names exists: in a row's last cell, "`FILE` `NAME` ..." names tests of the file, each of
# which must be the first argument of a macro at the beginning of a line there. A row names a test or says "not yet".
#
#     check-features.sh SOURCE
set -eu
cd "${1:?usage: check-features.sh SOURCE}"

awk -F '|' '
    /^\| *[A-Z][0-9]+ *\|/ {
        rows++
        proof = $(NF - 1)
        if (proof ~ /not yet/)
            next
        count = split(proof, part, "`")
        file = ""
        named = 0
        for (i = 2; i <= count; i += 2) {
            if (part[i] ~ /\.c$/) {
                file = part[i]
                continue
            }
            named++
            found = 0
            while ((getline line <file) > 0)
                if (match(line, "^[A-Z][A-Z_]*[(]" part[i] "[,)]"))
                    found = 1
            close(file)
            if (!found) {
                print $2 ": no test " part[i] " in " file
                bad = 1
            }
        }
        if (!named) {
            print $2 ": neither a test nor \"not yet\""
            bad = 1
        }
        done++
    }
    END {
        if (rows < 1) {
            print "no rows"
            bad = 1
        }
        print done " of " rows " features have a test"
        exit bad
    }' docs/features.md
