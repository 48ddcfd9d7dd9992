/* SPDX-License-Identifier: MIT */
/* What a call writes to standard output and standard error, in a pool that captures it: it is the call's own, however
 * that ends. */
#include "output_kit.h"

/* ---------------------------------------------------------------------------------------- what is captured */

static int write_in_all_ways(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    printf("printed");
    fflush(stdout);
    CHECK_INT(write(STDOUT_FILENO, " written", 8), 8);
    CHECK_INT(write(STDERR_FILENO, "error", 5), 5);
    CHECK_INT(system("printf ' by a child'; printf ' of a child' >&2"), 0); // NOLINT: a child that writes
    printf(" and no newline");
    return 0;
}

BOTH(what_a_call_and_its_children_write_is_in_its_future_each_stream_apart)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    pp_future *future = submit(pool, write_in_all_ways, NULL, 0);
    check_output(future, "printed written by a child and no newline", "error of a child");
    check_and_drop(future, "printed written by a child and no newline", "error of a child");
    check_and_drop(submit(pool, nothing, NULL, 0), "", "");
    pp_pool_destroy(pool);
}

/* Many programs do so, and some a little too thoroughly. */
static int change_flags(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    printf("some output");
    fflush(stdout);
    CHECK_INT(fcntl(STDOUT_FILENO, F_SETFL, O_NONBLOCK), 0);
    CHECK_INT(fcntl(STDERR_FILENO, F_SETFL, 0), 0);
    return 0;
}

BOTH(a_call_that_changes_the_flags_of_its_streams_changes_no_later_output)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    for (int i = 0; i < 3; i++) {
        check_and_drop(submit(pool, change_flags, NULL, 0), "some output", "");
        check_and_drop(submit(pool, write_in_all_ways, NULL, 0), "printed written by a child and no newline",
                       "error of a child");
    }
    pp_pool_destroy(pool);
}

