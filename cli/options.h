/* SPDX-License-Identifier: MIT */
/* The options of `procpool map`. */
#ifndef PROCPOOL_CLI_OPTIONS_H
#define PROCPOOL_CLI_OPTIONS_H

#include <procpool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_options {
    int jobs;         /* 0: as many as there are processors */
    uint32_t timeout; /* ms; 0: none */
    uint32_t retries;
    size_t chunk; /* 0: the library's choice */
    pp_crash_rule on_crash;
    pp_start_method start_method;
    bool unordered;
    bool tag;
    bool progress;
    bool fail_fast;
    bool backtrace;
    bool help;
    char ending; /* of lines, in and out */

    const char *task;
    char **inputs;
    size_t input_count; /* 0: the lines of standard input */
};

/* 0, or EXIT_USAGE when what is wrong has been said. argv[0] is the word "map". With `help` set the rest is not there.
 */
int options_parse(int argc, char **argv, struct map_options *options);

extern const char options_help[];

#endif
