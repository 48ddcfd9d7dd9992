/* SPDX-License-Identifier: MIT */
/* The calling thread's last failure in words. */
#ifndef PP_BASE_ERROR_H
#define PP_BASE_ERROR_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/* Stores the text (cut at 511 bytes); the value is `code`, so that a function can end with it, and who reads or
 * analyzes it sees which. */
#define pp__fail(code, ...) (pp__fail_text(__VA_ARGS__), pp__fail_code(code))

/* The same for a failed call of the system's: "WHAT: text of errno"; the value is -error. */
#define pp__fail_errno(error, ...) pp__fail_code(-pp__fail_errno_text((error), __VA_ARGS__))

void pp__fail_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Returns `error`. */
int pp__fail_errno_text(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline int pp__fail_code(int code)
{
    return code;
}

#ifdef __clang_analyzer__
/* The analyzer sees one file at a time; this tells it that what comes back is the code, and no success. */
static inline int pp__analyzed_code(int code)
{
    if (code == 0)
        __builtin_unreachable();
    return code;
}
#define pp__fail(code, ...) (pp__fail(code, __VA_ARGS__), pp__analyzed_code(code))
#define pp__fail_errno(error, ...) (pp__fail_errno(error, __VA_ARGS__), pp__analyzed_code(-(error)))
#endif

/* The reserved words of any options: 0 or -EINVAL. */
static inline int pp__check_reserved(const uint64_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (words[i])
            return pp__fail(-EINVAL, "reserved[%zu] is not zero: the options must be zeroed before they are filled", i);
    return 0;
}

/* An option that is on or off: 0 or -EINVAL. Any other value may mean more one day. */
static inline int pp__check_switch(const char *name, int value)
{
    return value == 0 || value == 1 ? 0 : pp__fail(-EINVAL, "%s is %d; it must be 0 or 1", name, value);
}

/* strerror that is safe in threads; the text belongs to the calling thread (or is constant). */
const char *pp__strerror(int error);

/* The same where a process or thread can't be made: EAGAIN is a limit then, and says which may be raised. */
const char *pp__why_no_process(int error);

#endif