/* The test's own standard output and error become a pipe; the end to read from. */
static int pipe_streams(void)
{
    int ends[2];
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    CHECK_INT(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    close(ends[1]);
    CHECK_INT(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    return ends[0];
}

static const char *in_pipe(int end)
{
    static char text[4096];
    ssize_t got = read(end, text, sizeof text - 1);
    text[got > 0 ? got : 0] = 0;
    return text;
}

static int say_duty(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    printf("%.*s;", (int)size, (const char *)arg);
    return 0;
}

BOTH(output_outside_calls_and_streams_that_are_not_captured_go_where_the_owners_go)
{
    int end = pipe_streams();
    pp_pool_options options = {.capture = PP_STDERR,
                               .initializer = say_duty,
                               .initializer_arg = "begin",
                               .initializer_arg_size = 5,
                               .finalizer = say_duty,
                               .finalizer_arg = "end",
                               .finalizer_arg_size = 3};
    pp_output output;
    pp_pool *pool = open_capturing(method, options);
    pp_future *future = submit_script(pool, RETURN, 1);
    CHECK_STR(output_of(future, PP_STDERR).data, "err 1\n");
    CHECK_INT(pp_future_output(future, -1, PP_STDOUT, &output), -ENOTSUP);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    CHECK_STR(in_pipe(end), "begin;out 1\nend;");
    options.capture = PP_STDOUT;
    pool = open_capturing(method, options);
    future = submit_script(pool, RETURN, 2);
    CHECK_STR(output_of(future, PP_STDOUT).data, "out 2\n");
    CHECK_INT(pp_future_output(future, -1, PP_STDERR, &output), -ENOTSUP);
    pp_future_unref(future);
    pp_pool_destroy(pool);
    CHECK_STR(in_pipe(end), "begin;end;");
}

static void *say_between_calls(void *unused)
{
    wait_at(1); /* the gates of the board */
    printf("between");
    add(2);
    return unused;
}

/* Leaves a thread behind. */
static int leave_thread(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    pthread_detach(start_thread(say_between_calls, NULL));
    return 0;
}

BOTH(what_a_thread_has_left_in_a_buffer_between_calls_is_no_calls_output)
{
    int end = pipe_streams();
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    check_and_drop(submit(pool, leave_thread, NULL, 0), "", "");
    open_gate(1);
    until(read_word(2) == 1);
    check_and_drop(submit_script(pool, RETURN, 1), "out 1\n", "err 1\n");
    pp_pool_destroy(pool);
    CHECK_STR(in_pipe(end), "between");
}

BOTH_WITHIN(of_a_thousand_calls_each_has_its_own_output, 30)
{
    enum { CALLS = 1000 };
    static pp_future *futures[CALLS];
    pp_pool *pool = open_capturing(method, (pp_pool_options){.max_workers = 3});
    for (int i = 0; i < CALLS; i++)
        futures[i] = submit_script(pool, i % 7 == 3 ? FAIL : RETURN, i);
    for (int i = CALLS - 1; i >= 0; i--) {
        char out[32], err[32];
        snprintf(out, sizeof out, "out %d\n", i);
        snprintf(err, sizeof err, "err %d\n", i);
        check_and_drop(futures[i], out, err);
    }
    pp_pool_destroy(pool);
}

BOTH(each_element_of_a_map_has_its_own_output)
{
    enum { COUNT = 40 };
    struct script scripts[COUNT];
    pp_map *map;
    pp_map_result result;
    pp_output output;
    pp_pool *pool = open_capturing(method, (pp_pool_options){.max_workers = 2});
    for (int i = 0; i < COUNT; i++)
        scripts[i] = (struct script){.ending = i == 20 ? CRASH : i % 5 == 1 ? FAIL : RETURN, .number = i};
    CHECK_OK(pp_map_open_array(pool, write_and_end, scripts, COUNT, sizeof *scripts,
                               &(pp_map_options){.chunk_size = 16}, &map));
    CHECK_INT(pp_map_output(map, PP_STDOUT, &output), -EINVAL);
    for (int i = 0; i < COUNT; i++) {
        char out[32];
        snprintf(out, sizeof out, "out %d\n", i);
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        CHECK_OK(pp_map_output(map, PP_STDOUT, &output));
        CHECK_STR(output.data, out);
        CHECK_OK(pp_map_output(map, PP_STDERR, &output));
        CHECK_INT(output.size, strlen(out));
        CHECK_INT(pp_map_output(map, (pp_stream)3, &output), -EINVAL);
        CHECK_INT(pp_map_output(map, PP_STDOUT, NULL), -EINVAL);
    }
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    pp_map_close(map);
    CHECK_INT(pp_map_output(NULL, PP_STDOUT, &output), -EINVAL);
    CHECK_OK(pp_map_open_array(pool, write_and_end, scripts, COUNT, sizeof *scripts, NULL, &map));
    CHECK_INT(pp_map_next(map, -1, &result), 1);
    pp_map_close(map); /* with output that nobody has asked for */
    pp_pool_destroy(pool);
}

/* Writes the name of what it was given, and gives that back. */
static int write_and_pass(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    printf("passed on\n");
    return pp_task_return_fd(task, pp_task_fd(task, 0)) < 0 ? -EIO : 0;
}

BOTH(descriptors_travel_beside_captured_output)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    int pair[2];
    char byte = 'x';
    CHECK_INT(pipe(pair), 0);
    for (int i = 0; i < 3; i++) {
        pp_future *future;
        CHECK_OK(pp_submit_call(
            pool, &(pp_call){.function = write_and_pass, .descriptors = &pair[1], .descriptor_count = 1}, &future));
        check_output(future, "passed on\n", "");
        CHECK_INT(pp_future_fd_count(future, -1), 1);
        int fd = CHECK_OK(pp_future_take_fd(future, -1, 0));
        CHECK_INT(write(fd, &byte, 1), 1);
        CHECK_INT(read(pair[0], &byte, 1), 1);
        close(fd);
        CHECK_INT(pp_future_take_fd(future, -1, 0), -ENODATA);
        check_and_drop(future, "passed on\n", "");
    }
    close(pair[0]);
    close(pair[1]);
    pp_pool_destroy(pool);
}

/* ----------------------------------------------------------------------------------------- however it ends */

BOTH(what_a_call_had_written_when_its_worker_died_is_there)
{
    static const enum ending endings[] = {CRASH, ABORT, EXIT};
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    for (int i = 0; i < 3; i++) {
        pp_future *future = submit_script(pool, endings[i], i);
        char out[32], err[32];
        error_of(future, PP_ERROR_CRASH);
        snprintf(out, sizeof out, "out %d\n", i);
        snprintf(err, sizeof err, "err %d\n", i);
        check_and_drop(future, out, err);
        check_and_drop(submit_script(pool, RETURN, 7), "out 7\n", "err 7\n");
    }
    pp_pool_destroy(pool);
}

BOTH(what_a_call_had_written_when_it_was_killed_is_there)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    pp_call call = {.function = write_and_end,
                    .arg = &(struct script){.ending = HANG, .number = 1},
                    .size = sizeof(struct script),
                    .timeout = 100};
    pp_future *future;
    CHECK_OK(pp_submit_call(pool, &call, &future));
    error_of(future, PP_ERROR_TIMEOUT);
    check_and_drop(future, "out 1\n", "err 1\n");
    future = submit_script(pool, HANG, 2);
    wait_until(shared()->arrived[0] == 2, 60);
    CHECK_OK(pp_future_kill(future));
    error_of(future, PP_ERROR_CRASH);
    check_and_drop(future, "out 2\n", "err 2\n");
    future = submit_script(pool, HANG, 3);
    wait_until(shared()->arrived[0] == 3, 60);
    CHECK_OK(pp_pool_kill(pool));
    check_and_drop(future, "out 3\n", "err 3\n");
    pp_pool_destroy(pool);
}

