/* SPDX-License-Identifier: MIT */
/* What somebody else's program may look like: valid C99 and C++11, so that it builds as either and as anything newer.
 */
#include <procpool.h>

#include <stdio.h>
#include <string.h>

static int square(pp_task *task, const void *arg, size_t size)
{
    int n;
    if (size != sizeof n)
        return pp_task_fail(task, -22, "expected an int, got %lu bytes", (unsigned long)size);
    memcpy(&n, arg, sizeof n);
    n *= n;
    return pp_task_return(task, &n, sizeof n);
}

static int say(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, pp_last_error());
    return 1;
}

int main(void)
{
    pp_pool_options options;
    pp_pool *pool;
    pp_future *future;
    int n = 7;

    if (pp_worker_main() != 0)
        return say("pp_worker_main");
    memset(&options, 0, sizeof options);
    options.max_workers = 2;
    options.on_crash = PP_ISOLATE;
    if (pp_pool_create(&options, &pool) != 0)
        return say("pp_pool_create");
    if (pp_submit(pool, square, &n, sizeof n, &future) != 0)
        return say("pp_submit");
    if (pp_future_result(future, -1, &n, sizeof n, NULL) != 0)
        return say("pp_future_result");
    pp_future_unref(future);
    pp_pool_destroy(pool);
    printf("%s %d\n", pp_version(), n);
    return n == 49 ? 0 : 1;
}
