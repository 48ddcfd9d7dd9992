/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include "procpool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX 512

static _Thread_local char last_error[TEXT_MAX];

const char *pp_last_error(void)
{
    return last_error;
}

/* Formats into a buffer of its own first: an argument may be the last text itself. */
int pp__fail(int code, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    memcpy(last_error, text, sizeof text);
    return code;
}

int pp__fail_errno(int error, const char *format, ...)
{
    char text[TEXT_MAX / 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return pp__fail(-error, "%s: %s", text, pp__strerror(error));
}

const char *pp__strerror(int error)
{
    static _Thread_local char text[128];
    return strerror_r(error, text, sizeof text);
}
