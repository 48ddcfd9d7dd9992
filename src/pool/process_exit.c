/* SPDX-License-Identifier: MIT */
/* The end of the program, for its processes: a handler of exit(3)'s kills those that are daemons and awaits the others. As exit.c, which does it for pools. */
#include "base/atomic.h"
#include "base/cancel.h"
#include "base/error.h"
#include "base/seam.h"
#include "pool/process.h"
#include "process/owner.h"

#include <errno.h>
#include <stdlib.h>

#define KILL_GRACE 2000 /* ms; their zygote sees to it in any case */
#define REGISTRATIONS 32

/* The live processes of one owner; a forked child has a list of its own. Locked before a process, and never while anything sleeps. */
struct live {
    uint32_t owner;
    pthread_mutex_t lock;
    struct pp__link processes;
    int registrations;
    bool exiting;
    unsigned round; /* of looks at all of them */
};

static _Atomic(struct live *) live;

/* That of this process, or NULL. */
static struct live *find(void)
{
    struct live *have = pp__load_acquire(&live); /* pairs with the exchange in make */
    return have && have->owner == pp__owner_token() ? have : NULL;
}

static struct live *make(void)
{
    struct live *before = pp__load_relaxed(&live), *made = PP_SYS(calloc)(1, sizeof *made);
    if (!made)
        return NULL;
    made->owner = pp__owner_token();
    pthread_mutex_init(&made->lock, NULL);
    pp__list_init(&made->processes);
    if (atomic_compare_exchange_strong_explicit(&live, &before, made, memory_order_acq_rel, memory_order_acquire))
        return made;
    pthread_mutex_destroy(&made->lock); /* another thread was first */
    free(made);
    return find();
}

/* The next one that was not looked at in this round, with a reference; or NULL. */
static pp_process *next_process(struct live *l, unsigned round)
{
    pp_process *found = NULL;
    pthread_mutex_lock(&l->lock);
    for (struct pp__link *link = l->processes.next; link != &l->processes && !found; link = link->next) {
        pp_process *process = pp__container(link, pp_process, in_live);
        if (process->exit_round != round && pp__process_try_ref(process)) {
            process->exit_round = round;
            found = process;
        }
    }
    pthread_mutex_unlock(&l->lock);
    return found;
}

static void for_each(struct live *l, void (*act)(pp_process *process))
{
    pthread_mutex_lock(&l->lock);
    unsigned round = ++l->round;
    pthread_mutex_unlock(&l->lock);
    for (pp_process *process; (process = next_process(l, round));) {
        act(process);
        pp_process_unref(process);
    }
}

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

static void run(void)
{
    PP__NO_CANCELLATION();
    struct live *l = find();
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    bool first = !l->exiting;
    l->exiting = true;
    pthread_mutex_unlock(&l->lock);
    if (!first)
        return;
    for_each(l, begin);
    for_each(l, end);
}

/* Under the list's lock. The first registration is needed; with the others it runs before what the program registered between processes. */
static int prepare(struct live *l)
{
    if (l->exiting)
        return pp__fail(-ESHUTDOWN, "the program exits");
    if (l->registrations < REGISTRATIONS && atexit(run) == 0)
        l->registrations++;
    return l->registrations > 0 ? 0 : pp__fail(-ENOMEM, "no memory for a handler of the program's exit");
}

int pp__process_exit_prepare(void)
{
    struct live *l = find();
    if (!l)
        l = make();
    if (!l)
        return pp__fail(-ENOMEM, "no memory for a list of processes");
    pthread_mutex_lock(&l->lock);
    int error = prepare(l);
    pthread_mutex_unlock(&l->lock);
    return error;
}

bool pp__process_exit_enter(pp_process *process)
{
    struct live *l = find();
    pthread_mutex_lock(&l->lock);
    pp__list_insert(&l->processes, &process->in_live);
    bool exiting = l->exiting;
    pthread_mutex_unlock(&l->lock);
    return !exiting;
}

void pp__process_exit_leave(pp_process *process)
{
    struct live *l = find();
    pthread_mutex_lock(&l->lock);
    pp__list_remove(&process->in_live);
    pthread_mutex_unlock(&l->lock);
}
