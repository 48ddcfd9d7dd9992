/* SPDX-License-Identifier: MIT */
/* How finalizers end, and what of that the program is told. */
#include "processes_kit.h"

enum { KEPT = 64 };

/* What was handed out, copied. */
static struct kept {
    pp_finalized end;
    char data[64];
    pp_error error;
    char message[256];
} kept[KEPT];
static _Atomic int count;

static void keep(void *data, const pp_finalized *end)
{
    CHECK(data == kept);
    CHECK(count < KEPT);
    struct kept *k = &kept[count];
    k->end = *end;
    if (end->data)
        memcpy(k->data, end->data, end->size < sizeof k->data ? end->size : sizeof k->data);
    if (end->error) {
        k->error = *end->error;
        snprintf(k->message, sizeof k->message, "%s", end->error->message);
    }
    count++;
}

static int note_pid(pp_task *task, const void *arg, size_t size)
{
    CHECK_INT(size, 5);
    CHECK_STR(arg, "last");
    return task_pid(task, arg, size);
}

static pp_pool_options with(pp_function *finalizer, int workers)
{
    return (pp_pool_options){.max_workers = workers,
                             .finalizer = finalizer,
                             .finalizer_arg = "last",
                             .finalizer_arg_size = 5,
                             .finalized = keep,
                             .finalized_data = kept};
}

BOTH(what_finalizers_return_is_handed_out)
{
    pid_t pids[3];
    int seen = 0;
    pp_pool *pool = open_pool(with(note_pid, 3), method);
    start_workers(pool, 0, 3, pids);
    CHECK_INT(count, 0);
    pp_pool_destroy(pool);
    CHECK_INT(count, 3);
    for (int i = 0; i < 3; i++) {
        const pp_finalized *end = &kept[i].end;
        CHECK_INT(end->code, 0);
        CHECK(end->error == NULL);
        CHECK_INT(end->size, sizeof(int));
        CHECK_INT(read_int(kept[i].data), end->pid);
        CHECK(end->pid == pids[0] || end->pid == pids[1] || end->pid == pids[2]);
        seen |= 1 << end->worker;
    }
    CHECK_INT(seen, 7);
}

/* Before the pool's end, too. */
BOTH(what_finalizers_of_recycled_workers_return_is_handed_out)
{
    pp_pool_options options = with(note_pid, 1);
    options.max_tasks = 1;
    pp_pool *pool = open_pool(options, method);
    for (int i = 0; i < 10; i++) {
        pid_t pid = take_int(submit(pool, task_pid, NULL, 0));
        until(count == i + 1);
        CHECK_INT(kept[i].end.pid, pid);
        CHECK_INT(kept[i].end.worker, 0);
    }
    pp_pool_destroy(pool);
}

static const size_t sizes[] = {0, 1, 16384, 16385, 100000, 1 << 20, 5 << 20};

static int give(pp_task *task, const void *arg, size_t size)
{
    size_t wanted;
    CHECK_INT(size, sizeof wanted);
    memcpy(&wanted, arg, sizeof wanted);
    char *room = pp_task_reserve(task, wanted);
    CHECK(room != NULL);
    memset(room, 'x', wanted);
    return 0;
}

static void check_size(void *data, const pp_finalized *end)
{
    CHECK_INT(end->code, 0);
    CHECK_INT(end->size, *(size_t *)data);
    CHECK(((uintptr_t)end->data & 15) == 0);
    const char *bytes = end->data;
    for (size_t i = 0; i < end->size; i++)
        CHECK(bytes[i] == 'x');
    CHECK(bytes[end->size] == 0);
    count++;
}

BOTH_WITHIN(large_results_of_finalizers_are_handed_out, 30)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2,
                                                    .finalizer = give,
                                                    .finalizer_arg = &size,
                                                    .finalizer_arg_size = sizeof size,
                                                    .finalized = check_size,
                                                    .finalized_data = &size},
                                  method);
        pid_t pids[2];
        shared()->gates[0] = shared()->arrived[0] = 0;
        start_workers(pool, 0, 2, pids);
        pp_pool_destroy(pool);
        CHECK_INT(count, 2 * (int)(i + 1));
    }
}

