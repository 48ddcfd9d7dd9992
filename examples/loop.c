/* SPDX-License-Identifier: MIT */
/*
 * A loop by hand, in one thread: numbers come in on standard input, one a line, and for each the number of primes up to
 * it goes out as soon as it is known, while more is read. SIGINT and SIGTERM, which only ppoll lets in, end the
 * reading; what was begun is still printed.
 */
#include "primes.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

/* Blocks both, and returns what ppoll is to block instead. */
static sigset_t catch_signals(void)
{
    sigset_t ours, before;
    sigemptyset(&ours);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGTERM);
    sigprocmask(SIG_BLOCK, &ours, &before);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    return before;
}

/* Submits what lines there are. False: there is no more. */
static bool read_numbers(pp_pool *pool)
{
    static char text[4096];
    static size_t used;
    ssize_t got = read(STDIN_FILENO, text + used, sizeof text - 1 - used);
    if (got <= 0)
        return false;
    used += (size_t)got;
    text[used] = 0;
    char *line = text, *end;
    for (; (end = strchr(line, '\n')); line = end + 1)
        submit_primes(pool, (unsigned)strtoul(line, NULL, 10));
    used = strlen(line);
    memmove(text, line, used);
    return used + 1 < sizeof text; /* a line that long is no number */
}

static void run(pp_pool *pool, const sigset_t *mask)
{
    struct pollfd watched[] = {{.fd = pp_pool_fd(pool), .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    bool reads = true;
    while (reads || pp_pool_dispatch(pool) > 0) {
        int ready = ppoll(watched, reads ? 2 : 1, NULL, mask);
        if (stopped)
            reads = false;
        if (ready <= 0)
            continue;
        if (watched[0].revents)
            pp_pool_dispatch(pool);
        if (reads && watched[1].revents)
            reads = read_numbers(pool);
        fflush(stdout);
    }
}

int main(void)
{
    pp_worker_main();
    pp_pool *pool = create_loop_pool();
    if (!pool)
        return 1;
    const sigset_t mask = catch_signals();
    run(pool, &mask);
    pp_pool_destroy(pool);
    return 0;
}
