#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Shows that each memory order and each fence of src/shm is needed, and that the tests would notice: the thread tests are built once as they are and
# once for each order weakened to relaxed. As they are nothing may be wrong; each mutant must be noticed, in one of two ways:
#
#   race   thread sanitizer reports one, which does not depend on the machine's own ordering
#   lost   the test itself, without a sanitizer, loses a wake: thread sanitizer knows no fences, but a store passes a later load on our machines
#
# What the models make of the same orders is shown by models/run; that each is named by a mutant there is looked up here.
#
# Usage: mutants.sh COMPILER SOURCE_DIRECTORY WORK_DIRECTORY
# Status: 0, 1, or 77 where the compiler has no thread sanitizer.
set -u
compiler=$1 source=$2 work=$3
mkdir -p "$work"

# ORDER, its PROGRAM and TEST, how it is noticed, and the MODEL that has it.
orders() {
    ring=records_cross_between_two_threads_without_a_race
    open=words_of_a_record_that_is_not_published_cross_between_two_threads_without_a_race
    begin=of_begin_and_cancel_exactly_one_wins_and_has_the_data_alone
    chunk=a_chunk_that_is_stopped_runs_to_the_element_behind_which_it_was_stopped
    doorbell=a_wake_and_a_sleep_that_cross_do_not_miss_each_other
    want=a_result_and_a_sleep_of_the_owner_that_cross_do_not_miss_each_other
    cat <<END
RING_PUBLISH_ORDER ring $ring race ring
RING_MARK_ORDER ring $ring race ring
RING_RELEASE_ORDER ring $ring race ring
RING_HEAD_ORDER ring $ring race ring
OPEN_TELL_ORDER ring $open race open
OPEN_LOOK_ORDER ring $open race open
SLOT_BEGIN_ORDER slot $begin race slot
SLOT_BEGIN_ORDER slot $chunk race slot
SLOT_LOOK_ORDER slot $begin race slot
SLOT_LOOK_ORDER slot $chunk race slot
DOORBELL_SLEEPER_FENCE doorbell $doorbell lost doorbell
DOORBELL_RINGER_FENCE doorbell $doorbell lost doorbell
WANT_SLEEPER_FENCE doorbell $want lost want
WANT_RINGER_FENCE doorbell $want lost want
END
}

# The flags of a build that is to notice in this way.
flags_of() { # WAY
    case $1 in
    race) echo "-O1 -g -fsanitize=thread" ;;
    lost) echo "-O2 -g" ;;
    esac
}

compile() { # WAY OBJECT SOURCE [OPTION...]
    way=$1 object=$2 from=$3
    shift 3
    # shellcheck disable=SC2046 # flags
    "$compiler" -std=gnu17 -D_GNU_SOURCE $(flags_of "$way") -pthread "$@" \
        -I"$source/include" -I"$source/src" -I"$source/tests" -c "$source/$from" -o "$work/$way-$object.o"
}

# What no mutant changes.
build_common() { # WAY
    compile "$1" harness tests/harness.c && compile "$1" error src/base/error.c && compile "$1" clock src/base/clock.c &&
        compile "$1" futex src/base/futex.c
}

build() { # WAY NAME PROGRAM [OPTION...]
    way=$1 name=$2 program=$3
    shift 3
    # shellcheck disable=SC2046 # flags
    compile "$way" ring src/shm/ring.c "$@" && compile "$way" threads "tests/shm/test_${program}_threads.c" "$@" &&
        "$compiler" $(flags_of "$way") -pthread "$work/$way-ring.o" "$work/$way-threads.o" "$work/$way-harness.o" \
            "$work/$way-error.o" "$work/$way-clock.o" "$work/$way-futex.o" -o "$work/$name"
}

run() { # NAME TEST
    TSAN_OPTIONS="halt_on_error=1 exitcode=66 ${TSAN_OPTIONS:-}" timeout 60 "$work/$1" --run "$2" >"$work/$1.out" 2>&1
}

# Whether a run notices in this way; anything else that goes wrong counts as nothing.
notices() { # WAY NAME TEST
    run "$2" "$3"
    case $1:$? in
    race:66) grep -q "data race" "$work/$2.out" ;;
    lost:1) grep -q "lost" "$work/$2.out" ;;
    *) false ;;
    esac
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

leave_out() { # NAME REASON
    echo "left out: $1: $2"
    report skipped "$1" "$2"
}

# As they are.
expect_nothing() { # WAY PROGRAM TEST
    if ! build "$1" unchanged "$2"; then
        fail unchanged "$2 does not build"
    elif run unchanged "$3"; then
        pass unchanged "nothing wrong in $3"
    else
        fail unchanged "$3 fails"
        cat "$work/unchanged.out"
    fi
}

# A mutant that gets away may have been lucky: with a race seldom, with a wake more often.
expect_notice() { # ORDER PROGRAM TEST WAY
    name=mutant_$1
    if ! build "$4" "$name" "$2" "-D$1=memory_order_relaxed"; then
        fail "$1" "does not build relaxed"
        return
    fi
    tries=3
    [ "$4" = race ] || tries=60
    for try in $(seq $tries); do
        if notices "$4" "$name" "$3"; then
            pass "$1" "relaxed: $4, at try $try of $3"
            return
        fi
    done
    fail "$1" "relaxed, and nobody noticed in $3"
}

# Each order that a source lets be weakened is above, and has a mutant in its model; and no source of these has another.
check_orders() {
    files="$source/src/shm/ring.h $source/src/shm/ring.c $source/src/shm/open.h $source/src/shm/slot.h $source/src/shm/doorbell.h $source/src/shm/want.h"
    # shellcheck disable=SC2086 # several
    sed -n 's/^#ifndef \([A-Z_]*_\(ORDER\|FENCE\)\)$/\1/p' $files >"$work/found"
    while read -r order; do
        orders | grep -q "^$order " || fail "$order" "is not among the mutants"
    done <"$work/found"
    # shellcheck disable=SC2086
    if grep -nE 'pp__(load_acquire|store_release|fence)\(|memory_order_(acquire|release|acq_rel|seq_cst)[^ ]' $files; then
        fail orders "one that can't be weakened"
    fi
    while read -r order _ _ _ model; do
        grep -q "^ \* mutant [0-9]*: .*($order)" "$source/models/$model.pml" || fail "$order" "has no mutant in models/$model.pml"
    done <<END
$(orders)
END
}

echo 'int main(void) { return 0; }' >"$work/probe.c"
if ! "$compiler" -fsanitize=thread "$work/probe.c" -o "$work/probe" 2>/dev/null || ! "$work/probe"; then
    leave_out all "$compiler has no thread sanitizer that runs here"
    exit 77
fi

status=0
if ! build_common race || ! build_common lost; then
    fail unchanged "does not build"
    exit 1
fi
check_orders
orders | while read -r _ program test way _; do echo "$way $program $test"; done | sort -u >"$work/tests"
while read -r way program test; do
    expect_nothing "$way" "$program" "$test"
done <"$work/tests"
orders >"$work/orders"
while read -r order program test way _; do
    if [ "$way" = lost ] && [ "$(nproc)" -lt 2 ]; then
        leave_out "$order" "a store and a load cross only between two processors; the model alone shows it here"
        continue
    fi
    expect_notice "$order" "$program" "$test" "$way"
done <"$work/orders"
exit $status
