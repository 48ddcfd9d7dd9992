/* SPDX-License-Identifier: MIT */
/* Calls that are accounted for: each ends once, has run as often as its end says, and what the log told is kept. */
#ifndef PP_TESTS_ACCOUNTS_KIT_H
#define PP_TESTS_ACCOUNTS_KIT_H

#include "call_kit.h"

/* Words of the board; a program's own lie between PIDS and RUNS. */
enum { BEGUN, GATE, PIDS, OWN = 64, RUNS = 1024 };

struct call {
    uint32_t index;
    uint32_t gate; /* a word to wait at; UINT32_MAX: none */
};

/* Counts its run, waits at its gate, returns its index. */
static inline int tracked(pp_task *task, const void *arg, size_t size)
{
    struct call call;
    CHECK_INT(size, sizeof call);
    memcpy(&call, arg, sizeof call);
    add(RUNS + call.index);
    if (call.gate != UINT32_MAX) {
        atomic_store(word(PIDS + (uint32_t)pp_task_worker(task)), (uint32_t)getpid());
        add(BEGUN);
        wait_at(call.gate);
    }
    return pp_task_return(task, &call.index, sizeof call.index);
}

static inline pp_future *submit_tracked(pp_pool *pool, uint32_t index, uint32_t gate)
{
    struct call call = {.index = index, .gate = gate};
    return submit(pool, tracked, &call, sizeof call);
}

static inline void submit_all(pp_pool *pool, uint32_t from, uint32_t to, pp_future **futures)
{
    for (uint32_t i = from; i < to; i++)
        futures[i] = submit_tracked(pool, i, UINT32_MAX);
}

/* Two calls at a gate, one on each of the pool's two workers: both are up. */
static inline void occupy_two(pp_pool *pool, pp_future **futures)
{
    futures[0] = submit_tracked(pool, 0, GATE);
    futures[1] = submit_tracked(pool, 1, GATE);
    until(read_word(BEGUN) == 2);
}

/* One call that has ended: 0 with its own result, having run once; 1 with a crash, having run `failed_runs` times (-1:
 * at most once). */
static inline unsigned check_end(pp_future *future, uint32_t index, int failed_runs)
{
    const pp_error *error;
    CHECK_OK(pp_future_error(future, -1, &error));
    uint32_t runs = read_word(RUNS + index);
    if (!error) {
        CHECK_INT(result_u32(future), index);
        CHECK_INT(runs, 1);
        return 0;
    }
    if (error->kind != PP_ERROR_CRASH)
        harness_fail(__FILE__, __LINE__, "call %u failed with kind %d: %s", index, (int)error->kind, error->message);
    CHECK_INT(error->code, -EOWNERDEAD);
    CHECK_INT(error->tries, 1);
    CHECK(error->pid > 0);
    CHECK(failed_runs < 0 ? runs <= 1 : runs == (uint32_t)failed_runs);
    return 1;
}

/* How many of them failed, once all have ended; they are looked at twice, since what has a result keeps it. */
static inline unsigned check_ends(pp_future **futures, uint32_t count, int failed_runs)
{
    unsigned failed = 0, again = 0;
    for (uint32_t i = 0; i < count; i++)
        failed += check_end(futures[i], i, failed_runs);
    for (uint32_t i = 0; i < count; i++)
        again += check_end(futures[i], i, failed_runs);
    CHECK_INT(again, failed);
    return failed;
}

static inline void unref_all(pp_future **futures, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        pp_future_unref(futures[i]);
}

static inline void check_all_good(pp_future **futures, uint32_t count)
{
    CHECK_INT(check_ends(futures, count, 0), 0);
    unref_all(futures, count);
}

static inline uint32_t count_done(pp_future **futures, uint32_t count)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < count; i++)
        done += pp_future_state(futures[i]) == PP_FINISHED;
    return done;
}

static struct {
    pthread_mutex_t lock;
    char text[1 << 16];
    size_t used;
} lines = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void log_line(void *data, const char *line)
{
    (void)data;
    pthread_mutex_lock(&lines.lock);
    if (lines.used + strlen(line) + 2 < sizeof lines.text)
        lines.used += (size_t)sprintf(lines.text + lines.used, "%s\n", line);
    pthread_mutex_unlock(&lines.lock);
}

static inline bool is_logged(const char *part)
{
    pthread_mutex_lock(&lines.lock);
    bool found = strstr(lines.text, part) != NULL;
    pthread_mutex_unlock(&lines.lock);
    return found;
}

static inline void forget_log(void)
{
    pthread_mutex_lock(&lines.lock);
    lines.text[lines.used = 0] = 0;
    pthread_mutex_unlock(&lines.lock);
}

#endif
