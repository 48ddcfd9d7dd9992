/* SPDX-License-Identifier: MIT */
/* What the examples of event loops have in common: a task that takes a while, its submit, and a callback that prints
 * what came of it. */
#ifndef EXAMPLES_PRIMES_H
#define EXAMPLES_PRIMES_H

#include <procpool.h>
#include <stdio.h>

struct primes {
    unsigned limit, count;
};

static int count_primes(pp_task *task, const void *arg, size_t size)
{
    struct primes primes = {.limit = size == sizeof(unsigned) ? *(const unsigned *)arg : 0};
    for (unsigned n = 2; n <= primes.limit; n++) {
        unsigned divisor = 2;
        while (divisor * divisor <= n && n % divisor != 0)
            divisor++;
        primes.count += divisor * divisor > n;
    }
    return pp_task_return(task, &primes, sizeof primes);
}

/* A pp_callback. */
static void print_primes(pp_future *future, void *context)
{
    struct primes primes;
    (void)context;
    if (pp_future_result(future, 0, &primes, sizeof primes, NULL) == 0)
        printf("up to %u: %u\n", primes.limit, primes.count);
    else
        fprintf(stderr, "%s\n", pp_last_error());
}

/* A pool without a thread: callbacks run in the loop. NULL: it was said why. */
static pp_pool *create_loop_pool(void)
{
    pp_pool *pool = NULL;
    if (pp_pool_create(&(pp_pool_options){.event_loop = 1}, &pool) != 0)
        fprintf(stderr, "%s\n", pp_last_error());
    return pool;
}

static void submit_primes(pp_pool *pool, unsigned limit)
{
    PP_CLEANUP_FUTURE pp_future *future = NULL;
    int code = pp_submit(pool, count_primes, &limit, sizeof limit, &future);
    if (code == 0)
        code = pp_future_add_callback(future, print_primes, NULL);
    if (code != 0)
        fprintf(stderr, "%u: %s\n", limit, pp_last_error());
}

#endif
