/* SPDX-License-Identifier: MIT */
/*
 * Selecting where memory, descriptors and threads are wanting, and where those who put into a queue die or are stopped
 * in it.
 *
 * needs: seams
 */
#include "process_kit.h"
#include "want_kit.h"

static int failing_thread(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    return fails(EAGAIN) ? EAGAIN : real.pthread_create(thread, attributes, run, argument);
}

static void *failing_realloc(void *memory, size_t size)
{
    return fails(ENOMEM) ? NULL : real.realloc(memory, size);
}

__attribute__((constructor)) static void put_failures(void)
{
    real = pp__sys;
    pp__sys.calloc = failing_calloc;
    pp__sys.realloc = failing_realloc;
    pp__sys.eventfd = failing_eventfd;
    pp__sys.pthread_create = failing_thread;
}

TEST(want_at_any_step_is_told_and_leaves_nothing)
{
    pp_queue *queue = NULL;
    pp_future *future = NULL;
    CHECK_OK(pp_queue_create(NULL, &queue));
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    CHECK_OK(pp_future_create(pool, &future));
    pp_selectable items[] = {{.kind = PP_SELECT_QUEUE, .queue = queue},
                             {.kind = PP_SELECT_FUTURE, .future = future},
                             {.kind = PP_SELECT_QUEUE, .queue = queue}};
    CHECK_INT(pp_select(items, 3, 1), -ETIMEDOUT);
    int fds = count_fds(), threads = settled_thread_count();
    long step = 1;
    for (bool met = true; met; step++) {
        arm(step);
        int error = (int)pp_select(items, 3, 1);
        met = disarm();
        CHECK(met ? error == -ENOMEM || error == -ENFILE || error == -EAGAIN : error == -ETIMEDOUT);
    }
    CHECK(step > 8);
    CHECK_INT(count_fds(), fds);
    wait_until(thread_count() <= threads, 10);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    pp_queue_unref(queue);
}

static void put_one(pp_queue *queue)
{
    CHECK_OK(pp_queue_put(queue, &(int){5}, sizeof(int), -1));
    _exit(0);
}

/* The message is there, or not, and who selects sees it, or waits on; then the next one. */
TEST(who_dies_in_a_put_keeps_no_select)
{
    static const struct {
        const char *place;
        bool done;
    } steps[] = {{"queue.put.inside", false}, {"queue.put.copied", false}, {"queue.put.after", true},
                 {"sync.gate.ring", true},    {"sync.gate.leave", true},   {"queue.put.done", true}};
    pp_queue *queue = NULL;
    CHECK_OK(pp_queue_create(NULL, &queue));
    pp_selectable item = {.kind = PP_SELECT_QUEUE, .queue = queue};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        pid_t child = fork();
        if (child == 0) {
            test_sleep_ms(5); /* for the most part the other sleeps by then */
            pp__fault_arm(steps[i].place, 1, PP__FAULT_KILL);
            put_one(queue);
        }
        CHECK_INT(pp_select(&item, 1, steps[i].done ? -1 : 60), steps[i].done ? 1 : -ETIMEDOUT);
        wait_for(child);
        pp__fault_disarm();
        CHECK_INT(pp_queue_size(queue), steps[i].done);
        if (steps[i].done)
            CHECK_OK(pp_queue_get(queue, -1, &(int){0}, sizeof(int), NULL));
    }
    pp_queue_unref(queue);
}

/* Others become ready all the same, and the time runs out, though up to a second late. */
TEST(who_is_stopped_in_a_put_keeps_no_other_thing)
{
    int ends[2];
    pp_queue *queue = NULL;
    CHECK_INT(pipe(ends), 0);
    CHECK_OK(pp_queue_create(NULL, &queue));
    pp_selectable items[] = {{.kind = PP_SELECT_QUEUE, .queue = queue}, {.kind = PP_SELECT_FD, .fd = ends[0]}};
    pp__fault_arm("queue.put.inside", 1, PP__FAULT_STOP);
    pid_t child = fork();
    if (child == 0)
        put_one(queue);
    wait_until(is_stopped(child), 10);
    CHECK_INT(pp_select(items, 2, 5), -ETIMEDOUT);
    CHECK_INT(write(ends[1], "x", 1), 1);
    CHECK_INT(pp_select(items, 2, -1), 1);
    CHECK_INT(items[1].ready, POLLIN);
    kill(child, SIGCONT);
    CHECK_INT(pp_select(items, 1, -1), 1);
    CHECK_INT(wait_for(child), 0);
    pp_queue_unref(queue);
}
