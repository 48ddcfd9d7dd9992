/* SPDX-License-Identifier: MIT */
#include "base/seam.h"

#ifdef PP_SEAMS

#include "base/atomic.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct pp__sys pp__sys = {
#define ENTRY(call) .call = (call),
    PP__SYSTEM_CALLS(ENTRY)
#undef ENTRY
};

/* Written by the arming process before `action` is stored with release; processes that reach the place read `action`
 * with acquire. */
struct fault_order {
    char place[64];
    unsigned n;
    _Atomic unsigned hits;
    _Atomic int action;
};

static struct fault_order *order;

static void arm_from_environment(void)
{
    static const char *const names[] = {"none", "kill", "stop", "exit", "abort"};
    const char *text = getenv("PROCPOOL_FAULT");
    char place[64], action[8];
    unsigned n;
    if (!text || sscanf(text, "%63[^:]:%u:%7s", place, &n, action) != 3)
        return;
    for (int i = PP__FAULT_KILL; i <= PP__FAULT_ABORT; i++)
        if (strcmp(action, names[i]) == 0)
            pp__fault_arm(place, n, (enum pp__fault_action)i);
}

__attribute__((constructor(101))) static void make_order(void)
{
    void *memory = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        abort();
    order = memory;
    arm_from_environment();
}

void pp__fault_arm(const char *place, unsigned n, enum pp__fault_action action)
{
    pp__fault_disarm();
    snprintf(order->place, sizeof order->place, "%s", place);
    order->n = n;
    pp__store_relaxed(&order->hits, 0);
    pp__store_release(&order->action, (int)action); /* pairs with the load in pp__fault_reached */
}

void pp__fault_disarm(void)
{
    pp__store_release(&order->action,
                      PP__FAULT_NONE); /* pairs with the load in pp__fault_reached, which reads nothing else then */
}

unsigned pp__fault_hits(void)
{
    return pp__load_acquire(
        &order->hits); /* pairs with the add in pp__fault_reached: what was done before it is seen */
}

void pp__fault_reached(const char *place)
{
    int action = pp__load_acquire(&order->action); /* pairs with the store in pp__fault_arm */
    if (action == PP__FAULT_NONE || strcmp(place, order->place) != 0)
        return;
    if (atomic_fetch_add(&order->hits, 1) + 1 != order->n) /* pairs with the load in pp__fault_hits */
        return;
    switch ((enum pp__fault_action)action) {
    case PP__FAULT_KILL:
        raise(SIGKILL);
        break;
    case PP__FAULT_STOP:
        raise(SIGSTOP);
        break;
    case PP__FAULT_EXIT:
        _exit(0);
    case PP__FAULT_ABORT:
        abort();
    case PP__FAULT_HANG:
        for (;;)
            pause();
    case PP__FAULT_SIGNAL:
        raise(SIGUSR1);
        break;
    case PP__FAULT_NONE:
        break;
    }
}

#else
typedef int pp__seam_is_empty; /* a translation unit needs a declaration */
#endif
