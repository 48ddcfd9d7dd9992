/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include "procpool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#undef pp__fail /* error.h's word to the analyzer */
#undef pp__fail_errno

#define TEXT_MAX 512

static _Thread_local char last_error[TEXT_MAX];

const char *pp_last_error(void)
{
    return last_error;
}

/* Formats into a buffer of its own first: an argument may be the last text itself. */
void pp__fail_text(const char *format, ...)
{
    char text[TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(last_error, text, sizeof text);
}

int pp__fail_errno_text(int error, const char *format, ...)
{
    char text[TEXT_MAX / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    pp__fail_text("%s: %s", text, pp__strerror(error));
    return error;
}

const char *pp__strerror(int error)
{
    static _Thread_local char text[128];
    return strerror_r(error, text, sizeof text);
}

const char *pp__why_no_process(int error)
{
    if (error != EAGAIN)
        return pp__strerror(error);
    return "Resource temporarily unavailable: it may be that RLIMIT_NPROC (ulimit -u), RLIMIT_AS (ulimit -v) or a "
           "control group's pids.max allow no more: raise it";
}
