/* SPDX-License-Identifier: MIT */
/* Counting signals. */
#ifndef PP_TESTS_SIGNAL_KIT_H
#define PP_TESTS_SIGNAL_KIT_H

#include "call_kit.h"

#include <signal.h>
#include <stdatomic.h>

static _Atomic uint32_t handled;

static void handle(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static inline void install(int number, int flags)
{
    struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
    CHECK_INT(sigaction(number, &action, NULL), 0);
}

#endif
