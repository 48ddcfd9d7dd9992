/* SPDX-License-Identifier: MIT */
/* What is told of workers while calls go on: the log's lines, and what tasks print. */
#include "call_kit.h"

#include "lost_kit.h"

enum { BEGUN, GATE };

static struct log {
    _Atomic int inside, lines;
    pthread_mutex_t lock;
    char text[8192];
} kept_log = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep(void *data, const char *line)
{
    struct log *kept = data;
    CHECK_INT(atomic_fetch_add(&kept->inside, 1), 0); /* one at a time */
    CHECK(strchr(line, '\n') == NULL && *line);
    pthread_mutex_lock(&kept->lock);
    size_t used = strlen(kept->text);
    snprintf(kept->text + used, sizeof kept->text - used, "%s\n", line);
    pthread_mutex_unlock(&kept->lock);
    atomic_fetch_add(&kept->lines, 1);
    atomic_fetch_sub(&kept->inside, 1);
}

static bool log_has(const char *part)
{
    pthread_mutex_lock(&kept_log.lock);
    bool has = strstr(kept_log.text, part) != NULL;
    pthread_mutex_unlock(&kept_log.lock);
    return has;
}

BOTH(the_log_tells_of_starts_deaths_and_replacements)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .log = keep, .log_data = &kept_log});
    char line[64];
    pid_t first[2], second[2];
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, first, sizeof first, NULL));
    pp_future_unref(future);
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, second, sizeof second, NULL));
    pp_future_unref(future);
    pp_pool_destroy(pool);
    snprintf(line, sizeof line, "worker 0 started (pid %d)", first[0]);
    CHECK(log_has(line));
    snprintf(line, sizeof line, "worker 0 (pid %d) was killed by signal 9", first[0]);
    CHECK(log_has(line));
    snprintf(line, sizeof line, "worker 0 started (pid %d)", second[0]);
    CHECK(log_has(line));
}

static void keep_slowly(void *data, const char *line)
{
    struct log *kept = data;
    CHECK_INT(atomic_fetch_add(&kept->inside, 1), 0);
    test_sleep_ms(1);
    atomic_fetch_sub(&kept->inside, 1);
    keep(data, line);
}

static void *crash_often(void *pool)
{
    for (int i = 0; i < 8; i++)
        expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    return NULL;
}

BOTH(a_slow_log_function_gets_one_line_at_a_time)
{
    pp_pool *pool =
        kit_pool_with(method, (pp_pool_options){.max_workers = 2, .log = keep_slowly, .log_data = &kept_log});
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(crash_often, pool);
    for (int i = 0; i < 4; i++)
        join_thread(threads[i]);
    pp_pool_destroy(pool);
    CHECK(atomic_load(&kept_log.lines) >= 64);
}

BOTH(no_worker_is_started_before_there_is_a_call)
{
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 2, .log = keep, .log_data = &kept_log});
    test_sleep_ms(50); /* it would have been started and told of by then, mostly */
    CHECK_INT(atomic_load(&kept_log.lines), 0);
    expect_usable(pool);
    pp_pool_destroy(pool);
    CHECK(log_has("worker 0 started"));
}

BOTH(the_log_tells_why_a_pool_broke)
{
    board_make();
    pp_pool *pool = kit_pool_with(
        method, (pp_pool_options){.max_workers = 2, .on_crash = PP_BREAK_POOL, .log = keep, .log_data = &kept_log});
    pp_future *running;
    occupy(pool, BEGUN, GATE, 1, &running);
    expect_end(submit(pool, crash, NULL, 0), -ENOTRECOVERABLE);
    expect_end(running, -ENOTRECOVERABLE);
    pp_pool_destroy(pool);
    CHECK(log_has("broken"));
    CHECK(log_has("signal 9"));
}

static int print(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    printf("%s\n", (const char *)arg);
    return 0;
}

BOTH(what_a_task_printed_is_there_before_its_result_and_only_once)
{
    char text[512] = "", expected[512] = "";
    int out = memfd_create("out", MFD_CLOEXEC);
    CHECK(out >= 0 && fcntl(out, F_SETFL, O_APPEND) == 0 && dup2(out, STDOUT_FILENO) == STDOUT_FILENO);
    if (!KIT_TSAN) /* its _exit flushes, and the zygote is made by a fork that ends so */
        printf("the owner's own line");
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 10; i++) {
        snprintf(expected + strlen(expected), 32, "line %d\n", i);
        char *line = strrchr(expected, 'l');
        expect_end(submit(pool, print, line, strcspn(line, "\n")), 0);
        CHECK(pread(out, text, sizeof text - 1, 0) >= 0);
        CHECK_STR(text, expected);
    }
    pp_pool_destroy(pool);
}
