/* SPDX-License-Identifier: MIT */
/* A process of pp_process_start, from inside: it finds the function that it was started for, runs it, and ends with
 * what that returns. */
#include "base/atomic.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/process.h"
#include "process/child.h"
#include "process/crash.h"
#include "process/owner.h"
#include "shm/segment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Written before the function runs. A process that was forked from this one, a worker too, has a copy that is not its
 * own. */
static struct {
    pid_t pid;
    char name[PP__PROCESS_NAME_MAX];
} current;

const char *pp_process_current_name(void)
{
    return current.pid == getpid() ? current.name : "";
}

static struct pp__process_side *open_segment(const void *data, size_t size, int fd)
{
    struct pp__process_plan plan;
    void *memory;
    if (size != sizeof plan)
        pp__child_exit(PP__PROCESS_UNFIT);
    memcpy(&plan, data, sizeof plan);
    if (plan.kin > PP__KIN_NONE || plan.size < sizeof(struct pp__process_side) ||
        pp__segment_map(fd, plan.size, true, &memory) != 0)
        pp__child_exit(PP__PROCESS_UNFIT);
    pp__fd_close(fd);
    pp__owner_set_kin((enum pp__kin)plan.kin);
    PP_SYS(madvise)(memory, plan.size, MADV_DOFORK); /* the argument is there in children that the function forks */
    return memory;
}

static _Noreturn void tell_unfit(struct pp__process_side *side, int error)
{
    snprintf(side->unfit_text, sizeof side->unfit_text, "%s", pp_last_error());
    pp__store_release(&side->unfit, (uint32_t)-error); /* pairs with the load in note_unfit (process.c) */
    pp__child_exit(PP__PROCESS_UNFIT);
}

static pp_process_function *find_function(struct pp__process_side *side, int shared_images)
{
    uintptr_t base;
    pp_process_function *function;
    int error = pp__module_open(side->travel, side->travel_size, shared_images, &base);
    if (error)
        tell_unfit(side, error);
    uintptr_t address = base + side->offset;
    memcpy(&function, &address, sizeof function);
    return function;
}

/* A function that calls pthread_exit unwinds to here. */
static void left_by_pthread_exit(void *unused)
{
    (void)unused;
    exit(EXIT_SUCCESS);
}

/* By exit(3): handlers that the function has registered run, then child.c's, and none that its owner had. */
static _Noreturn void run(pp_process_function *function, struct pp__process_side *side)
{
    pthread_cleanup_push(left_by_pthread_exit, NULL);
    /* Pairs with the load in note_unfit (process.c): from here on any status is the function's own. */
    pp__store_release(&side->runs, 1);
    PP_FAULT("process.run");
    exit(function(side->argument, side->argument_size));
    pthread_cleanup_pop(0);
}

_Noreturn void pp__process_entry(const void *data, size_t size, const int *fds, int shared_images)
{
    struct pp__process_side *side = open_segment(data, size, fds[0]);
    current.pid = getpid();
    memcpy(current.name, side->name, sizeof current.name);
    pp_process_function *function = find_function(side, shared_images);
    pp__trace_set_bottom(__builtin_frame_address(0));
    pp__crash_install(side->crash, sizeof side->crash, &side->crash_size);
    run(function, side);
}
