/* SPDX-License-Identifier: MIT */
#include "base/affinity.h"

#include "base/seam.h"

#include <string.h>

bool pp__affinity_leave(unsigned processor, cpu_set_t *before)
{
    if (PP_SYS(sched_getaffinity)(0, sizeof *before, before) != 0 || CPU_COUNT(before) < 2)
        return false;
    cpu_set_t others = *before;
    CPU_CLR((size_t)processor, &others);
    return PP_SYS(sched_setaffinity)(0, sizeof others, &others) == 0;
}

bool pp__affinity_enter(unsigned processor, cpu_set_t *before)
{
    cpu_set_t one;
    if (PP_SYS(sched_getaffinity)(0, sizeof *before, before) != 0 || !CPU_ISSET((size_t)processor, before))
        return false;
    CPU_ZERO(&one);
    CPU_SET((size_t)processor, &one);
    return PP_SYS(sched_setaffinity)(0, sizeof one, &one) == 0;
}

/*
 * A mask that was never set can't be had again, but one of all that there can ever be forbids no more; it is tried
 * first. Where it allows more than before, one was set, and is set again; one that was set and allows all that may be
 * had now is not told from none.
 */
void pp__affinity_restore(const cpu_set_t *before)
{
    cpu_set_t all, after;
    memset(&all, 0xff, sizeof all);
    PP_SYS(sched_setaffinity)(0, sizeof all, &all);
    if (PP_SYS(sched_getaffinity)(0, sizeof after, &after) != 0 || !CPU_EQUAL(before, &after))
        PP_SYS(sched_setaffinity)(0, sizeof *before, before);
}
