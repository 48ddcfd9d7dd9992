#!/bin/sh
# SPDX-License-Identifier: MIT
# Compiles and runs the complete programs in the man pages against a build, and compares what they print with what the page says. Then
# compares the README's program with examples/first.c, and the lengths of the programs that are in examples/python, too: none may be more than
# twice as long as in Python.
#
#     check-examples.sh SOURCE BUILD
#
# In a page a program is a literal display whose first line is a comment, "example: NAME"; a display whose first line is "$ ./NAME" is
# what it prints. The program's exit status must be 0.
set -eu
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail()
{
    echo "FAILED: $*" >&2
    exit 1
}

# The literal displays of a page, as NAME.c and NAME.out in the work directory.
extract()
{
    awk -v work="$work" '
        /^\.Bd -literal/ { inside = 1; first = 1; file = ""; next }
        /^\.Ed/ { inside = 0; if (file) close(file); next }
        !inside { next }
        { gsub(/\\&/, ""); gsub(/\\e/, "\\"); gsub(/\\-/, "-") }
        first {
            first = 0
            if ($1 == "/*" && $2 == "example:") {
                file = work "/" $3 ".c"
                print $3 >>(work "/names")
            } else if ($1 == "$" && $2 ~ /^\.\//) {
                file = work "/" substr($2, 3) ".out"
                printf "" >file
                next
            }
        }
        file { print >file }' "$1"
}

run()
{
    # shellcheck disable=SC2086 # the compiler may come with flags
    ${CC:-cc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wl,--build-id -I"$source/include" "$work/$1.c" -o "$work/$1" \
        -L"$build/src" -Wl,-rpath,"$build/src" -lprocpool || fail "$1: the compiler"
    (cd "$work" && timeout 60 "./$1" >"$1.said" </dev/null) || fail "$1: the program failed"
    [ ! -f "$work/$1.out" ] || diff -u "$work/$1.out" "$work/$1.said" || fail "$1: it does not print what the page says"
    echo "ok - $1"
}

for page in "$source"/docs/man/*.[37]; do
    [ -L "$page" ] || extract "$page"
done
[ "$(sort "$work/names" | uniq -d)" = "" ] || fail "two examples have the same name"
pages=$(find "$source/docs/man" -name '*.[37]' -type f | wc -l)
[ "$(wc -l <"$work/names")" -ge "$pages" ] || fail "fewer examples than pages"
while read -r name; do
    run "$name"
done <"$work/names"

awk '/^```c$/ && !done { inside = 1; next } /^```$/ && inside { inside = 0; done = 1 } inside' "$source/README.md" >"$work/readme.c"
sed '1{/SPDX/d}' "$source/examples/first.c" >"$work/first.c"
diff -u "$work/first.c" "$work/readme.c" || fail "README.md's program is not examples/first.c"
echo "ok - README.md's program is examples/first.c"

# Lines that are neither blank nor comment.
count_c()
{
    sed 's@/\*.*\*/@@; /\/\*/,/\*\//d' "$1" | grep -c '[^[:space:]]'
}

count_python()
{
    grep -vc '^[[:space:]]*\(#.*\)\{0,1\}$' "$1"
}

for python in "$source"/examples/python/*.py; do
    name=$(basename "$python" .py)
    here=$(count_c "$source/examples/$name.c") there=$(count_python "$python")
    [ "$here" -le $((2 * there)) ] || fail "examples/$name.c has $here lines, in Python $there"
    echo "ok - examples/$name.c is at most twice as long as in Python: $here lines, $there there"
done
