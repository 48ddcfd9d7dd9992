/* SPDX-License-Identifier: MIT */
/* The property of ring_property.h as a libFuzzer target; test_ring_hostile.c runs it over fixed seeds. */
#include "ring_property.h"

#include <stdarg.h>

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

/* A check that fails must reach the fuzzer as a crash, with the input kept: the harness's way out would be _exit. */
_Noreturn void harness_fail(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "%s:%d: ", file, line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    abort();
}

void harness_check_int(const char *file, int line, const char *what, long long actual, long long expected)
{
    if (actual != expected)
        harness_fail(file, line, "%s", what);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static struct property property;
    if (!property.in.data) {
        kit_open(&property.in, KIT_PAGE);
        kit_open(&property.out, KIT_PAGE);
    }
    property_run(&property, input, size);
    return 0;
}