BOTH(what_calls_had_written_when_their_pool_broke_is_there)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL});
    pp_future *hanging = submit_script(pool, HANG, 1);
    wait_until(shared()->arrived[0] == 1, 60);
    pp_future *dying = submit_script(pool, CRASH, 2), *after = submit_script(pool, RETURN, 3);
    error_of(dying, PP_ERROR_BROKEN);
    error_of(hanging, PP_ERROR_BROKEN);
    check_and_drop(hanging, "out 1\n", "err 1\n");
    check_and_drop(dying, "out 2\n", "err 2\n");
    pp_future_unref(after);
    pp_pool_destroy(pool);
}

BOTH(a_call_that_was_tried_again_has_the_output_of_its_last_try)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    pp_call call = {.function = write_and_end,
                    .arg = &(struct script){.ending = DIE_ONCE, .number = 1},
                    .size = sizeof(struct script),
                    .retries = 1};
    pp_future *future;
    CHECK_OK(pp_submit_call(pool, &call, &future));
    check_and_drop(future, "out 1\nagain\n", "err 1\n");
    shared()->runs[0] = 0;
    CHECK_OK(pp_submit_call(pool, &call, NULL)); /* nobody wants to know */
    wait_until(shared()->runs[0] == 2, 60);
    pp_pool_destroy(pool);
}

BOTH(calls_that_never_began_have_written_nothing)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    pp_future *running = submit_int(pool, task_gate, 3), *waiting = submit_script(pool, RETURN, 1);
    gate_wait_arrived(3, 1);
    CHECK_OK(pp_future_cancel(waiting));
    check_and_drop(waiting, "", "");
    gate_open(3);
    check_and_drop(running, "", "");
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------- bounds */

static void write_many(int fd, int value, size_t count)
{
    char bytes[4096];
    memset(bytes, value, sizeof bytes);
    for (size_t done = 0; done < count;) {
        ssize_t got = write(fd, bytes, count - done < sizeof bytes ? count - done : sizeof bytes);
        CHECK(got > 0);
        done += (size_t)got;
    }
}

/* As many letters as the argument says; then it hangs, if that is odd. */
static int write_letters(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    int count = read_int(arg);
    write_many(STDOUT_FILENO, 'a' + count % 26, (size_t)count);
    if (count % 2 == 1)
        raise(SIGKILL);
    return 0;
}

static void check_letters(pp_future *future, int count, size_t kept)
{
    pp_output output = output_of(future, PP_STDOUT);
    CHECK_INT(output.size, kept);
    CHECK_INT(output.dropped, (size_t)count - kept);
    for (size_t i = 0; i < kept; i++)
        CHECK_INT(output.data[i], 'a' + count % 26);
    pp_future_unref(future);
}

BOTH(what_is_beyond_the_limit_is_dropped_and_told)
{
    static const int counts[] = {998, 1000, 1002, 50000, 999, 1001, 50001, 4};
    pp_pool *pool = open_capturing(method, (pp_pool_options){.capture_limit = 1000});
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        check_letters(submit_int(pool, write_letters, counts[i]), counts[i],
                      counts[i] < 1000 ? (size_t)counts[i] : 1000);
    pp_pool_destroy(pool);
    pool = open_capturing(method, (pp_pool_options){0});
    check_letters(submit_int(pool, write_letters, 3 << 20), 3 << 20, 1 << 20);
    pp_pool_destroy(pool);
}

