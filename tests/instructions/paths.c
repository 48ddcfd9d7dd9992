/* SPDX-License-Identifier: MIT */
/*
 * Calls with 16 bytes there and back, so that callgrind counts the instructions of each path. One thread plays the
 * owner and its only worker by turns, with a clock of its own: nobody spins, sleeps or is woken, nothing depends on how
 * long it takes, and every run does the same. count.sh runs it and knows what comes of it.
 *
 *     valgrind --tool=callgrind --collect-atstart=no paths    counts, one dump for each path, and prints "PATH CALLS"
 *     paths --about                                           prints what it was built by and runs on, as the table's
 * head has it
 *
 * A dump holds what begin_count and end_count take between them as well; the path "nothing" is that alone.
 */
#include "worker_end.h"

#include "pool/buffer.h"
#include "pool/collect.h"
#include "pool/map.h"
#include "pool/start.h"
#include "pool/workers.h"
#include "procpool.h"
#include "shm/segment.h"

#include <errno.h>
#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_TOGGLE_COLLECT ((void)0)
#define CALLGRIND_ZERO_STATS ((void)0)
#define CALLGRIND_DUMP_STATS_AT(name) must(!(name), "built without valgrind/callgrind.h")
#endif

#define MANY 16 /* calls in the worker's ring at a time */
#define CALLS 1024
#define ELEMENTS 1024 /* of a chunk */
#define CHUNKS 3
#define SIZE 16

enum place {
    NOWHERE,
    SUBMIT_IDLE,
    SUBMIT_BEHIND,
    SUBMIT_BESIDE,
    SUBMIT_MANY,
    TAKE,
    PUBLISH,
    COLLECT,
    GET,
    WAIT,
    LOOK,
    MAP,
    CHUNK,
    LEND,
    BORROW,
    NOTHING
};

static const struct path {
    const char *name;
    enum place place;
    int at_a_time;
} paths[] = {
    {"nothing", NOTHING, MANY},
    {"submit_idle", SUBMIT_IDLE, 1},        /* pp_submit, the worker has nothing */
    {"submit_behind", SUBMIT_BEHIND, MANY}, /* pp_submit, the worker has 1 to 15 calls */
    {"submit_many", SUBMIT_MANY, MANY},     /* pp_submit_many of 16, the worker has nothing */
    {"take", TAKE, MANY},                   /* from the look into the call ring to the task function's begin */
    {"publish", PUBLISH, MANY},             /* from its pp_task_return to the call record's release */
    {"collect_one", COLLECT, 1},            /* pp__collect, one result is there */
    {"collect_many", COLLECT, MANY},        /* the same, for each of 16 */
    {"get", GET, MANY},                     /* pp_future_result and pp_future_unref of a finished one */
    {"wait", WAIT, 1},                      /* the same, while its result lies in the ring */
    {"look", LOOK, MANY},                   /* pp_wait for 16 that are finished */
    {"map", MAP, 0},       /* all that the owner does for a chunk of 1,024 elements of a map over an array */
    {"chunk", CHUNK, 0},   /* all that the worker does for it, with a task that returns its argument */
    {"lend", LEND, 0},     /* pp_submit_call with a buffer that the worker has, pp_future_result and pp_future_unref */
    {"borrow", BORROW, 0}, /* all that the worker does for it */
    {"submit_beside", SUBMIT_BESIDE, MANY}, /* as submit_behind, while another worker sleeps, from here on */
};

static struct {
    enum place place;
    int calls;
} counted;

static pp_buffer *lent;

static void must(bool is, const char *what)
{
    if (is)
        return;
    fprintf(stderr, "%s\n", what);
    exit(EXIT_FAILURE);
}

static __attribute__((noinline)) void begin_count(enum place place)
{
    if (place == counted.place)
        CALLGRIND_TOGGLE_COLLECT;
}

static __attribute__((noinline)) void end_count(enum place place, int calls)
{
    if (place != counted.place)
        return;
    CALLGRIND_TOGGLE_COLLECT;
    counted.calls += calls;
}

/* In libc's place for all that is linked here: each reading is a little later than the one before, so calls are short.
 * It counts as the few instructions that it has. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    static struct timespec now = {.tv_sec = 1000};
    (void)clock;
    now.tv_nsec += 10;
    *time = now;
    return 0;
}

/* ------------------------------------------------------------------------------------------ both ends */

static int echo(pp_task *task, const void *arg, size_t size)
{
    end_count(TAKE, 1);
    begin_count(PUBLISH);
    return pp_task_return(task, arg, size);
}

static int copy(pp_task *task, const void *arg, size_t size)
{
    return pp_task_return(task, arg, size);
}

