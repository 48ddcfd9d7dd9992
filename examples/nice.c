/* SPDX-License-Identifier: MIT */
/* Workers that another program starts: the launcher's command is nice(1), so calls give way to whatever else the
 * machine has to do. */
#include <procpool.h>
#include <stdio.h>
#include <sys/resource.h>

static int niceness(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int value = getpriority(PRIO_PROCESS, 0);
    return pp_task_return(task, &value, sizeof value);
}

static int fail(void)
{
    fprintf(stderr, "nice: %s\n", pp_last_error());
    return 1;
}

int main(void)
{
    pp_worker_main();                                                      /* here a worker finds its invitation */
    static const char *const command[] = {"nice", "-n", "19", "{}", NULL}; /* {}: this program */
    const pp_launcher_options options = {.command = command};
    PP_CLEANUP_POOL pp_pool *pool = NULL;
    PP_CLEANUP_FUTURE pp_future *future = NULL;
    pp_launcher *launcher;
    int value;
    if (pp_launcher_create(&options, &launcher) != 0)
        return fail();
    int error = pp_pool_create(&(pp_pool_options){.launcher = launcher}, &pool);
    pp_launcher_unref(launcher); /* the pool has its own reference */
    if (error != 0 || pp_submit(pool, niceness, NULL, 0, &future) != 0 ||
        pp_future_result(future, -1, &value, sizeof value, NULL) != 0)
        return fail();
    printf("%d\n", value);
    return 0;
}
