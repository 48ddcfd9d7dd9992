/* SPDX-License-Identifier: MIT */
/* Calls that write, in a pool that captures it. */
#ifndef PP_TESTS_OUTPUT_KIT_H
#define PP_TESTS_OUTPUT_KIT_H

#include "channel_kit.h"
#include "processes_kit.h"

#define BOTH_STREAMS (PP_STDOUT | PP_STDERR)

static inline pp_pool *open_capturing(pp_start_method method, pp_pool_options options)
{
    if (!options.capture)
        options.capture = BOTH_STREAMS;
    if (!options.max_workers)
        options.max_workers = 1;
    return open_pool(options, method);
}

static inline pp_output output_of(pp_future *future, pp_stream stream)
{
    pp_output output;
    CHECK_OK(pp_future_output(future, -1, stream, &output));
    CHECK(((uintptr_t)output.data & 15) == 0 || output.size == 0);
    CHECK_INT(output.data[output.size], 0);
    return output;
}

static inline void check_output(pp_future *future, const char *out, const char *err)
{
    CHECK_STR(output_of(future, PP_STDOUT).data, out);
    CHECK_STR(output_of(future, PP_STDERR).data, err);
}

static inline void check_and_drop(pp_future *future, const char *out, const char *err)
{
    check_output(future, out, err);
    pp_future_unref(future);
}

/* How a task ends that has written what it has. */
enum ending { RETURN, FAIL, CRASH, ABORT, EXIT, HANG, DIE_ONCE };

struct script {
    enum ending ending;
    int number;
};

static inline int write_and_end(pp_task *task, const void *arg, size_t size)
{
    struct script script;
    CHECK_INT(size, sizeof script);
    memcpy(&script, arg, sizeof script);
    printf("out %d\n", script.number);
    fprintf(stderr, "err %d\n", script.number);
    switch (script.ending) {
    case FAIL:
        return pp_task_fail(task, -EIO, "as asked");
    case CRASH:
        raise(SIGKILL);
        break;
    case ABORT:
        abort();
    case EXIT:
        exit(3);
    case HANG:
        shared()->arrived[0]++;
        pause_for_ever();
    case DIE_ONCE:
        if (++shared()->runs[0] == 1)
            raise(SIGKILL);
        printf("again\n");
        break;
    case RETURN:
        break;
    }
    return pp_task_return(task, &script.number, sizeof script.number);
}

static inline pp_future *submit_script(pp_pool *pool, enum ending ending, int number)
{
    struct script script = {.ending = ending, .number = number};
    return submit(pool, write_and_end, &script, sizeof script);
}

#endif
