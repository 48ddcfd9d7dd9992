/* SPDX-License-Identifier: MIT */
/*
 * A process that runs one function, without a pool: what owner and process share, and the owner's handle. It has a
 * connection to its launcher's zygote of its own, over which it is signalled and its end is told, and a pidfd, which
 * shows the end at once, also if the zygote has died.
 */
#ifndef PP_POOL_PROCESS_H
#define PP_POOL_PROCESS_H

#include "base/list.h"
#include "process/identity.h"
#include "process/trace.h"
#include "procpool.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

#define PP__PROCESS_FDS 1 /* descriptors of its plan, by whose number it is told from a worker's: the segment */
#define PP__PROCESS_NAME_MAX 64
#define PP__PROCESS_TEXT_MAX 256
#define PP__PROCESS_UNFIT 127 /* the exit status where the function can't be run */

/* The data of its plan. */
struct pp__process_plan {
    uint64_t size; /* of the segment */
    uint32_t kin;  /* what it may start itself, see process/owner.h */
    uint32_t reserved;
};

/*
 * The segment's begin; the argument and a NUL lie behind it. All up to `name` is written by the owner before the
 * process is started, and by nobody afterwards. The rest is written by the process: the owner reads it after the
 * process's end, when nobody writes any more but who the process has given its memory to, and so copies and checks it
 * all the same.
 */
struct pp__process_side {
    uint64_t argument_size;
    uint64_t offset;      /* of the function in its module */
    uint64_t travel_size; /* of the module */
    unsigned char travel[PP__MODULE_TRAVEL_MAX];
    char name[PP__PROCESS_NAME_MAX];

    alignas(64) _Atomic uint32_t crash_size; /* stored (release) by a crash, as in channel.h */
    _Atomic uint32_t unfit; /* stored (release), after its text, where the function can't be run: the errno */
    _Atomic uint32_t runs;  /* 1: stored (release) before the function is called */
    char unfit_text[PP__PROCESS_TEXT_MAX];
    alignas(64) unsigned char crash[PP__TRACE_MAX];
    alignas(64) unsigned char argument[];
};

/* Private to the owner. */
struct pp_process {
    _Atomic uint32_t references;
    uint32_t owner; /* pp__owner_token() of the process that started it */
    pp_launcher *launcher;
    int connection; /* shut down by who learns of the end, and so readable for ever; closed with the last reference */
    int pidfd; /* -1 where there are none: then the connection tells all there is; set before others have the handle, as
                  is pid */
    pid_t pid;
    struct pp__process_side *side;
    size_t size; /* of the segment */
    uint64_t begun;
    bool daemon;
    bool outlives; /* its owner and the zygote */
    char name[PP__PROCESS_NAME_MAX];
    char function[PP__FUNCTION_NAME_MAX];

    struct pp__link in_live; /* under the lock of the list of live ones (live.c), as is the next */
    unsigned exit_round;

    pthread_mutex_t
        lock; /* over reading from the connection until the end, and what follows; never held while anything sleeps */
    bool orphaned; /* its zygote is gone, and says no more */
    bool over;     /* it has ended, and its zygote has not said how yet */
    bool ended;    /* and all is known that will be */
    bool seen;     /* and so it is known how */
    pp_error end;
    char message[PP__PROCESS_TEXT_MAX];
};

/* Entered from pp__child_entry. */
_Noreturn void pp__process_entry(const void *data, size_t size, const int *fds, int shared_images);

/* One more reference unless the last one is gone. */
bool pp__process_try_ref(pp_process *process);

/* A descriptor that is readable from its end on. */
int pp__process_sentinel(const pp_process *process);

/* As in exit.h, for processes. */
void pp__process_exit_start(void);
int pp__process_exit_prepare(void);
bool pp__process_exit_enter(pp_process *process);
void pp__process_exit_leave(pp_process *process);

#endif
