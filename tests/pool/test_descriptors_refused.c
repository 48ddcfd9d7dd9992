/* SPDX-License-Identifier: MIT */
/* What is no descriptor, is one too many, or is asked for where there is none: it is refused, with its own error. */
#include "descriptors_kit.h"

EACH(what_is_no_descriptor_or_too_many_is_refused_and_nothing_is_left)
{
    static int fds[PP_MAX_DESCRIPTORS + 1];
    pp_future *future = NULL;
    pp_pool *pool = open_workers(1, method);
    int file = make_file(0), before = count_fds();
    for (int i = 0; i <= PP_MAX_DESCRIPTORS; i++)
        fds[i] = file;
    pp_call call = {.function = nothing, .descriptors = fds, .descriptor_count = PP_MAX_DESCRIPTORS + 1};
    CHECK_INT(pp_submit_call(pool, &call, &future), -EINVAL);
    CHECK_HAS(pp_last_error(), "descriptor_count is 253; it must be at most 252");
    call.descriptor_count = SIZE_MAX;
    CHECK_INT(pp_submit_call(pool, &call, &future), -EINVAL);
    call.descriptor_count = 3;
    fds[2] = 190;
    CHECK_INT(pp_submit_call(pool, &call, &future), -EBADF);
    CHECK_HAS(pp_last_error(), "a call's descriptor: ");
    fds[2] = -1;
    CHECK_INT(pp_submit_many(pool, &call, 1, &future), -EBADF);
    call.descriptors = NULL;
    CHECK_INT(pp_submit_call(pool, &call, &future), -EINVAL);
    CHECK_HAS(pp_last_error(), "descriptors is NULL");
    CHECK_INT(count_fds(), before);
    CHECK(future == NULL);
    call.descriptor_count = 0; /* and no descriptors: as if it were not there */
    expect_end(submit_with(pool, call), 0);
    CHECK_OK(pp_pool_shutdown(pool, 0, -1));
    call = (pp_call){.function = nothing, .descriptors = &file, .descriptor_count = 1};
    before = count_fds();
    CHECK_INT(pp_submit_call(pool, &call, &future), -ESHUTDOWN);
    CHECK_INT(count_fds(), before);
    close(file);
    pp_pool_destroy(pool);
}

static int task_ask_wrongly(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    CHECK_INT(pp_task_fd_count(task), 1);
    CHECK_INT(pp_task_fd(task, 1), -EINVAL);
    CHECK_HAS(pp_last_error(), "no descriptor 1: the call has 1");
    CHECK_INT(pp_task_fd(task, SIZE_MAX), -EINVAL);
    CHECK_INT(pp_task_return_fd(task, -1), -EBADF);
    CHECK_INT(pp_task_return_fd(task, 190), -EBADF);
    for (int i = 0; i < PP_MAX_DESCRIPTORS; i++)
        CHECK_OK(pp_task_return_fd(task, pp_task_fd(task, 0)));
    CHECK_INT(pp_task_return_fd(task, pp_task_fd(task, 0)), -EINVAL);
    CHECK_HAS(pp_last_error(), "252");
    return pp_task_return(task, &(int){8}, sizeof(int));
}

static int task_return_what_is_none(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    return pp_task_return_fd(task, 190);
}

static int task_say_what_is_none(pp_task *task, const void *arg, size_t size)
{
    return pp_task_fail(task, task_return_what_is_none(task, arg, size), "own words");
}

EACH(a_task_that_tells_of_a_failed_return_itself_has_its_own_words)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit(pool, task_say_what_is_none, NULL, 0);
    const pp_error *error = error_of(future, PP_ERROR_TASK);
    CHECK_INT(error->task_code, -EBADF);
    CHECK_STR(error->message, "own words");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

EACH(a_task_that_asks_for_what_is_not_there_is_told_so)
{
    int fd = make_file(1);
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_fds(pool, task_ask_wrongly, &fd, 1);
    CHECK_INT(pp_future_fd_count(future, -1), PP_MAX_DESCRIPTORS);
    CHECK_INT(take_int(future), 8);
    future = submit_fds(pool, task_return_what_is_none, &fd, 1);
    CHECK_INT(error_of(future, PP_ERROR_TRAVEL)->task_code, -EBADF);
    CHECK_INT(pp_future_take_fd(future, -1, 0), -EBADMSG);
    CHECK_INT(pp_future_fd_count(future, -1), -EBADMSG);
    CHECK_HAS(pp_last_error(), "a descriptor to go back");
    pp_future_unref(future);
    CHECK_INT(pp_task_fd(NULL, 0), -EINVAL);
    CHECK_INT(pp_task_fd_count(NULL), 0);
    CHECK_INT(pp_task_return_fd(NULL, fd), -EINVAL);
    close(fd);
    pp_pool_destroy(pool);
}

static int task_none_here(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    int wrong = pp_task_fd_count(task) != 0 || pp_task_fd(task, 0) != -EINVAL ||
                pp_task_return_fd(task, STDERR_FILENO) != -ENOTSUP;
    shared()->words[6] += 1 + 1000 * wrong;
    return pp_task_return(task, &wrong, sizeof wrong);
}

EACH(elements_of_a_map_initializers_and_finalizers_have_none)
{
    enum { ELEMENTS = 100 };
    static int in[ELEMENTS], out[ELEMENTS];
    static const size_t chunks[] = {1, 7, 100};
    pp_pool *pool = open_pool(
        (pp_pool_options){.max_workers = 1, .initializer = task_none_here, .finalizer = task_none_here}, method);
    for (int i = 0; i < 3; i++)
        CHECK_INT(pp_map_array(pool, task_none_here, in, ELEMENTS, sizeof *in, out, sizeof *out,
                               &(pp_map_options){.chunk_size = chunks[i]}),
                  0);
    for (int i = 0; i < ELEMENTS; i++)
        CHECK_INT(out[i], 0);
    int fd = make_file(0);
    CHECK_INT(take_int(submit_fds(pool, task_check, &fd, 1)), 1);
    pp_future *future = submit_int(pool, task_make, 1);
    CHECK_INT(pp_future_fd_count(future, -1), 1);
    pp_future_unref(future);
    close(fd);
    pp_pool_destroy(pool);
    CHECK_INT(shared()->words[6], 3 * ELEMENTS + 2);
}

TEST(a_future_that_is_none_or_not_done_or_the_programs_own_has_none)
{
    pp_future *gate, *future;
    CHECK_INT(pp_future_take_fd(NULL, 0, 0), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_future_take_fd");
    CHECK_INT(pp_future_fd_count(NULL, 0), -EINVAL);
    pp_pool *pool = open_workers(1, PP_START_FORK);
    occupy_at(pool, 0, 1, &gate);
    CHECK_INT(pp_future_take_fd(gate, 0, 0), -ETIMEDOUT);
    CHECK_INT(pp_future_fd_count(gate, 0), -ETIMEDOUT);
    pid_t child = fork();
    if (child == 0)
        _exit(pp_future_take_fd(gate, 0, 0) == -EPERM && pp_future_fd_count(gate, 0) == -EPERM ? 0 : 1);
    CHECK_INT(wait_for(child), 0);
    gate_open(0);
    CHECK_INT(pp_future_take_fd(gate, -1, 0), -EINVAL);
    take_int(gate);
    CHECK_OK(pp_future_create(pool, &future));
    CHECK_OK(pp_future_set_result(future, NULL, 0));
    CHECK_INT(pp_future_fd_count(future, 0), 0);
    CHECK_INT(pp_future_take_fd(future, 0, 0), -EINVAL);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}
