/* SPDX-License-Identifier: MIT */
/*
 * The test harness. A test program is this and a list of tests:
 *
 *     #include "harness.h"
 *
 *     TEST(a_list_gives_back_what_was_put_in)
 *     {
 *         CHECK(...);
 *     }
 *
 * The program runs each test in a fresh process of its own (and process group), with stdin on /dev/null and a time
 * limit of 10 s. A test fails when a check fails, when it ends in another way than by returning, when its time runs
 * out, and when it leaves processes behind. What it printed is shown only then.
 *
 *     ./test_base_list               all tests
 *     ./test_base_list NAME...       these
 *     ./test_base_list --run NAME    this one, in this process: for debuggers
 *
 * Environment: PP_TEST_SCALE (multiplies time limits), PP_TEST_SLOW=1 (runs slow tests), PP_TEST_REPORT (a file that
 * gets a line for each test: verdict, program, test, reason, and how much of its time limit it took), PP_TEST_WRAPPER
 * (a command put before each test's, such as valgrind), PP_TEST_NO_WORKER_MAIN (main does not call pp_worker_main).
 */
#ifndef PP_TESTS_HARNESS_H
#define PP_TESTS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>

struct harness_test {
    const char *name;
    void (*run)(void);
    unsigned seconds; /* its time limit, before PP_TEST_SCALE */
    bool slow;
    struct harness_test *next;
};

void harness_add(struct harness_test *test);

#define HARNESS_TEST(test_name, limit, is_slow)                                                                        \
    static void test__##test_name(void);                                                                               \
    __attribute__((constructor)) static void add__##test_name(void)                                                    \
    {                                                                                                                  \
        static struct harness_test test = {                                                                            \
            .name = #test_name, .run = test__##test_name, .seconds = (limit), .slow = (is_slow)};                      \
        harness_add(&test);                                                                                            \
    }                                                                                                                  \
    static void test__##test_name(void)

#define HARNESS_SECONDS 10

#define TEST(name) HARNESS_TEST(name, HARNESS_SECONDS, false)
#define TEST_WITHIN(name, seconds) HARNESS_TEST(name, (seconds), false)
/* Run only with PP_TEST_SLOW=1. */
#define SLOW_TEST(name) HARNESS_TEST(name, 12 * HARNESS_SECONDS, true)
#define SLOW_TEST_WITHIN(name, seconds) HARNESS_TEST(name, (seconds), true)

/*
 * Checks print where, what and the values, and end the process with status 1, from any thread. In a child that the test
 * forked they do the same; what its status means is for the test to check.
 */
#define CHECK(condition) ((condition) ? (void)0 : harness_fail(__FILE__, __LINE__, "%s", #condition))
#define CHECK_INT(actual, expected)                                                                                    \
    harness_check_int(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))
#define CHECK_STR(actual, expected) harness_check_str(__FILE__, __LINE__, #actual, (actual), (expected))
/* The text contains `part`. */
#define CHECK_HAS(text, part) harness_check_has(__FILE__, __LINE__, #text, (text), (part))
/* The value is not negative; prints pp_last_error() else. Is the value. */
#define CHECK_OK(expression) harness_check_ok(__FILE__, __LINE__, #expression, (long long)(expression))

/* Ends the test as left out: neither passed nor failed, and counted and printed as such. For what the machine can't do.
 */
#define LEFT_OUT(reason) harness_left_out(reason)

_Noreturn void harness_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
void harness_check_int(const char *file, int line, const char *what, long long actual, long long expected);
void harness_check_str(const char *file, int line, const char *what, const char *actual, const char *expected);
void harness_check_has(const char *file, int line, const char *what, const char *text, const char *part);
long long harness_check_ok(const char *file, int line, const char *what, long long actual);
_Noreturn void harness_left_out(const char *reason);

/* Keeps what is used until the test ends from being taken for a leak. Returns it. Main thread only. */
void *harness_keep(void *memory);

/* PP_TEST_SCALE: for limits that a test sets itself. At least 1. */
unsigned harness_scale(void);

#endif