static int fail_with(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_fail(task, -ENOSPC, "the disk is full");
}

static int exit_with_0(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    exit(0);
}

static int hang(pp_task *task, const void *arg, size_t size)
{
    gate_wait(15);
    return nothing(task, arg, size);
}

static const struct kept *end_with(pp_start_method method, pp_function *finalizer)
{
    pp_pool_options options = with(finalizer, 1);
    options.finalizer_timeout = finalizer == hang ? 200 : 0;
    pp_pool *pool = open_pool(options, method);
    int before = count;
    pid_t pid = take_int(submit(pool, task_pid, NULL, 0));
    pp_pool_destroy(pool);
    CHECK_INT(count, before + 1);
    CHECK_INT(kept[before].end.pid, pid);
    CHECK_INT(kept[before].error.pid, pid);
    CHECK_INT(kept[before].end.code, kept[before].error.code);
    CHECK(kept[before].end.data == NULL);
    return &kept[before];
}

BOTH(finalizers_that_fail_crash_or_hang_are_told_apart)
{
    const struct kept *failed = end_with(method, fail_with);
    CHECK_INT(failed->error.kind, PP_ERROR_TASK);
    CHECK_INT(failed->error.task_code, -ENOSPC);
    CHECK_STR(failed->message, "the disk is full");
    const struct kept *crashed = end_with(method, crash);
    CHECK_INT(crashed->error.kind, PP_ERROR_CRASH);
    CHECK_INT(crashed->error.signal, SIGKILL);
    const struct kept *exited = end_with(method, exit_with_0);
    CHECK_INT(exited->error.kind, PP_ERROR_CRASH);
    CHECK_INT(exited->error.status, 0);
    const struct kept *hung = end_with(method, hang);
    CHECK_INT(hung->error.kind, PP_ERROR_TIMEOUT);
    CHECK_HAS(hung->message, "finalizer_timeout");
}

/* What dies in a call, or was never a worker, has no finalizer. */
BOTH(only_who_was_told_to_leave_has_finalized)
{
    pp_pool_options options = with(note_pid, 1);
    options.standby = PP_STANDBY_ALWAYS;
    pp_pool *pool = open_pool(options, method);
    for (int i = 0; i < 3; i++)
        drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_CRASH);
    CHECK(take_int(submit(pool, task_pid, NULL, 0)) > 0);
    pp_pool_destroy(pool);
    CHECK_INT(count, 1);
}

BOTH(a_pool_without_a_finalizer_hands_out_nothing)
{
    pp_pool_options options = with(NULL, 1);
    options.finalizer_arg = NULL;
    options.finalizer_arg_size = 0;
    pp_pool *pool = open_pool(options, method);
    CHECK(take_int(submit(pool, task_pid, NULL, 0)) > 0);
    pp_pool_destroy(pool);
    CHECK_INT(count, 0);
}

BOTH(a_released_pool_hands_out_what_its_finalizers_return)
{
    pp_pool *pool = open_pool(with(note_pid, 1), method);
    CHECK(take_int(submit(pool, task_pid, NULL, 0)) > 0);
    pp_pool_release(pool);
    until(count == 1);
}

TEST(an_inline_pool_hands_out_what_its_finalizer_returns)
{
    pp_pool *pool = open_pool(with(note_pid, 1), PP_START_INLINE);
    CHECK_INT(take_int(submit(pool, task_pid, NULL, 0)), getpid());
    pp_pool_destroy(pool);
    CHECK_INT(count, 1);
    CHECK_INT(kept[0].end.code, 0);
    CHECK_INT(kept[0].end.worker, 0);
    CHECK_INT(read_int(kept[0].data), getpid());
}

TEST(an_inline_pool_hands_out_why_its_finalizer_failed)
{
    pp_pool *pool = open_pool(with(fail_with, 1), PP_START_INLINE);
    CHECK_INT(take_int(submit(pool, task_pid, NULL, 0)), getpid());
    pp_pool_destroy(pool);
    CHECK_INT(count, 1);
    CHECK_INT(kept[0].error.kind, PP_ERROR_TASK);
    CHECK_STR(kept[0].message, "the disk is full");
}
