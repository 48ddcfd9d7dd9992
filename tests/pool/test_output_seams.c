/* SPDX-License-Identifier: MIT */
/*
 * Captured output where memory or descriptors run out, at every step.
 *
 * needs: seams
 */
#include "call_kit.h"
#include "want_kit.h"

#include "pool/channel.h"

/* In the environment, for images of all methods: a process that is no owner gets no files. */
#define NO_FILES "PP_TEST_NO_FILES"

static ssize_t failing_recvmsg(int socket, struct msghdr *message, int flags)
{
    const char *owner = getenv(NO_FILES);
    if (!owner || atoi(owner) == getpid() || message->msg_iov->iov_len != sizeof(struct pp__attachment))
        return real.recvmsg(socket, message, flags);
    errno = ENOMEM;
    return -1;
}

__attribute__((constructor)) static void make_scarce(void)
{
    real = pp__sys;
    pp__sys.malloc = failing_malloc;
    pp__sys.calloc = failing_calloc;
    pp__sys.memfd_create = failing_memfd_create;
    pp__sys.recvmsg = failing_recvmsg;
}

static int say(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    printf("%.*s", (int)size, (const char *)arg);
    return 0;
}

/* Of a submit that was accepted: the output, or a word that there was no memory for it. True: that word. The step that
 * fails may be the result's, too. */
static bool check_said(pp_future *future)
{
    pp_output output;
    const pp_error *error;
    int code = pp_future_output(future, -1, PP_STDOUT, &output);
    if (code == 0)
        CHECK_STR(output.data, "said");
    else
        CHECK_INT(code, -ENOMEM);
    if (code)
        CHECK_HAS(pp_last_error(), "no memory");
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(!error || (error->kind == PP_ERROR_TRAVEL && error->task_code == -ENOMEM && code == 0));
    pp_future_unref(future);
    return code != 0;
}

BOTH(without_memory_for_it_output_is_missing_and_that_is_told)
{
    pp_future *future;
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .capture = PP_STDOUT});
    int missing = 0, refused = 0;
    check_said(submit(pool, say, "said", 4));
    for (long n = 1, failed = true; failed; n++) {
        arm(n);
        int code = pp_submit(pool, say, "said", 4, &future);
        if (code == 0)
            missing += check_said(future);
        else
            CHECK_INT(code, -ENOMEM);
        refused += code != 0;
        failed = disarm();
    }
    CHECK_INT(missing, 1);
    CHECK(refused > 1);
    pp_pool_destroy(pool);
}

/* The pool, or its first worker, comes at the next try. */
BOTH_WITHIN(without_descriptors_for_its_files_a_worker_comes_later, 60)
{
    pp_launcher *launcher = NULL;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    for (long n = 1, failed = true; failed; n++) {
        const pp_pool_options options = {.launcher = launcher, .max_workers = 1, .capture = PP_STDOUT | PP_STDERR};
        pp_pool *pool = NULL;
        CHECK_OK(pp_pool_create(&options, &pool));
        arm(n);
        pp_future *future = NULL;
        int code = pp_submit(pool, say, "said", 4, &future);
        if (code == 0)
            check_said(future);
        else
            CHECK_INT(code, -ENOMEM);
        failed = disarm();
        pp_pool_destroy(pool);
    }
    pp_launcher_unref(launcher);
}

BOTH(a_worker_that_can_not_have_its_files_breaks_the_pool_with_that_cause)
{
    char owner[16];
    const pp_error *error;
    snprintf(owner, sizeof owner, "%d", (int)getpid());
    CHECK_INT(setenv(NO_FILES, owner, 1), 0);
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .capture = PP_STDERR});
    pp_future *future = submit(pool, say, "said", 4);
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL);
    CHECK_INT(error->kind, PP_ERROR_BROKEN);
    CHECK_INT(error->task_code, -ENOMEM);
    CHECK_HAS(error->message, "the files for its output can't be received");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
