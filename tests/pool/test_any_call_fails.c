/* SPDX-License-Identifier: MIT */
/* needs: seams. Every call of the table fails, in owner, zygote and workers, at each place where a scenario makes it.
 */
#include "any_call_kit.h"

static const int board[] = {BOARD_FD};

#define LARGE ((size_t)600000)

static int set_state(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    pp_task_set_state(task, "state");
    return 0;
}

/* Of the pool's log; which thread it comes from does not matter. */
static void hear(void *data, const char *line)
{
    (void)data;
    if (getenv("PP_TEST_TELL"))
        fprintf(stderr, "log: %s\n", line);
}

static int sum(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    size_t buffer_size;
    const unsigned char *bytes = pp_task_buffer(task, 0, &buffer_size);
    CHECK(bytes && pp_task_fd(task, 0) >= 0);
    int code = pp_task_return_fd(task, pp_task_fd(task, 0));
    return code ? code : pp_task_return(task, bytes, 1);
}

/* ------------------------------------------------------------------------------------------ calls of a pool */

static void give(pp_pool *pool, size_t size)
{
    static char data[LARGE];
    const void *result;
    size_t got;
    pp_future *future = NULL;
    memset(data, (int)size, size);
    if (TRY(pp_submit(pool, echo, data, size, &future)) < 0)
        return;
    if (await(future)) {
        CHECK_INT(pp_future_view(future, 0, &result, &got), 0);
        CHECK(got == size && memcmp(result, data, size) == 0);
    }
    pp_future_unref(future);
}

/* A crash is told as one, or its call could not travel. */
static void give_crash(pp_pool *pool)
{
    const pp_error *error;
    pp_future *future = NULL;
    if (TRY(pp_submit(pool, crash, NULL, 0, &future)) < 0)
        return;
    CHECK_INT(TRY_LONG(pp_future_wait(future, timeout)), 0);
    CHECK_INT(TRY(pp_future_error(future, 0, &error)), 0);
    CHECK(error && *error->message);
    CHECK(error->kind == PP_ERROR_CRASH || error->kind == PP_ERROR_TRAVEL || error->kind == PP_ERROR_BROKEN);
    pp_error_backtrace(error);
    pp_future_unref(future);
}

static void give_attachments(pp_pool *pool)
{
    pp_buffer *buffer = NULL;
    pp_future *future = NULL;
    if (TRY(pp_buffer_create(LARGE, &buffer)) < 0)
        return;
    memset(pp_buffer_data(buffer), 7, LARGE);
    pp_call call = {
        .function = sum, .buffers = &buffer, .buffer_count = 1, .descriptors = board, .descriptor_count = 1};
    if (TRY(pp_submit_call(pool, &call, &future)) == 0) {
        unsigned char byte;
        if (await(future)) {
            CHECK_INT(pp_future_result(future, 0, &byte, 1, NULL), 0);
            CHECK_INT(byte, 7);
            int fd = TRY(pp_future_take_fd(future, 0, 0));
            if (fd >= 0)
                close(fd);
        }
        pp_future_unref(future);
    }
    pp_buffer_unref(buffer);
}

static void map_all(pp_pool *pool)
{
    uint32_t inputs[100];
    pp_map *map = NULL;
    pp_map_result result;
    for (uint32_t i = 0; i < 100; i++)
        inputs[i] = i;
    if (TRY(pp_map_open_array(pool, echo, inputs, 100, sizeof *inputs, &(pp_map_options){.chunk_size = 7}, &map)) < 0)
        return;
    uint64_t next_index = 0;
    int code, tries = 0;
    while ((code = TRY_LONG(pp_map_next(map, timeout, &result))) != 0) {
        if (code == -ENOTRECOVERABLE)
            break;
        if (code < 0) {
            CHECK(code == -ENOMEM || code == -EMFILE || code == -ENFILE);
            if (plan->on && ++tries == 3)
                disarm();
            continue;
        }
        CHECK_INT(result.index, next_index++);
        if (result.code == 0)
            CHECK(result.size == sizeof *inputs && memcmp(result.data, &inputs[result.index], result.size) == 0);
        else
            CHECK(*result.error->message);
    }
    CHECK(code != 0 || next_index == 100);
    pp_map_close(map);
}