/* More than the files may hold before they are read. */
BOTH_WITHIN(much_output_of_many_calls_is_all_there, 30)
{
    enum { CALLS = 40 };
    pp_future *futures[CALLS];
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    for (int i = 0; i < CALLS; i++)
        futures[i] = submit_int(pool, write_letters, (1 << 19) + 2 * i);
    for (int i = 0; i < CALLS; i++)
        check_letters(futures[i], (1 << 19) + 2 * i, (1u << 19) + 2 * (unsigned)i);
    pp_pool_destroy(pool);
}

static void limit_file_size(rlim_t most)
{
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = most;
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Nobody reads before all are there. */
BOTH_WITHIN(no_call_dies_of_what_others_wrote_where_files_have_a_limit, 30)
{
    enum { CALLS = 40, EACH_WRITES = 40000 };
    pp_future *futures[CALLS];
    share();
    limit_file_size(100000);
    pp_pool *pool = open_capturing(method, (pp_pool_options){.capture_limit = EACH_WRITES});
    for (int i = 0; i < 20; i++)
        expect_end(submit(pool, nothing, NULL, 0), 0);
    for (int i = 0; i < CALLS; i++)
        futures[i] = submit_int(pool, write_letters, EACH_WRITES);
    for (int i = 0; i < CALLS; i++)
        check_letters(futures[i], EACH_WRITES, EACH_WRITES);
    pp_pool_destroy(pool);
}

TEST(a_limit_of_output_beyond_that_of_files_is_refused)
{
    pp_pool *pool = NULL;
    pp_pool_options options = {.max_workers = 1, .capture = PP_STDOUT};
    limit_file_size(100000);
    CHECK_INT(pp_pool_create(&options, &pool), -EFBIG);
    options.capture_limit = 100001;
    CHECK_INT(pp_pool_create(&options, &pool), -EFBIG);
    CHECK_HAS(pp_last_error(), "RLIMIT_FSIZE, 100000 bytes");
    CHECK(pool == NULL);
    options.capture_limit = 100000;
    CHECK_OK(pp_pool_create(&options, &pool));
    pp_pool_destroy(pool);
    options = (pp_pool_options){.start_method = PP_START_INLINE, .capture = PP_STDOUT};
    CHECK_OK(pp_pool_create(&options, &pool));
    pp_pool_destroy(pool);
}

/* Bytes of memory that the pool's files for standard output have. */
static uint64_t memory_of_files(void)
{
    uint64_t sum = 0;
    for (int fd = 3; fd < 1024; fd++) {
        char path[32], name[64] = "";
        struct stat status;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, name, sizeof name - 1) > 0 && strstr(name, "procpool-stdout") && fstat(fd, &status) == 0)
            sum += (uint64_t)status.st_blocks * 512;
    }
    return sum;
}

BOTH(output_that_was_read_takes_no_memory_while_its_worker_is_idle)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){.capture_limit = 4 << 20});
    for (int i = 0; i < 2; i++) {
        check_letters(submit_int(pool, write_letters, 3 << 20), 3 << 20, 3 << 20);
        wait_until(memory_of_files() == 0, 60);
        check_and_drop(submit_script(pool, RETURN, i), i ? "out 1\n" : "out 0\n", i ? "err 1\n" : "err 0\n");
    }
    pp_pool_destroy(pool);
}

static int write_much_and_wait(pp_task *task, const void *arg, size_t size)
{
    write_many(STDOUT_FILENO, 'm', 32 << 20);
    shared()->runs[0]++;
    return task_gate(task, arg, size);
}

