/* SPDX-License-Identifier: MIT */
/*
 * Looking again for a while before sleeping. It orders nothing: whoever spins in vain still goes to sleep by the
 * sleeper's own protocol.
 *
 *   struct pp__spin spin;
 *   pp__spin_begin(&spin, budget);
 *   while (!there() && pp__spin_on(&spin)) {
 *   }
 */
#ifndef PP_BASE_SPIN_H
#define PP_BASE_SPIN_H

#include <stdbool.h>
#include <stdint.h>

struct pp__spin {
    uint64_t begun, last; /* pp__now() */
    uint64_t budget;      /* ns */
    unsigned rounds;
    bool jumped; /* time passed in which this thread did not run: its processor was wanted */
};

/* Tells the processor that this is one round of a spin: some tens of ns. */
static inline void pp__spin_rest(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

void pp__spin_begin(struct pp__spin *spin, uint64_t budget);

/* Pauses for some tens of ns: true while the budget lasts and the clock goes steadily. */
bool pp__spin_on(struct pp__spin *spin);

#endif