static _Atomic int called;

static void count_call(pp_future *future, void *data)
{
    (void)future, (void)data;
    called++;
}

static void call_back(pp_pool *pool)
{
    pp_future *futures[4] = {NULL};
    pp_call calls[4];
    unsigned char done[4];
    for (int i = 0; i < 4; i++)
        calls[i] = (pp_call){.function = i == 2 ? refuse : echo, .arg = "abc", .size = 3, .priority = i};
    int count = TRY(pp_submit_many(pool, calls, 4, futures)), added = 0;
    for (int i = 0; i < count; i++)
        added += TRY(pp_future_add_callback(futures[i], count_call, NULL)) == 0;
    if (count > 0 && TRY_LONG(pp_wait(futures, (size_t)count, PP_ALL_COMPLETED, timeout, done)) < 0)
        disarm();
    for (int i = 0; i < count; i++) {
        CHECK_INT(TRY_LONG(pp_future_wait(futures[i], timeout)), 0);
        pp_future_unref(futures[i]);
    }
    until(called == added);
}

/* Where nothing fails any more, the pool works, unless it is broken: by calls that failed again and again, or by one
 * for which the zygote gave it up. */
static void check_pool(pp_pool *pool)
{
    pp_future *future = NULL;
    bool works = false, may_be_broken = plan->on || plan->kind == ZYGOTE;
    disarm();
    if (TRY(pp_submit(pool, echo, "abc", 3, &future)) == 0) {
        works = await(future);
        pp_future_unref(future);
    }
    CHECK(works || (may_be_broken && TRY(pp_submit(pool, echo, "abc", 3, NULL)) == -ENOTRECOVERABLE));
}

/* And so does another one of the launcher, unless that has ended. */
static void check_launcher(pp_launcher *launcher)
{
    pp_pool *pool = NULL;
    disarm();
    if (TRY(pp_pool_create(&(pp_pool_options){.launcher = launcher, .max_workers = 1}, &pool)) == 0)
        expect_usable(pool);
    else
        CHECK(plan->on);
    pp_pool_destroy(pool);
}

static void use_pool_of(const pp_launcher_options *from)
{
    static char argument[20000];
    pp_launcher *launcher = NULL;
    pp_pool *pool = NULL;
    if (TRY(pp_launcher_create(from, &launcher)) < 0)
        return;
    pp_pool_options options = {.launcher = launcher,
                               .max_workers = 2,
                               .initializer = set_state,
                               .initializer_arg = argument,
                               .initializer_arg_size = sizeof argument,
                               .finalizer = nothing,
                               .library_threads = 1,
                               .backtraces = 1,
                               .log = hear};
    if (TRY(pp_pool_create(&options, &pool)) == 0) {
        give(pool, 10);
        give(pool, 20000);
        give(pool, LARGE);
        give_attachments(pool);
        give_crash(pool);
        map_all(pool);
        call_back(pool);
        check_pool(pool);
        CHECK_INT(TRY_LONG(pp_pool_shutdown(pool, 0, timeout)), 0);
    }
    begin_step("destroy");
    pp_pool_destroy(pool);
    check_launcher(launcher);
    pp_launcher_unref(launcher);
}

static void use_pool(pp_start_method method)
{
    use_pool_of(&(pp_launcher_options){.start_method = method, .inherit_fds = board, .inherit_fd_count = 1});
}

/* The command is the test itself, which joins by its invitation. */
static void use_commands(pp_start_method method)
{
    static const char *const command[] = {"{}", NULL};
    use_pool_of(&(pp_launcher_options){
        .start_method = method, .command = command, .inherit_fds = board, .inherit_fd_count = 1});
}

