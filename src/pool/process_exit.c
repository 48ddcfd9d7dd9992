/* SPDX-License-Identifier: MIT */
/* The end of the program, for its processes: a handler of exit(3)'s kills those that are daemons and awaits the others.
 * As exit.c, which does it for pools. */
#include "base/cancel.h"
#include "pool/live.h"
#include "pool/process.h"

#include <errno.h>

#define KILL_GRACE 2000 /* ms; their zygote sees to it in any case */

static void run(void);

static bool take(struct pp__link *link, unsigned round)
{
    pp_process *process = pp__container(link, pp_process, in_live);
    if (process->exit_round == round || !pp__process_try_ref(process))
        return false;
    process->exit_round = round;
    return true;
}

static struct pp__live live = {.name = "processes", .at_exit = run, .take = take};

static void begin(pp_process *process)
{
    if (process->daemon)
        pp_process_kill(process);
}

static void end(pp_process *process)
{
    if (process->daemon)
        pp_process_join(process, KILL_GRACE);
    else
        while (pp_process_join(process, -1) == -EINTR) {
        }
}

static void for_each(void (*act)(pp_process *process))
{
    unsigned round = pp__live_begin_round(&live);
    for (struct pp__link *link; (link = pp__live_next(&live, round));) {
        pp_process *process = pp__container(link, pp_process, in_live);
        act(process);
        pp_process_unref(process);
    }
}

void pp__process_exit_start(void)
{
    pp__live_begin_exit(&live);
}

static void run(void)
{
    PP__NO_CANCELLATION();
    pp__process_exit_start();
    if (!pp__live_begin_end(&live))
        return;
    for_each(begin);
    for_each(end);
}

int pp__process_exit_prepare(void)
{
    return pp__live_prepare(&live);
}

bool pp__process_exit_enter(pp_process *process)
{
    return pp__live_enter(&live, &process->in_live);
}

void pp__process_exit_leave(pp_process *process)
{
    pp__live_leave(&live, &process->in_live);
}
