/* SPDX-License-Identifier: MIT */
/* Three processes put products into a queue of 40, three others take them out, until each has taken the message that
 * says there are no more: an empty one. */
#include "common.h"

#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { EACH = 3, PRODUCTS = 5 };

/* The queue, by the descriptor that a process has inherited. */
static pp_queue *open_queue(const int *fd)
{
    pp_queue *queue;
    check(pp_queue_open(*fd, &queue));
    srandom((unsigned)getpid());
    return queue;
}

static void say(pp_queue *queue, const char *did, const char *product)
{
    printf("%s (%d) %s %s, the queue has %zd now\n", pp_process_current_name(), (int)getpid(), did, product,
           pp_queue_size(queue));
    fflush(stdout);
    nanosleep(&(struct timespec){.tv_nsec = 1000000 * (random() % 30)}, NULL);
}

static int produce(void *fd, size_t size)
{
    pp_queue *queue = open_queue(fd);
    (void)size;
    for (int i = 0; i < PRODUCTS; i++) {
        check(pp_queue_put(queue, "one product", 12, -1));
        say(queue, "produced", "one product");
    }
    pp_queue_unref(queue);
    return 0;
}

static int consume(void *fd, size_t size)
{
    pp_queue *queue = open_queue(fd);
    char product[32];
    while (pp_queue_get(queue, -1, product, sizeof product, &size) == 0 && size > 0)
        say(queue, "consumed", product);
    pp_queue_unref(queue);
    return 0;
}

static pp_process *start(pp_process_function *function, const char *kind, int number, int fd)
{
    char name[32];
    pp_process *process;
    snprintf(name, sizeof name, "%s-%d", kind, number);
    const pp_process_options options = {.name = name, .inherit_fds = &fd, .inherit_fd_count = 1};
    check(pp_process_start(function, &fd, sizeof fd, &options, &process));
    return process;
}

int main(void)
{
    pp_worker_main();
    pp_queue *queue;
    pp_process *processes[2 * EACH];
    check(pp_queue_create(&(pp_queue_options){.max_items = 40}, &queue));
    for (int i = 0; i < EACH; i++) {
        processes[i] = start(produce, "Producer", i + 1, pp_queue_fd(queue));
        processes[EACH + i] = start(consume, "Consumer", i + 1, pp_queue_fd(queue));
    }
    for (int i = 0; i < EACH; i++)
        pp_process_join(processes[i], -1);
    for (int i = 0; i < EACH; i++)
        check(pp_queue_put(queue, NULL, 0, -1));
    for (int i = 0; i < 2 * EACH; i++) {
        pp_process_join(processes[i], -1);
        pp_process_unref(processes[i]);
    }
    pp_queue_unref(queue);
}
