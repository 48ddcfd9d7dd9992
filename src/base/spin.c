/* SPDX-License-Identifier: MIT */
#include "base/spin.h"

#include "base/clock.h"

/* The clock costs more than a look. */
#define ROUNDS 16
/* So long between two readings of the clock says that somebody else had the processor. */
#define JUMP UINT64_C(20000)

void pp__spin_begin(struct pp__spin *spin, uint64_t budget)
{
    *spin = (struct pp__spin){.budget = budget};
    if (budget > 0)
        spin->begun = spin->last = pp__now();
}

bool pp__spin_on(struct pp__spin *spin)
{
    if (spin->budget == 0)
        return false;
    pp__spin_rest();
    if (++spin->rounds % ROUNDS != 0)
        return true;
    uint64_t now = pp__now();
    spin->jumped = now - spin->last > JUMP;
    spin->last = now;
    return !spin->jumped && now - spin->begun < spin->budget;
}