TEST_WITHIN(any_call_of_a_pool_fails_under_fork, 600)
{
    sweep(use_pool, PP_START_FORK, ALL);
}

TEST_WITHIN(any_call_of_a_pool_fails_under_forkserver, 600)
{
    sweep(use_pool, PP_START_FORKSERVER, OTHERS);
}

TEST_WITHIN(any_call_of_a_pool_fails_under_spawn, 600)
{
    sweep(use_pool, PP_START_SPAWN, OTHERS);
}

/* ---------------------------------------------------------------------------------- processes and selects */

static int run_status(void *arg, size_t size)
{
    (void)size;
    return *(const unsigned char *)arg;
}

static int run_crash(void *arg, size_t size)
{
    (void)arg, (void)size;
    abort();
}

/* Ended as it was to, or, where its function or its argument was not to be had, by itself with a word about that. */
static void end_process(pp_process *process, int expected)
{
    int code = 0;
    pp_error error;
    CHECK_INT(TRY_LONG(pp_process_join(process, timeout)), 0);
    int known = TRY_AGAIN(pp_process_exit_code(process, &code));
    CHECK(known == 0 || known == -ENODATA);
    CHECK_INT(TRY_AGAIN(pp_process_error(process, &error)), 0);
    CHECK((known == 0 && code == expected) || error.kind == PP_ERROR_TRAVEL || known == -ENODATA);
    pp_process_unref(process);
}

static void use_process(pp_launcher *launcher, pp_process_function *function, size_t size, int expected)
{
    static unsigned char argument[LARGE];
    pp_process *process = NULL;
    argument[0] = 42;
    pp_process_options options = {.launcher = launcher, .start_timeout = plan->on ? 300 : 0};
    if (TRY(pp_process_start(function, argument, size, &options, &process)) == 0)
        end_process(process, expected);
}

static void select_each(pp_launcher *launcher)
{
    pp_queue *queue = NULL;
    pp_process *process = NULL;
    int ends[2], value = 1, code;
    CHECK_OK(pipe(ends));
    pp_process_options options = {.launcher = launcher, .start_timeout = plan->on ? 300 : 0};
    if (TRY(pp_queue_create(NULL, &queue)) == 0 && TRY(pp_process_start(run_status, "a", 1, &options, &process)) == 0) {
        pp_selectable items[3] = {{.kind = PP_SELECT_PROCESS, .process = process},
                                  {.kind = PP_SELECT_QUEUE, .queue = queue},
                                  {.kind = PP_SELECT_FD, .fd = ends[0]}};
        code = TRY_LONG(pp_select(items, 3, timeout));
        CHECK(code < 0 || items[0].ready == 1);
        CHECK_INT(TRY_LONG(pp_queue_put(queue, &value, sizeof value, timeout)), 0);
        code = TRY_LONG(pp_select(items + 1, 2, timeout));
        CHECK(code < 0 || (code == 1 && items[1].ready == 1));
        end_process(process, 'a');
    }
    pp_queue_unref(queue);
    close(ends[0]);
    close(ends[1]);
}

static void use_processes(pp_start_method method)
{
    pp_launcher *launcher = NULL;
    pp_launcher_options from = {.start_method = method, .inherit_fds = board, .inherit_fd_count = 1};
    if (TRY(pp_launcher_create(&from, &launcher)) < 0)
        return;
    use_process(launcher, run_status, 1, 42);
    use_process(launcher, run_status, LARGE, 42);
    use_process(launcher, run_crash, 1, -SIGABRT);
    select_each(launcher);
    disarm();
    pp_launcher_unref(launcher);
}

TEST_WITHIN(any_call_of_a_pool_whose_workers_come_by_invitation_fails, 600)
{
    sweep(use_commands, PP_START_SPAWN, OTHERS);
}

TEST_WITHIN(any_call_of_a_process_fails_under_fork, 600)
{
    sweep(use_processes, PP_START_FORK, ALL);
}

