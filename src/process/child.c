/* SPDX-License-Identifier: MIT */
/* The first steps of a child, in the order in which one needs the other; runs in its only thread, with all signals
 * blocked. */
#include "process/child.h"

#include "base/fd.h"
#include "base/seam.h"
#include "process/become.h"
#include "process/begin.h"
#include "process/owner.h"
#include "process/sanitizer.h"
#include "process/score.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

pp__child_function *pp__child_run = pp__child_entry;

/* ------------------------------------------------------------------------------------------- leaving */

/* A thread of the task's that is stuck holding the stream must not keep the process: as libc's exit, only some
 * patience. */
static void flush(FILE *stream)
{
    for (int tries = 0; tries < 50; tries++) {
        if (ftrylockfile(stream) == 0) {
            fflush_unlocked(stream);
            funlockfile(stream);
            return;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

void pp__child_exit(int status)
{
    flush(stdout);
    flush(stderr);
    _exit(status);
}

static void on_exit_handler(int status, void *unused)
{
    (void)unused;
    pp__child_exit(status);
}

/* glibc calls handlers of at_quick_exit as it calls those of __cxa_atexit: with the status as second argument. */
static void on_quick_exit_handler(void *unused, int status)
{
    (void)unused;
    pp__child_exit(status);
}

/* Last registered, first run. */
int pp__child_take_exits(void)
{
    void (*quick)(void);
    void (*handler)(void *, int) = on_quick_exit_handler;
    memcpy(&quick, &handler, sizeof quick);
    return PP_SYS(on_exit)(on_exit_handler, NULL) == 0 && PP_SYS(at_quick_exit)(quick) == 0 ? 0 : -ENOMEM;
}

/* ---------------------------------------------------------------------------------------- descriptors */

static void close_descriptors(const struct pp__beginning *b)
{
    int keep[PP__PLAN_FDS + 1 + PP__INHERIT_MAX];
    size_t count = 0;
    for (size_t i = 0; i < b->count; i++)
        keep[count++] = b->fds[i];
    if (b->line >= 0)
        keep[count++] = b->line;
    pp__fd_close_inherited(keep, count);
    if (!b->setup->close_all)
        return;
    for (size_t i = 0; i < b->setup->inherit_count; i++)
        keep[count++] = b->setup->inherit[i];
    pp__fd_close_from(3, keep, count);
}

/* ----------------------------------------------------------------------------------------- appearance */

/* What the child of a zygote's fork has inherited, an image does itself. */
static void begin_image(void)
{
    struct pp__score before;
    if (pp__child_take_exits() != 0)
        _exit(127);
    int score = pp__score_open();
    pp__score_raise(score, &before);
    pp__fd_close(score);
}

/*
 * Ends with the zygote, unless it outlives that; one that ended before prctl had said so is seen by the changed parent.
 * Where it comes from elsewhere it stays in the group of what has started it, and is tied to a line.
 */
void pp__child_follow(const struct pp__beginning *b)
{
    if (b->zygote == 0 || b->plan->outlives)
        return;
    if (PP_SYS(prctl)(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != b->zygote)
        _exit(127);
}

static _Noreturn void enter(const struct pp__beginning *b)
{
    pp__signals_set(0);
    PP_FAULT("child.entry");
    pp__child_run(b->plan->data, b->plan->size, b->fds, b->count, b->setup->shared_images);
    pp__child_exit(EXIT_FAILURE); /* an entry returned, against its promise */
}

/* --------------------------------------------------------------------------------------- the new stack */

#ifndef PP_TSAN
static const struct pp__beginning *entering; /* makecontext passes ints only */

static void enter_on_stack(void)
{
    pp__sanitizer_on_stack();
    enter(entering);
}

static _Noreturn void switch_stack(const struct pp__beginning *b)
{
    static ucontext_t context;
    entering = b;
    if (getcontext(&context) != 0)
        _exit(127);
    context.uc_stack.ss_sp = b->stack;
    context.uc_stack.ss_size = b->stack_size;
    context.uc_link = NULL;
    makecontext(&context, enter_on_stack, 0);
    pp__sanitizer_stack(b->stack, b->stack_size);
    pp__sanitizer_to_stack(b->stack, b->stack_size);
    setcontext(&context);
    _exit(127);
}
#else
static _Noreturn void switch_stack(const struct pp__beginning *b)
{
    enter(b);
}
#endif

void pp__child_detach(const struct pp__beginning *b)
{
    if (b->zygote != 0)
        setpgid(0, 0);
    PP_FAULT("child.begin");
    if (b->image)
        begin_image();
    close_descriptors(b);
    pp__owner_reset();
}

void pp__child_become(const struct pp__beginning *b)
{
    prctl(PR_SET_NAME, b->plan->name);
    if (b->stack)
        switch_stack(b);
    enter(b);
}

void pp__child_begin(const struct pp__beginning *b)
{
    pp__child_follow(b);
    pp__child_detach(b);
    pp__child_become(b);
}
