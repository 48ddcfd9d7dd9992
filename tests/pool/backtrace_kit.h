/* SPDX-License-Identifier: MIT */
/* For tests of where calls failed: looks at a backtrace's lines. */
#ifndef PP_TESTS_POOL_BACKTRACE_KIT_H
#define PP_TESTS_POOL_BACKTRACE_KIT_H

#include "processes_kit.h"

/* Workers that report their crashes. */
static inline pp_pool *open_reporting(int workers, pp_start_method method)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind crashes are valgrind's affair");
    return open_workers(workers, method);
}

/* The number of the frame whose line has `part`, -1: none has. */
static inline int frame_with(const char *text, const char *part)
{
    const char *found = strstr(text, part);
    int lines = 0;
    for (const char *at = text; found && at < found; at++)
        lines += *at == '\n';
    return found ? lines : -1;
}

static inline int count_frames(const char *text)
{
    int lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

/* Each line begins with its number, ends in a newline, and says something. */
static inline void check_form(const char *text)
{
    int i = 0;
    for (const char *line = text; *line; line = strchr(line, '\n') + 1, i++) {
        char begin[32];
        int size = snprintf(begin, sizeof begin, "#%d ", i);
        if (strncmp(line, begin, (size_t)size) != 0 || !strchr(line, '\n') || line[size] == '\n')
            harness_fail(__FILE__, __LINE__, "line %d has another form in:\n%s", i, text);
    }
}

/* The text has frames of these functions, each outside of the one before; NULL-ended. The last one is the outermost. */
static inline void check_functions(const char *text, const char *const *functions)
{
    int last = -1;
    check_form(text);
    for (; *functions; functions++) {
        char part[128];
        snprintf(part, sizeof part, " %s ", *functions);
        int frame = frame_with(text, part);
        if (frame <= last)
            harness_fail(__FILE__, __LINE__, "%s is not where it should be in:\n%s", *functions, text);
        last = frame;
    }
    CHECK_INT(last, count_frames(text) - 1);
}
#define CHECK_FUNCTIONS(text, ...) check_functions(text, (const char *const[]){__VA_ARGS__, NULL})

/* Whether lines are known at all: without libdw they are not. */
static inline bool have_lines(const char *text)
{
    return strstr(text, " at ") != NULL;
}

#endif
