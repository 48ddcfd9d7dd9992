/* SPDX-License-Identifier: MIT */
/* The first program: a square, computed in another process. */
#include <errno.h>
#include <procpool.h>
#include <stdio.h>
#include <string.h>

static int square(pp_task *task, const void *arg, size_t size)
{
    int n;
    if (size != sizeof n)
        return pp_task_fail(task, -EINVAL, "expected an int, got %zu bytes", size);
    memcpy(&n, arg, sizeof n);
    n *= n;
    return pp_task_return(task, &n, sizeof n);
}

int main(void)
{
    pp_worker_main(); /* first thing: workers are fresh images of this program */
    PP_CLEANUP_POOL pp_pool *pool = NULL;
    PP_CLEANUP_FUTURE pp_future *future = NULL;
    int n = 7;
    if (pp_pool_create(NULL, &pool) != 0 || pp_submit(pool, square, &n, sizeof n, &future) != 0 ||
        pp_future_result(future, -1, &n, sizeof n, NULL) != 0) {
        fprintf(stderr, "first: %s\n", pp_last_error());
        return 1;
    }
    printf("%d\n", n);
    return 0;
}