/* The names and lines of a crash, as far as they are to be had. */
static void use_backtrace(pp_start_method method)
{
    pp_process *process = NULL;
    pp_error error;
    pp_process_options options = {.start_method = method, .start_timeout = plan->on ? 300 : 0};
    if (TRY(pp_process_start(run_crash, NULL, 0, &options, &process)) < 0)
        return;
    CHECK_INT(TRY_LONG(pp_process_join(process, timeout)), 0);
    CHECK_INT(TRY_AGAIN(pp_process_error(process, &error)), 0);
    if (error.signal == SIGABRT)
        CHECK(pp_error_backtrace(&error) != NULL);
    pp_process_unref(process);
}

TEST_WITHIN(any_call_of_a_backtrace_fails, 600)
{
    sweep(use_backtrace, PP_START_FORK, ONLY_OWNER);
}

TEST_WITHIN(any_call_of_a_process_fails_under_spawn, 600)
{
    sweep(use_processes, PP_START_SPAWN, OTHERS);
}

/* --------------------------------------------------------------------------------- objects of many processes */

static void use_queue(void)
{
    pp_queue *queue = NULL, *again = NULL;
    void *data = NULL;
    size_t size;
    int value = 0;
    if (TRY(pp_queue_create(&(pp_queue_options){.max_items = 4, .joinable = 1}, &queue)) < 0)
        return;
    TRY(pp_queue_open(pp_queue_fd(queue), &again));
    for (int i = 1; i <= 2; i++)
        CHECK_INT(TRY_LONG(pp_queue_put(again ? again : queue, &i, sizeof i, timeout)), 0);
    CHECK_INT(TRY_LONG(pp_queue_get(queue, timeout, &value, sizeof value, NULL)), 0);
    CHECK_INT(value, 1);
    CHECK_INT(TRY(pp_queue_get(queue, 0, &value, sizeof value, NULL)), 0);
    CHECK_INT(value, 2);
    int code = TRY(pp_queue_get(queue, 5, &value, sizeof value, NULL));
    CHECK(code == -ETIMEDOUT || code == -EINTR);
    for (int i = 0; i < 2; i++)
        CHECK_INT(TRY(pp_queue_task_done(queue)), 0);
    CHECK_INT(TRY_LONG(pp_queue_join(queue, timeout)), 0);
    CHECK_INT(TRY_LONG(pp_queue_put(queue, "ab", 2, timeout)), 0);
    if (TRY(pp_queue_take(queue, 0, &data, &size)) == 0)
        CHECK(size == 2 && memcmp(data, "ab", 2) == 0);
    pp_free(data);
    pp_queue_unref(again);
    pp_queue_unref(queue);
}

static void use_locks(void)
{
    pp_lock *lock = NULL;
    pp_value *value = NULL;
    pp_semaphore *semaphore = NULL;
    pp_event *event = NULL;
    if (TRY(pp_lock_create(&lock)) == 0) {
        CHECK_INT(TRY_LONG(pp_lock_acquire(lock, timeout)), 0);
        CHECK_INT(TRY(pp_lock_acquire(lock, 0)), -EDEADLK);
        CHECK_INT(TRY(pp_lock_release(lock)), 0);
    }
    if (TRY(pp_value_create("abc", 3, &value)) == 0) {
        CHECK_INT(TRY_LONG(pp_value_acquire(value, timeout)), 0);
        CHECK(memcmp(pp_value_data(value), "abc", 3) == 0);
        CHECK_INT(TRY(pp_value_release(value)), 0);
    }
    if (TRY(pp_semaphore_create(1, &semaphore)) == 0) {
        CHECK_INT(TRY_LONG(pp_semaphore_acquire(semaphore, timeout)), 0);
        int code = TRY(pp_semaphore_acquire(semaphore, 5));
        CHECK(code == -ETIMEDOUT || code == -EINTR);
        CHECK_INT(TRY(pp_semaphore_release(semaphore)), 0);
        CHECK_INT(TRY(pp_semaphore_value(semaphore)), 1);
    }
    if (TRY(pp_event_create(&event)) == 0) {
        int code = TRY(pp_event_wait(event, 5));
        CHECK(code == -ETIMEDOUT || code == -EINTR);
        CHECK_INT(TRY(pp_event_set(event)), 0);
        CHECK_INT(TRY_LONG(pp_event_wait(event, timeout)), 0);
    }
    pp_event_unref(event);
    pp_semaphore_unref(semaphore);
    pp_value_unref(value);
    pp_lock_unref(lock);
}

