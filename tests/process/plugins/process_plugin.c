/* SPDX-License-Identifier: MIT */
/* A module with functions to be found; tests build variants of it with -D. */
#ifndef ADDEND
#define ADDEND 100
#endif
#ifdef ON_OPEN
#include <stdlib.h>
__attribute__((constructor)) static void tell(void)
{
    setenv("CONSTRUCTOR_RAN", "1", 1);
}
#endif

typedef int plugin_function(int);
int plugin_add(int value);
plugin_function *plugin_hidden(void);
int plugin_data = 7;
const int plugin_constant = 8;

int plugin_add(int value)
{
    return value + ADDEND;
}

static __attribute__((noinline)) int secret_multiply(int value)
{
    return value * ADDEND;
}

plugin_function *plugin_hidden(void)
{
    return secret_multiply;
}
