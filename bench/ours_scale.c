/* SPDX-License-Identifier: MIT */
/* What a call of procpool costs when there are many workers or many threads. */
#include "ours.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define ROUNDS 5 /* of which the median counts */

/* ----------------------------------------------------------------------------------------------------- workers */

struct workers {
    unsigned workers, calls;
};

static unsigned count_descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    if (!directory)
        bench_fail("/proc/self/fd can't be read");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static double time_calls(struct bench_job *jobs, uint64_t *times, unsigned count)
{
    pool_make_jobs(jobs, count, 0);
    for (unsigned i = 0; i < count; i++) {
        uint64_t begin = bench_now();
        pool_submit(&jobs[i]);
        pool_wait(&jobs[i]);
        times[i] = bench_now() - begin;
    }
    pool_check_jobs(jobs, count);
    return bench_percentile(times, count, 50);
}

/* All workers have run something; then one call at a time. */
static void run_workers(void *data)
{
    const struct workers *w = data;
    unsigned most = w->workers > w->calls ? w->workers : w->calls;
    struct bench_job *jobs = bench_alloc(most * sizeof *jobs);
    unsigned descriptors = count_descriptors();
    ours_occupy(jobs, w->workers);
    bench_report("descriptors", (double)(count_descriptors() - descriptors) / w->workers, "per_worker");
    pool_pass_gate(w->workers);
    for (unsigned i = 0; i < w->workers; i++)
        pool_wait(&jobs[i]);
    uint64_t *times = bench_alloc(w->calls * sizeof *times);
    double costs[ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        costs[i] = time_calls(jobs, times, w->calls);
    bench_report("cost", bench_median(costs, ROUNDS) / 1e3, "us");
}

/* workers, calls; with the usual limit of descriptors */
void ours_workers(char **params)
{
    static const struct rlimit usual = {.rlim_cur = 1024, .rlim_max = 1024};
    struct workers w = {0};
    if (setrlimit(RLIMIT_NOFILE, &usual) != 0)
        bench_fail("the limit of descriptors can't be set");
    w.workers = bench_number(&params);
    w.calls = bench_number(&params);
    pool_open_gate();
    pool_run(w.workers, run_workers, &w);
}

/* ----------------------------------------------------------------------------------------------------- threads */

#define MAX_THREADS 64

struct threads {
    unsigned threads, calls; /* all together */
    bool one_by_one;         /* waits for each before the next */
    pthread_barrier_t go;
    struct bench_job *jobs;
};

struct thread {
    struct threads *all;
    struct bench_job *jobs;
    pthread_t id;
    uint64_t begin, end;
};

static void *run_thread(void *data)
{
    struct thread *thread = data;
    unsigned share = thread->all->calls / thread->all->threads;
    unsigned step = thread->all->one_by_one ? 1 : share;
    pthread_barrier_wait(&thread->all->go);
    thread->begin = bench_now();
    for (unsigned i = 0; i < share; i += step)
        pool_stream(thread->jobs + i, step);
    thread->end = bench_now();
    return NULL;
}

static void start_threads(struct threads *t, struct thread *threads)
{
    pthread_barrier_init(&t->go, NULL, t->threads);
    for (unsigned i = 0; i < t->threads; i++) {
        threads[i].all = t;
        threads[i].jobs = t->jobs + (size_t)i * (t->calls / t->threads);
        if (pthread_create(&threads[i].id, NULL, run_thread, &threads[i]) != 0)
            bench_fail("no thread can be made");
    }
}

/* From the first begin to the last end. */
static double time_threads(struct threads *t)
{
    struct thread threads[MAX_THREADS];
    uint64_t begin = UINT64_MAX, end = 0;
    pool_make_jobs(t->jobs, t->calls, 0);
    start_threads(t, threads);
    for (unsigned i = 0; i < t->threads; i++) {
        pthread_join(threads[i].id, NULL);
        begin = threads[i].begin < begin ? threads[i].begin : begin;
        end = threads[i].end > end ? threads[i].end : end;
    }
    pthread_barrier_destroy(&t->go);
    pool_check_jobs(t->jobs, t->calls);
    return (double)(end - begin);
}

static void run_threads(void *data)
{
    struct threads *t = data;
    t->jobs = bench_alloc(t->calls * sizeof *t->jobs);
    double costs[ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        costs[i] = time_threads(t) / t->calls;
    bench_report("cost", bench_median(costs, ROUNDS) / 1e3, "us");
}

static void measure_threads(char **params, bool one_by_one)
{
    struct threads t = {.one_by_one = one_by_one};
    t.threads = bench_number(&params);
    if (t.threads < 1 || t.threads > MAX_THREADS)
        bench_fail("1 to %d threads", MAX_THREADS);
    t.calls = bench_number(&params) / t.threads * t.threads;
    pool_run(2, run_threads, &t);
}

/* threads, calls: each thread submits its share, then waits for it */
void ours_threads(char **params)
{
    measure_threads(params, false);
}

/* threads, calls: each thread waits for each of its calls before the next */
void ours_waiters(char **params)
{
    measure_threads(params, true);
}

/* --------------------------------------------------------------------------------------------------- bystanders */

/* Threads that wait for futures of the pool, each for one of its own, none of which is done while calls are timed. */
struct bystanders {
    unsigned threads, calls;
};

static void *stand_by(void *future)
{
    ours_must(pp_future_wait(future, -1));
    return NULL;
}

static double time_one_by_one(struct bench_job *jobs, unsigned calls)
{
    pool_make_jobs(jobs, calls, 0);
    uint64_t begin = bench_now();
    for (unsigned i = 0; i < calls; i++)
        pool_stream(&jobs[i], 1);
    double took = (double)(bench_now() - begin);
    pool_check_jobs(jobs, calls);
    return took / calls;
}

static void run_beside(void *data)
{
    const struct bystanders *b = data;
    struct bench_job *jobs = bench_alloc(b->calls * sizeof *jobs);
    pp_future *futures[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    double costs[ROUNDS];
    for (unsigned i = 0; i < b->threads; i++) {
        ours_must(pp_future_create(ours, &futures[i]));
        if (pthread_create(&threads[i], NULL, stand_by, futures[i]) != 0)
            bench_fail("no thread can be made");
    }
    bench_sleep(20000000); /* until all wait */
    for (int i = 0; i < ROUNDS; i++)
        costs[i] = time_one_by_one(jobs, b->calls);
    for (unsigned i = 0; i < b->threads; i++) {
        ours_must(pp_future_set_result(futures[i], NULL, 0));
        pthread_join(threads[i], NULL);
        pp_future_unref(futures[i]);
    }
    bench_report("cost", bench_median(costs, ROUNDS) / 1e3, "us");
}

/* threads that wait for something else, calls of one that has one after the other */
void ours_beside(char **params)
{
    struct bystanders b = {0};
    b.threads = bench_number(&params);
    if (b.threads > MAX_THREADS)
        bench_fail("at most %d threads", MAX_THREADS);
    b.calls = bench_number(&params);
    pool_run(2, run_beside, &b);
}

/* ------------------------------------------------------------------------------------------------ many pending */

enum { HELD = 2, PENDING_ROUNDS = 101, PENDING_CALLS = 1000000 };

struct pending {
    double submits, waits; /* ns a call */
};

/* All calls are pending together: the workers are held in calls of their own until the last one is submitted. Waiting
 * begins when the first of them is let through. */
static struct pending time_pending(struct bench_job *held, struct bench_job *jobs, unsigned count)
{
    ours_occupy(held, HELD);
    pool_make_jobs(jobs, count, 0);
    uint64_t begin = bench_now();
    for (unsigned i = 0; i < count; i++)
        pool_submit(&jobs[i]);
    uint64_t submitted = bench_now();
    pool_pass_gate(HELD);
    for (unsigned i = 0; i < count; i++)
        pool_wait(&jobs[i]);
    uint64_t end = bench_now(), passed = end;
    for (int i = 0; i < HELD; i++) {
        pool_wait(&held[i]);
        passed = held[i].answer.value < passed ? held[i].answer.value : passed;
    }
    pool_check_jobs(jobs, count);
    return (struct pending){(double)(submitted - begin) / count, (double)(end - passed) / count};
}

/* The first one brings memory into use. Few calls are measured many times. */
static void run_pending(void *data)
{
    unsigned count = *(unsigned *)data, rounds = PENDING_CALLS / count;
    struct bench_job *jobs = bench_alloc(count * sizeof *jobs), held[HELD];
    double submits[PENDING_ROUNDS], waits[PENDING_ROUNDS], costs[PENDING_ROUNDS];
    rounds = rounds < 1 ? 1 : rounds > PENDING_ROUNDS ? PENDING_ROUNDS : rounds;
    time_pending(held, jobs, count);
    for (unsigned i = 0; i < rounds; i++) {
        struct pending p = time_pending(held, jobs, count);
        submits[i] = p.submits;
        waits[i] = p.waits;
        costs[i] = p.submits + p.waits;
    }
    bench_report("cost", bench_median(costs, rounds) / 1e3, "us");
    bench_report("submit", bench_median(submits, rounds) / 1e3, "us");
    bench_report("wait", bench_median(waits, rounds) / 1e3, "us");
}

/* calls: submitted while the workers are held, then waited for */
void ours_pending(char **params)
{
    unsigned count = bench_number(&params);
    pool_open_gate();
    pool_run(HELD, run_pending, &count);
}

/* ------------------------------------------------------------------------------------------------ many futures */

/* Takes them as they are done; how often it has called pp_wait for that. */
typedef unsigned taking(pp_future **futures, size_t count);

static unsigned take_as_completed(pp_future **futures, size_t count)
{
    pp_completed *completed;
    pp_future *future;
    ours_must(pp_as_completed(futures, count, &completed));
    for (size_t i = 0; i < count; i++)
        if (pp_completed_next(completed, -1, &future, NULL) != 1)
            bench_fail("%s", pp_last_error());
    pp_completed_close(completed);
    return 0;
}

/* Waits for the first of all, takes out what is done, and so on with the others until none is left. */
static unsigned take_by_waiting(pp_future **futures, size_t count)
{
    const size_t all = count;
    unsigned waits = 0;
    unsigned char *done = bench_alloc(all);
    for (; count > 0; waits++) {
        size_t left = 0;
        if (pp_wait(futures, count, PP_FIRST_COMPLETED, -1, done) < 1)
            bench_fail("%s", pp_last_error());
        for (size_t i = 0; i < count; i++)
            if (!done[i])
                futures[left++] = futures[i];
        count = left;
    }
    bench_unmap(done, all);
    return waits;
}

struct many {
    taking *take;
    unsigned count;
    int32_t pause; /* microseconds that each call sleeps, so that it is not over when it is waited for; or 0 */
};

/* For each call, ns: of submit and taking, and of taking alone by the clock and of the owner's processor. */
struct taken {
    double all, wall, cpu, waits;
};

static double cpu_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct taken time_many(const struct many *many, struct bench_job *jobs, pp_future **futures)
{
    const unsigned count = many->count;
    pool_make_jobs(jobs, count, 0);
    for (unsigned i = 0; i < count; i++)
        jobs[i].arg.pause = many->pause;
    uint64_t begin = bench_now();
    for (unsigned i = 0; i < count; i++) {
        pool_submit(&jobs[i]);
        futures[i] = jobs[i].handle;
    }
    double cpu = cpu_time();
    uint64_t submitted = bench_now();
    unsigned waits = many->take(futures, count);
    uint64_t end = bench_now();
    cpu = cpu_time() - cpu;
    for (unsigned i = 0; i < count; i++)
        pool_wait(&jobs[i]);
    pool_check_jobs(jobs, count);
    return (struct taken){(double)(end - begin) / count, (double)(end - submitted) / count, cpu / count,
                          (double)waits / count};
}

static void report_many(const struct many *many, struct taken *taken, unsigned rounds)
{
    double all[ROUNDS], wall[ROUNDS], cpu[ROUNDS], waits[ROUNDS];
    for (unsigned i = 0; i < rounds; i++) {
        all[i] = taken[i].all;
        wall[i] = taken[i].wall;
        cpu[i] = taken[i].cpu;
        waits[i] = taken[i].waits;
    }
    if (many->pause == 0) {
        bench_report("cost", bench_median(all, rounds) / 1e3, "us");
    } else {
        bench_report("cpu", bench_median(cpu, rounds) / 1e3, "us");
        bench_report("wall", bench_median(wall, rounds) / 1e3, "us");
    }
    if (many->take == take_by_waiting)
        bench_report("waits", bench_median(waits, rounds), "per_call");
}

/* Calls that sleep take long: of many of them there is one round. */
#define SLOW 10000

static void run_many(void *data)
{
    const struct many *many = data;
    unsigned rounds = many->pause && many->count >= SLOW ? 1 : ROUNDS;
    struct bench_job *jobs = bench_alloc(many->count * sizeof *jobs);
    pp_future **futures = bench_alloc(many->count * sizeof *futures);
    struct taken taken[ROUNDS];
    for (unsigned i = 0; i < rounds; i++)
        taken[i] = time_many(many, jobs, futures);
    report_many(many, taken, rounds);
}

static void measure_many(char **params, taking *take)
{
    struct many many = {.take = take};
    many.count = bench_number(&params);
    many.pause = (int32_t)bench_number(&params);
    pool_run(2, run_many, &many);
}

/* futures, microseconds that each call sleeps: submitted, then taken as they are done */
void ours_completed(char **params)
{
    measure_many(params, take_as_completed);
}

/* futures, microseconds that each call sleeps: submitted, then waited for in a loop */
void ours_waited(char **params)
{
    measure_many(params, take_by_waiting);
}