/* How many keys are in it, as it tells and as a view has them. */
static void check_dict(pp_dict *dict, int count)
{
    pp_dict_view *view = NULL;
    const void *key, *value;
    size_t key_size, size;
    disarm();
    CHECK_INT(TRY(pp_dict_size(dict)), count);
    CHECK_INT(TRY(pp_dict_view_open(dict, &view)), 0);
    while (TRY(pp_dict_view_next(view, &key, &key_size, &value, &size)) == 1) {
        CHECK(key_size == 4 && size == 3000 && *(const char *)value == *(const char *)key);
        count--;
    }
    CHECK_INT(count, 0);
    pp_dict_view_close(view);
}

static void use_dict(const char *path)
{
    pp_dict *dict = NULL;
    pp_dict_view *view = NULL;
    char value[3000];
    void *copy = NULL;
    size_t size;
    int there = 0;
    if (TRY(pp_dict_create(&(pp_dict_options){.path = path, .max_bytes = 4 << 20, .no_flush = 1}, &dict)) < 0)
        return;
    for (int key = 1; key <= 40; key++) {
        memset(value, key, sizeof value);
        there += TRY(pp_dict_put(dict, &key, sizeof key, value, sizeof value)) == 0;
    }
    pp_dict_change changes[2] = {{.act = PP_DICT_DELETE, .key = &(int){1}, .key_size = 4},
                                 {.act = PP_DICT_DELETE, .key = &(int){2}, .key_size = 4}};
    if (there == 40 && TRY(pp_dict_update(dict, changes, 2, NULL)) == 0)
        there -= 2;
    if (TRY(pp_dict_copy(dict, &(int){7}, 4, &copy, &size)) == 0)
        CHECK(size == sizeof value && *(char *)copy == 7);
    pp_free(copy);
    if (TRY(pp_dict_view_open(dict, &view)) == 0)
        pp_dict_view_close(view);
    check_dict(dict, there);
    pp_dict_unref(dict);
}

static void use_objects(pp_start_method method)
{
    (void)method;
    use_queue();
    use_locks();
    use_dict(NULL);
}

TEST_WITHIN(any_call_of_an_object_of_many_processes_fails, 600)
{
    sweep(use_objects, PP_START_FORK, ALL);
}

static char kept[64];

static void use_kept(pp_start_method method)
{
    char path[80];
    (void)method;
    snprintf(path, sizeof path, "%s/dict", kept);
    unlink(path);
    use_dict(path);
}

TEST_WITHIN(any_call_of_a_kept_dictionary_fails, 600)
{
    pp_dict *dict = NULL;
    char path[80];
    strcpy(kept, "/tmp/procpool-test-XXXXXX");
    CHECK(mkdtemp(kept));
    snprintf(path, sizeof path, "%s/dict", kept);
    pid_t probe = fork();
    if (probe == 0)
        _exit(pp_dict_create(&(pp_dict_options){.path = path}, &dict) == -ENOTSUP);
    int status;
    CHECK_INT(waitpid(probe, &status, 0), probe);
    if (status == 0)
        sweep(use_kept, PP_START_FORK, ALL);
    snprintf(path, sizeof path, "rm -r %s", kept);
    CHECK_INT(system(path), 0);
    if (status != 0)
        LEFT_OUT("this build has no kept dictionaries");
}
