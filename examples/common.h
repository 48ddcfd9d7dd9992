/* SPDX-License-Identifier: MIT */
/* What several examples share: how their errors end them, as exceptions do in Python, and how they wait for processes.
 */
#ifndef PP_EXAMPLES_COMMON_H
#define PP_EXAMPLES_COMMON_H

#include <err.h>
#include <procpool.h>
#include <stdio.h>

/* What a function of the library has returned; if that is an error, it is told, and this process ends. */
static inline int check(int code)
{
    if (code < 0)
        errx(1, "%s", pp_last_error());
    return code;
}

/* Waits for the end of a process, a second at most, then kills it. An end by a signal is told. */
static inline void finish(pp_process *process, const char *what)
{
    int code = 0;
    if (pp_process_join(process, 1000) != 0) {
        pp_process_kill(process);
        pp_process_join(process, -1);
    }
    if (pp_process_exit_code(process, &code) == 0 && code < 0)
        printf("%s: its process was ended by signal %d\n", what, -code);
    pp_process_unref(process);
}

#endif