/* A pool without threads and processes, until it is told that it has some. What it sends to its zygote nobody reads. */
static pp_pool *open_pool(void)
{
    pp_pool *pool;
    int pair[2];
    void *page;
    const pp_pool_options options = {.max_workers = 2, .start_method = PP_START_INLINE};
    must(pp_pool_create(&options, &pool) == 0, "no pool");
    must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0, "no socketpair");
    pool->is_inline = false;
    pool->connection = pair[0];
    pool->epoll = epoll_create1(0);
    pool->page_fd = pp__segment_create("page", PP__PAGE_SIZE, true, &page);
    must(pool->epoll >= 0 && pool->page_fd >= 0, "no epoll or page");
    pool->page = page;
    pool->processors = 2;
    pool->spin_limit = PP__SPIN_MAX;
    return pool;
}

static void open_worker(pp_pool *pool)
{
    pp__pool_lock(pool);
    must(pp__worker_start(pool) == 0, "no worker");
    struct pp__worker *worker = pool->workers[0];
    worker->pid = getpid(); /* as the zygote would have reported */
    worker_end_open(worker->call_side, worker->result_side, pool->page);
    must(worker_end_step(), "no INIT");
    pp__collect(pool);
    must(worker->state == PP__WORKER_READY, "the worker is not ready");
    pp__pool_unlock(pool);
}

/* It has no calls, and who submits is not to wake it for short ones. */
static void open_sleeper(pp_pool *pool)
{
    pp__pool_lock(pool);
    must(pp__worker_start(pool) == 0, "no second worker");
    struct pp__worker *worker = pool->workers[1];
    worker->pid = getpid();
    pp__worker_is_ready(worker);
    atomic_store(&worker->result_side->sleeping, 1);
    pp__pool_unlock(pool);
}

/* As when the manager has gone to sleep, and the last calls were short. */
static void settle(pp_pool *pool)
{
    pool->collector.manager = pool->collector.asleep = true;
    pp__want_ask(&pool->page->wanted, ++pool->want_epoch, PP__WANT_ROOM, PP__WANT_BELL, 0);
    pool->queued = false;
    pool->mean_run = 100;
    pool->wake_cost = PP__SPIN_MAX;
}

/* --------------------------------------------------------------------------------------------- rounds */

static void submit(pp_pool *pool, int count, pp_future **futures)
{
    for (int i = 0; i < count; i++) {
        char arg[SIZE];
        memset(arg, i, SIZE);
        enum place place = i == 0 ? SUBMIT_IDLE : pool->alive == 1 ? SUBMIT_BEHIND : SUBMIT_BESIDE;
        begin_count(place);
        int error = pp_submit(pool, echo, arg, SIZE, &futures[i]);
        end_count(place, 1);
        must(error == 0, "a submit failed");
    }
    must(pool->pending_count == 0, "not all were sent");
}

static void submit_array(pp_pool *pool, int count, pp_future **futures)
{
    char args[MANY][SIZE];
    pp_call calls[MANY];
    for (int i = 0; i < count; i++) {
        memset(args[i], i, SIZE);
        calls[i] = (pp_call){.function = echo, .arg = args[i], .size = SIZE};
    }
    begin_count(SUBMIT_MANY);
    ssize_t done = pp_submit_many(pool, calls, (size_t)count, futures);
    end_count(SUBMIT_MANY, count);
    must(done == count && pool->pending_count == 0, "not all were sent");
}

static void work(int count)
{
    for (int i = 0; i < count; i++) {
        begin_count(TAKE);
        bool some = worker_end_step();
        end_count(PUBLISH, 1);
        must(some, "a call is missing in the ring");
    }
    must(!worker_end_step(), "more calls than there should be");
}

static void collect(pp_pool *pool, int count)
{
    pp__pool_lock(pool);
    begin_count(COLLECT);
    pp__collect(pool);
    end_count(COLLECT, count);
    pp__pool_unlock(pool);
    must(pool->outstanding == 0, "not all have ended");
}

static void look(int count, pp_future **futures)
{
    unsigned char done[MANY] = {0};
    begin_count(LOOK);
    ssize_t all = pp_wait(futures, (size_t)count, PP_ALL_COMPLETED, -1, done);
    end_count(LOOK, count);
    must(all == count && done[count - 1], "not all are done");
}

static void get(enum place place, int count, pp_future **futures)
{
    for (int i = 0; i < count; i++) {
        char result[SIZE];
        begin_count(place);
        int error = pp_future_result(futures[i], -1, result, SIZE, NULL);
        pp_future_unref(futures[i]);
        end_count(place, 1);
        must(error == 0 && result[0] == (char)i && result[SIZE - 1] == (char)i, "not its result");
    }
}

static void one_round(pp_pool *pool, int count)
{
    pp_future *futures[MANY];
    settle(pool);
    if (counted.place == SUBMIT_MANY)
        submit_array(pool, count, futures);
    else
        submit(pool, count, futures);
    work(count);
    if (counted.place != WAIT)
        collect(pool, count);
    if (counted.place == LOOK)
        look(count, futures);
    get(counted.place == WAIT ? WAIT : GET, count, futures);
    for (int i = 0; i < count; i++) {
        begin_count(NOTHING);
        end_count(NOTHING, 1);
    }
}

/* The owner's steps, as pp_map_array makes them: the first sends all chunks, and each of the others has the results
 * that are there. */