BOTH(what_is_beyond_the_limit_takes_no_memory_while_the_call_runs)
{
    pp_output output;
    pp_pool *pool = open_capturing(method, (pp_pool_options){.capture_limit = 1000});
    pp_future *future = submit_int(pool, write_much_and_wait, 2), *behind = submit_script(pool, RETURN, 1);
    wait_until(shared()->runs[0] == 1, 60);
    wait_until(memory_of_files() <= 65536, 60);
    gate_open(2);
    output = output_of(future, PP_STDOUT);
    CHECK_INT(output.size, 1000);
    CHECK_INT(output.dropped, (32u << 20) - 1000);
    check_and_drop(behind, "out 1\n", "err 1\n");
    check_and_drop(submit_script(pool, RETURN, 2), "out 2\n", "err 2\n");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* Writes at gates 0 and 1, then ends. */
static void write_from_behind(void)
{
    for (int gate = 0; gate < 2; gate++) {
        gate_wait(gate);
        write_many(STDOUT_FILENO, 'b', 3 << 20);
        shared()->runs[gate]++;
    }
    _exit(0);
}

static int leave_process(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        write_from_behind();
    return 0;
}

BOTH(what_a_process_left_behind_writes_while_its_worker_is_idle_takes_no_memory_for_long)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    check_and_drop(submit(pool, leave_process, NULL, 0), "", "");
    for (int gate = 0; gate < 2; gate++) {
        gate_open(gate);
        wait_until(shared()->runs[gate] == 1, 60);
        wait_until(memory_of_files() == 0, 60);
    }
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------- refused, and in want */

TEST(an_inline_pool_captures_nothing_and_says_so)
{
    pp_output output;
    pp_pool *pool = open_capturing(PP_START_INLINE, (pp_pool_options){.capture_limit = 1});
    pp_future *future = submit(pool, nothing, NULL, 0);
    CHECK_INT(pp_future_output(future, -1, PP_STDOUT, &output), -ENOTSUP);
    expect_end(future, 0);
    pp_pool_destroy(pool);
}

TEST(wrong_orders_to_capture_are_refused)
{
    static const pp_pool_options bad[] = {{.capture = 4},
                                          {.capture = 7},
                                          {.capture_limit = 100},
                                          {.capture = PP_STDOUT, .capture_limit = ((size_t)1 << 30) + 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pp_pool *pool = NULL;
        CHECK_INT(pp_pool_create(&bad[i], &pool), -EINVAL);
        CHECK(pool == NULL);
    }
}

BOTH(wrong_questions_are_refused)
{
    pp_output output = {.size = 4711};
    pp_future *own;
    pp_pool *pool = open_capturing(method, (pp_pool_options){0}), *other;
    pp_future *future = submit_int(pool, task_gate, 0);
    gate_wait_arrived(0, 1);
    CHECK_INT(pp_future_output(future, 0, PP_STDOUT, &output), -ETIMEDOUT);
    gate_open(0);
    CHECK_INT(pp_future_output(future, -1, (pp_stream)0, &output), -EINVAL);
    CHECK_INT(pp_future_output(future, -1, (pp_stream)3, &output), -EINVAL);
    CHECK_INT(pp_future_output(future, -1, PP_STDOUT, NULL), -EINVAL);
    CHECK_INT(pp_future_output(NULL, -1, PP_STDOUT, &output), -EINVAL);
    CHECK_OK(pp_future_create(pool, &own));
    CHECK_OK(pp_future_set_result(own, NULL, 0));
    CHECK_INT(pp_future_output(own, -1, PP_STDOUT, &output), -ENOTSUP);
    CHECK_INT(output.size, 4711);
    pid_t child = fork();
    if (child == 0)
        _exit(pp_future_output(future, 0, PP_STDOUT, &output) == -EPERM ? 0 : 1);
    CHECK_INT(wait_for(child), 0);
    pp_future_unref(own);
    pp_pool_destroy(pool);
    CHECK_OK(pp_future_output(future, 0, PP_STDOUT, &output)); /* it outlives the pool */
    pp_future_unref(future);
    other = open_workers(1, method);
    future = submit(other, nothing, NULL, 0);
    CHECK_INT(pp_future_output(future, -1, PP_STDERR, &output), -ENOTSUP);
    pp_future_unref(future);
    pp_pool_destroy(other);
}

/* Workers come as there are descriptors for their files, and what runs meanwhile is as ever. */
BOTH(a_worker_that_finds_no_descriptors_for_its_files_comes_later)
{
    struct rlimit limit;
    int taken[1024], count = 0, fd;
    pp_pool *pool = open_capturing(method, (pp_pool_options){.max_workers = 2, .standby = PP_STANDBY_NEVER});
    pp_future *gate = submit_int(pool, task_gate, 0);
    gate_wait_arrived(0, 1);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit_files(400);
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        taken[count++] = fd;
    for (int left = 0; left < 8; left++) { /* enough for ever more of what a worker needs */
        if (left > 0 && count > 0)
            close(taken[--count]);
        pp_future *waiting = submit_script(pool, RETURN, left);
        int code = pp_future_wait(waiting, 20);
        CHECK(code == 0 || code == -ETIMEDOUT);
        pp_future_cancel(waiting);
        pp_future_unref(waiting);
    }
    while (count > 0)
        close(taken[--count]);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    pp_future *after = submit_script(pool, RETURN, 5);
    check_and_drop(after, "out 5\n", "err 5\n");
    gate_open(0);
    check_and_drop(gate, "", "");
    pp_pool_destroy(pool);
}

/* Its files get those of the worker that has died. Not by a worker's files alone: the standby is there already. */
BOTH(a_standby_takes_a_dead_workers_place_where_there_are_no_descriptors_besides)
{
    static int taken[4096];
    struct rlimit limit;
    int count = 0, fd;
    pp_pool *pool = open_capturing(method, (pp_pool_options){.standby = PP_STANDBY_ALWAYS});
    drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_CRASH);
    check_and_drop(submit_script(pool, RETURN, 1), "out 1\n", "err 1\n");
    await_child(zygote_of(pool), "pp-standby");
    test_sleep_ms(50); /* its start is told */
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit_files(400);
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        taken[count++] = fd;
    drop_failed(submit(pool, crash, NULL, 0), PP_ERROR_CRASH);
    check_and_drop(submit_script(pool, RETURN, 2), "out 2\n", "err 2\n");
    while (count > 0)
        close(taken[--count]);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    pp_pool_destroy(pool);
}

/* Its own file, which may get the number of a stream that is closed, has nothing of what it prints. */
static int say_beside_a_file(pp_task *task, const void *arg, size_t size)
{
    struct stat status;
    int fd = memfd_create("own", MFD_CLOEXEC);
    CHECK(fd >= 0);
    say_duty(task, arg, size);
    fflush(stdout);
    CHECK_INT(fstat(fd, &status), 0);
    CHECK_INT(status.st_size, 0);
    close(fd);
    return 0;
}

/* Below the numbers that the library would rather have. */
BOTH(streams_lead_back_after_a_call_where_the_limit_of_descriptors_is_low)
{
    int end = pipe_streams();
    share();
    limit_files(150);
    pp_pool *pool = open_capturing(
        method, (pp_pool_options){.finalizer = say_beside_a_file, .finalizer_arg = "end", .finalizer_arg_size = 3});
    for (int i = 0; i < 3; i++) {
        char out[32], err[32];
        snprintf(out, sizeof out, "out %d\n", i);
        snprintf(err, sizeof err, "err %d\n", i);
        check_and_drop(submit_script(pool, RETURN, i), out, err);
    }
    pp_pool_destroy(pool);
    CHECK_STR(in_pipe(end), "end;");
}

static int set_limit_of_files(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    limit_files((rlim_t)read_int(arg));
    return 0;
}

BOTH(a_worker_without_descriptors_captures_nothing_until_it_has_some_again)
{
    int end = pipe_streams();
    pp_pool *pool = open_capturing(method, (pp_pool_options){.capture = PP_STDOUT});
    expect_end(submit_int(pool, set_limit_of_files, 3), 0);
    pp_future *future = submit(pool, say_duty, "first", 5);
    CHECK_STR(output_of(future, PP_STDOUT).data, "");
    expect_end(future, 0);
    expect_end(submit_int(pool, set_limit_of_files, 300), 0);
    future = submit(pool, say_duty, "second", 6);
    CHECK_STR(output_of(future, PP_STDOUT).data, "second;");
    expect_end(future, 0);
    pp_pool_destroy(pool);
    CHECK_STR(in_pipe(end), "first;");
}

BOTH(capturing_leaves_no_descriptors_behind)
{
    board_make();
    int before = count_fds();
    for (int i = 0; i < 3; i++) {
        pp_pool *pool = open_capturing(method, (pp_pool_options){.max_workers = 2});
        check_and_drop(submit_script(pool, CRASH, 1), "out 1\n", "err 1\n");
        check_and_drop(submit_script(pool, RETURN, 2), "out 2\n", "err 2\n");
        pp_pool_destroy(pool);
    }
    CHECK_INT(count_fds(), before);
}
