/* SPDX-License-Identifier: MIT */
/* What a task finds around itself, whatever its owner has done: a clean process. */
#include "call_kit.h"

static int task_name(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    char name[64] = "";
    int fd = open("/proc/self/comm", O_RDONLY);
    ssize_t got = read(fd, name, sizeof name - 1);
    close(fd);
    return pp_task_return(task, name, got > 0 ? (size_t)got : 0);
}

BOTH(a_worker_is_named_by_its_number)
{
    pp_pool *pool = kit_pool(method, 1);
    char name[64] = "";
    size_t size;
    pp_future *future = submit(pool, task_name, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, name, sizeof name - 1, &size));
    CHECK_STR(name, "pp-worker-0\n");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
