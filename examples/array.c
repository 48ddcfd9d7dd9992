/* SPDX-License-Identifier: MIT */
/* A parallel loop in one call: how many steps of the Collatz sequence each of the first numbers takes to reach 1. */
#include <errno.h>
#include <procpool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define COUNT 100000

static int collatz(pp_task *task, const void *arg, size_t size)
{
    uint64_t n;
    uint64_t steps = 0;
    if (size != sizeof n)
        return pp_task_fail(task, -EINVAL, "expected a number of 8 bytes, got %zu", size);
    memcpy(&n, arg, sizeof n);
    for (; n > 1; steps++)
        n = n % 2 ? 3 * n + 1 : n / 2;
    return pp_task_return(task, &steps, sizeof steps);
}

int main(void)
{
    static uint64_t inputs[COUNT];
    static uint64_t outputs[COUNT];
    size_t longest = 0;
    pp_worker_main();
    for (size_t i = 0; i < COUNT; i++)
        inputs[i] = i + 1;
    PP_CLEANUP_POOL pp_pool *pool = NULL;
    if (pp_pool_create(NULL, &pool) != 0 ||
        pp_map_array(pool, collatz, inputs, COUNT, sizeof inputs[0], outputs, sizeof outputs[0], NULL) != 0) {
        fprintf(stderr, "array: %s\n", pp_last_error());
        return 1;
    }
    for (size_t i = 0; i < COUNT; i++)
        longest = outputs[i] > outputs[longest] ? i : longest;
    printf("of the numbers up to %d, %zu takes most steps: %ju\n", COUNT, longest + 1, (uintmax_t)outputs[longest]);
    return 0;
}
