/* SPDX-License-Identifier: MIT */
/* What a signal handler that ran means for who slept. */
#ifndef PP_BASE_INTERRUPT_H
#define PP_BASE_INTERRUPT_H

#include <stdbool.h>

/* Whether a wait that a signal handler interrupted goes on. */
bool pp__wait_goes_on(void);

#endif
