#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs a build into a prefix, moves the prefix, and builds and runs an outside program against it: through pkg-config in every
# language it is promised for, shared and static, and through find_package in C and C++.
#
#     outside.sh SOURCE BUILD
set -eu
source=$1 build=$2
here=$source/tests/install
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail()
{
    echo "FAILED: $*" >&2
    exit 1
}

cmake --install "$build" --prefix "$work/first" >"$work/log" || { cat "$work/log"; fail "the install"; }
mv "$work/first" "$work/prefix"
prefix=$work/prefix
libdir=$(dirname "$(find "$prefix" -name libprocpool.so)")
version=$(sed -n 's/^#define PP_VERSION_[A-Z]* //p' "$source/include/procpool.h" | paste -sd.)
export PKG_CONFIG_PATH="$libdir/pkgconfig" LD_LIBRARY_PATH="$libdir"
cp "$here/square.c" "$work/square.c"
cp "$here/square.c" "$work/square.cc"

if grep -rIl "$work/first" "$prefix"; then
    fail "the files above hold the prefix"
fi
[ "$(pkg-config --modversion procpool)" = "$version" ] || fail "pkg-config's version is not $version"

# run WHAT PROGRAM
run()
{
    said=$("$2" </dev/null) || fail "$1: the program failed"
    [ "$said" = "$version 49" ] || fail "$1: it said '$said', not '$version 49'"
    echo "ok - $1"
}

# by_pkg_config COMPILER STANDARD SOURCE
by_pkg_config()
{
    flags="-std=$2 -pedantic -Wall -Wextra -Werror -Wl,--build-id"
    # shellcheck disable=SC2046,SC2086 # flags are to be split
    $1 $flags $(pkg-config --cflags procpool) "$work/$3" -o "$work/shared" $(pkg-config --libs procpool) ||
        fail "$2, shared: the compiler"
    run "pkg-config, $2, shared" "$work/shared"
    # shellcheck disable=SC2046,SC2086
    $1 $flags $(pkg-config --cflags procpool) "$work/$3" -o "$work/static" \
        $(pkg-config --libs --static procpool | sed 's/-lprocpool/-l:libprocpool.a/') ||
        fail "$2, static: the compiler"
    if ldd "$work/static" | grep -q procpool; then
        fail "$2, static: the program needs the shared library"
    fi
    run "pkg-config, $2, static" "$work/static"
}

for standard in c99 c11 c17 c2x; do
    by_pkg_config "${CC:-cc}" $standard square.c
done
for standard in c++11 c++20; do
    by_pkg_config "${CXX:-c++}" $standard square.cc
done

mkdir "$work/project"
cp "$here/CMakeLists.txt" "$work/square.c" "$work/square.cc" "$work/project"
if ! { cmake -S "$work/project" -B "$work/project/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_EXE_LINKER_FLAGS=-Wl,--build-id && cmake --build "$work/project/build"; } >"$work/log" 2>&1; then
    cat "$work/log"
    fail "find_package"
fi
for program in c_procpool c_procpool_static cxx_procpool cxx_procpool_static; do
    run "find_package, $program" "$work/project/build/$program"
done

if [ -x "$prefix/bin/procpool" ]; then
    unset LD_LIBRARY_PATH # the command finds its library by itself
    "$prefix/bin/procpool" --version </dev/null >"$work/log" || fail "the installed command"
    grep -qF "$version" "$work/log" || fail "the installed command's version is not $version"
    echo "ok - the installed command"
fi
