#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Shows that each memory order of the ring and of the slots is needed, and that the tests would notice: the thread tests are
# built with thread sanitizer, once as they are and once for each order weakened to relaxed. As they are there must be no race;
# each mutant must have one. What thread sanitizer finds does not depend on the machine's own ordering.
#
# Usage: mutants.sh COMPILER SOURCE_DIRECTORY WORK_DIRECTORY
# Status: 0, 1, or 77 where the compiler has no thread sanitizer.
set -u
compiler=$1 source=$2 work=$3
mkdir -p "$work"

ring=records_cross_between_two_threads_without_a_race
runs=words_of_a_record_that_is_not_published_cross_between_two_threads_without_a_race
slots=of_begin_and_cancel_exactly_one_wins_and_has_the_data_alone

compile() { # OBJECT SOURCE [OPTION...]
    object=$1 from=$2
    shift 2
    "$compiler" -std=gnu17 -D_GNU_SOURCE -O1 -g -fsanitize=thread -pthread "$@" \
        -I"$source/include" -I"$source/src" -I"$source/tests" -c "$source/$from" -o "$work/$object.o"
}

# What no mutant changes.
build_common() {
    compile harness tests/harness.c && compile error src/base/error.c && compile clock src/base/clock.c &&
        compile futex src/base/futex.c
}

build() { # NAME [OPTION...]
    name=$1
    shift
    compile ring src/shm/ring.c "$@" && compile threads tests/shm/test_ring_threads.c "$@" &&
        "$compiler" -fsanitize=thread -pthread "$work/ring.o" "$work/threads.o" "$work/harness.o" "$work/error.o" \
            "$work/clock.o" "$work/futex.o" -o "$work/$name"
}

# Whether a run reports a race; anything else that goes wrong counts as none.
races() { # NAME TEST
    TSAN_OPTIONS="halt_on_error=1 exitcode=66 ${TSAN_OPTIONS:-}" timeout 60 "$work/$1" --run "$2" >"$work/$1.out" 2>&1
    [ $? -eq 66 ] && grep -q "data race" "$work/$1.out"
}

# A line for PP_TEST_REPORT, as the harness writes it.
report() { # VERDICT NAME REASON
    [ -z "${PP_TEST_REPORT:-}" ] || printf '%s\tmutants\t%s\t%s\n' "$1" "$2" "$3" >>"$PP_TEST_REPORT"
}

fail() { # NAME REASON
    echo "$1: $2"
    report failed "$1" "$2"
    status=1
}

pass() { # NAME REASON
    echo "$1: $2"
    report passed "$1" ""
}

# A mutant that gets away once may have been lucky.
expect_race() { # MACRO TEST
    name=mutant_$1
    if ! build "$name" "-D$1=memory_order_relaxed"; then
        fail "$1" "does not build relaxed"
        return
    fi
    for try in 1 2 3; do
        if races "$name" "$2"; then
            pass "$1" "race found when relaxed, at try $try"
            return
        fi
    done
    fail "$1" "relaxed, and nobody noticed"
}

echo 'int main(void) { return 0; }' >"$work/probe.c"
if ! "$compiler" -fsanitize=thread "$work/probe.c" -o "$work/probe" 2>/dev/null || ! "$work/probe"; then
    echo "left out: $compiler has no thread sanitizer that runs here"
    report skipped all "$compiler has no thread sanitizer that runs here"
    exit 77
fi

status=0
if ! build_common || ! build unchanged; then
    fail unchanged "does not build"
    exit 1
fi
for test in $ring $runs $slots; do
    if TSAN_OPTIONS="halt_on_error=1 ${TSAN_OPTIONS:-}" timeout 60 "$work/unchanged" --run "$test" >"$work/unchanged.out" 2>&1; then
        pass unchanged "no race in $test"
    else
        fail unchanged "$test fails"
        cat "$work/unchanged.out"
    fi
done

expect_race RING_PUBLISH_ORDER $ring
expect_race RING_TAIL_ORDER $ring
expect_race RING_RELEASE_ORDER $ring
expect_race RING_HEAD_ORDER $ring
expect_race RUN_OPEN_ORDER $runs
expect_race SLOT_CAS_ORDER $slots
expect_race SLOT_READY_ORDER $slots
expect_race SLOT_DONE_ORDER $slots
exit $status