static size_t step(pp_map *map, char (*out)[SIZE])
{
    pp_map_result result;
    size_t count = 0;
    begin_count(MAP);
    int got = pp__map_next_run(map, 0, &result, &count);
    if (got == 1)
        memcpy(out[result.index], result.data, count * SIZE);
    end_count(MAP, 0);
    must(got == 1 ? result.code == 0 && result.size == SIZE : got == -ETIMEDOUT, "no results");
    return count;
}

static void map_round(pp_pool *pool)
{
    static char in[CHUNKS * ELEMENTS][SIZE], out[CHUNKS * ELEMENTS][SIZE];
    pp_map *map;
    settle(pool);
    pool->collector.manager = pool->collector.asleep = false; /* who steps has the duty */
    for (size_t i = 0; i < CHUNKS * ELEMENTS; i++)
        memset(in[i], (int)i, SIZE);
    memset(out, 0, sizeof out);
    must(pp_map_open_array(pool, copy, in, CHUNKS * ELEMENTS, SIZE, &(pp_map_options){.chunk_size = ELEMENTS}, &map) ==
             0,
         "no map");
    must(step(map, out) == 0, "results of nothing");
    for (int i = 0; i < CHUNKS; i++) {
        begin_count(CHUNK);
        bool some = worker_end_step();
        end_count(CHUNK, 1);
        must(some, "a chunk is missing in the ring");
        for (size_t count = 0; count < ELEMENTS;)
            count += step(map, out);
        if (counted.place == MAP)
            counted.calls++;
    }
    pp_map_close(map);
    must(memcmp(in, out, sizeof in) == 0, "not the results");
}

static int see(pp_task *task, const void *arg, size_t size)
{
    (void)arg;
    size_t room;
    const void *data = pp_task_buffer(task, 0, &room);
    must(data != NULL && size == 0, "no buffer");
    return pp_task_return(task, data, SIZE);
}

static void lending_round(pp_pool *pool)
{
    pp_future *future;
    char result[SIZE];
    const pp_call call = {.function = see, .buffers = &lent, .buffer_count = 1};
    settle(pool);
    begin_count(LEND);
    int error = pp_submit_call(pool, &call, &future);
    end_count(LEND, 0);
    must(error == 0 && pool->pending_count == 0, "a submit failed");
    begin_count(BORROW);
    bool some = worker_end_step();
    end_count(BORROW, 1);
    must(some && !worker_end_step(), "not the one call");
    begin_count(LEND);
    error = pp_future_result(future, -1, result, SIZE, NULL);
    pp_future_unref(future);
    end_count(LEND, 1);
    must(error == 0 && memcmp(result, pp_buffer_data(lent), SIZE) == 0, "not what is in the buffer");
}

/* As if it had been sent before. */
static void lend_one(pp_pool *pool)
{
    must(pp_buffer_create(SIZE, &lent) == 0, "no buffer");
    memset(pp_buffer_data(lent), 'b', SIZE);
    pool->workers[0]->known.places[0] = (struct pp__known_place){.serial = lent->serial, .room = lent->room};
    worker_end_know(lent->serial, lent->memory);
}

/* Its module is announced to the worker with it, in a record more. */
static void first_call(pp_pool *pool)
{
    pp_future *future;
    submit(pool, 1, &future);
    must(worker_end_step(), "no MODULE");
    work(1);
    collect(pool, 1);
    get(GET, 1, &future);
}

static void run_round(pp_pool *pool, const struct path *path)
{
    if (path->at_a_time > 0)
        one_round(pool, path->at_a_time);
    else if (path->place == LEND || path->place == BORROW)
        lending_round(pool);
    else
        map_round(pool);
}

static void count_path(pp_pool *pool, const struct path *path)
{
    counted.place = NOWHERE;
    for (int i = 0; i < 4; i++)
        run_round(pool, path);
    counted.calls = 0;
    counted.place = path->place;
    CALLGRIND_ZERO_STATS;
    while (counted.calls < (path->at_a_time > 0 ? CALLS : 8 * CHUNKS))
        run_round(pool, path);
    CALLGRIND_DUMP_STATS_AT(path->name);
    printf("%s %d\n", path->name, counted.calls);
}

static void tell_about(void)
{
    struct utsname machine;
    uname(&machine);
#ifdef __clang__
    const char *compiler = "clang";
    int major = __clang_major__;
#else
    const char *compiler = "gcc";
    int major = __GNUC__;
#endif
    printf("%s %d, glibc %s, %s\n", compiler, major, gnu_get_libc_version(), machine.machine);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--about") == 0) {
        tell_about();
        return 0;
    }
    pp_pool *pool = open_pool();
    open_worker(pool);
    first_call(pool);
    lend_one(pool);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (paths[i].place == SUBMIT_BESIDE)
            open_sleeper(pool);
        count_path(pool, &paths[i]);
    }
    fflush(stdout);
    _exit(0); /* exit(3) would wait for a worker that there is not */
}
