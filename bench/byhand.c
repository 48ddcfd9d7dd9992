/* SPDX-License-Identifier: MIT */
/* The same work without the library, as one would write it for the purpose: no errors handled, no deaths survived. */
#include "bench.h"

#include <errno.h>
#include <linux/futex.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUND_TRIPS 5000
#define FORKS 500
#define STREAM 50000
#define GRIND 100000
#define FIRSTS 15
#define KILLS 5

static void check(uint32_t actual, uint32_t expected)
{
    if (actual != expected)
        bench_fail("a wrong result: %u instead of %u", actual, expected);
}

static double median_of(double (*once)(uint32_t n), unsigned count, double unit)
{
    double *times = calloc(count, sizeof *times);
    for (unsigned i = 0; i < count; i++)
        times[i] = once(i);
    double median = bench_median(times, count) * unit;
    free(times);
    return median;
}

/* --------------------------------------------------------------------------------- a thread, one call at a time */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t asked, answered;
    enum { IDLE, ASKED, ANSWERED, STOP } state;
    uint32_t value;
} desk = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, IDLE, 0};

static void *serve_desk(void *unused)
{
    pthread_mutex_lock(&desk.lock);
    while (desk.state != STOP) {
        if (desk.state != ASKED) {
            pthread_cond_wait(&desk.asked, &desk.lock);
            continue;
        }
        desk.value = bench_square(desk.value);
        desk.state = ANSWERED;
        pthread_cond_signal(&desk.answered);
    }
    pthread_mutex_unlock(&desk.lock);
    return unused;
}

static uint32_t ask_thread(uint32_t n)
{
    pthread_mutex_lock(&desk.lock);
    desk.value = n;
    desk.state = ASKED;
    pthread_cond_signal(&desk.asked);
    while (desk.state != ANSWERED)
        pthread_cond_wait(&desk.answered, &desk.lock);
    uint32_t value = desk.value;
    pthread_mutex_unlock(&desk.lock);
    return value;
}

static void stop_desk(pthread_t thread)
{
    pthread_mutex_lock(&desk.lock);
    desk.state = STOP;
    pthread_cond_signal(&desk.asked);
    pthread_mutex_unlock(&desk.lock);
    pthread_join(thread, NULL);
    desk.state = IDLE;
}

static void start_desk(pthread_t *thread)
{
    if (pthread_create(thread, NULL, serve_desk, NULL) != 0)
        bench_fail("no thread can be made");
}

static double time_ask(uint32_t n)
{
    double begin = bench_now();
    uint32_t value = ask_thread(n);
    double took = bench_now() - begin;
    check(value, n * n);
    return took;
}

double byhand_thread_round_trip(void)
{
    pthread_t thread;
    start_desk(&thread);
    double median = median_of(time_ask, ROUND_TRIPS / bench_divisor, 1e6);
    stop_desk(thread);
    return median;
}

static double time_first_thread(uint32_t n)
{
    pthread_t thread;
    double begin = bench_now();
    start_desk(&thread);
    uint32_t value = ask_thread(n);
    double took = bench_now() - begin;
    check(value, n * n);
    stop_desk(thread);
    return took;
}

double byhand_thread_first(void)
{
    return median_of(time_first_thread, FIRSTS, 1e3);
}

/* ------------------------------------------------------------------------------- a process, one call at a time */

static struct page {
    _Atomic uint32_t asked, answered; /* counts */
    uint32_t value;
    pid_t pid; /* of who answered */
} * page;

static void open_page(void)
{
    if (!page)
        page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        bench_fail("no shared memory");
    memset(page, 0, sizeof *page);
}

static void wait_while(_Atomic uint32_t *word, uint32_t value)
{
    while (atomic_load(word) == value)
        syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static void bump(_Atomic uint32_t *word)
{
    atomic_fetch_add(word, 1);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static pid_t start_child(void)
{
    pid_t pid = fork();
    if (pid < 0)
        bench_fail("no process can be made");
    if (pid == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static _Noreturn void serve_page(void)
{
    for (uint32_t served = 0;; served++) {
        wait_while(&page->asked, served);
        page->value = bench_square(page->value);
        page->pid = getpid();
        bump(&page->answered);
    }
}

static double time_page(uint32_t n)
{
    double begin = bench_now();
    page->value = n;
    bump(&page->asked);
    wait_while(&page->answered, n);
    double took = bench_now() - begin;
    check(page->value, n * n);
    return took;
}

double byhand_process_round_trip(void)
{
    open_page();
    pid_t pid = start_child();
    if (pid == 0)
        serve_page();
    double median = median_of(time_page, ROUND_TRIPS / bench_divisor, 1e6);
    if (page->pid != pid)
        bench_fail("the answer came from another process");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return median;
}

static double time_fork(uint32_t n)
{
    int status;
    double begin = bench_now();
    page->value = n;
    pid_t pid = start_child();
    if (pid == 0) {
        page->value = bench_square(page->value);
        page->pid = getpid();
        _exit(0);
    }
    waitpid(pid, &status, 0);
    double took = bench_now() - begin;
    check(page->value, n * n);
    if (status != 0 || page->pid != pid)
        bench_fail("the child did not do its work");
    return took;
}

/* What a fork costs depends on the memory in use: what the other workloads have freed goes back first. */
static void become_small(void)
{
    malloc_trim(0);
    open_page();
}

double byhand_fork_each(void)
{
    become_small();
    return median_of(time_fork, FORKS / bench_divisor, 1e6);
}

double byhand_fork_first(void)
{
    become_small();
    return median_of(time_fork, FIRSTS, 1e3);
}

static double time_kill(uint32_t n)
{
    int status;
    (void)n;
    pid_t pid = start_child();
    while (pid == 0)
        pause();
    usleep(1000);
    double begin = bench_now();
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    double took = bench_now() - begin;
    if (!WIFSIGNALED(status))
        bench_fail("the child was not killed");
    return took;
}

double byhand_kill(void)
{
    return median_of(time_kill, KILLS, 1e3);
}

/* --------------------------------------------------------------------------------- two threads and a queue */

struct job {
    struct job *next;
    uint32_t value;
    bool done;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t more, done;
    struct job *first, **end;
    struct job *wanted; /* somebody sleeps until it is done */
    bool stop;
} queue = {
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, &queue.first, NULL, false};

static void *serve_queue(void *unused)
{
    pthread_mutex_lock(&queue.lock);
    for (;;) {
        struct job *job = queue.first;
        if (!job && queue.stop)
            break;
        if (!job) {
            pthread_cond_wait(&queue.more, &queue.lock);
            continue;
        }
        queue.first = job->next;
        if (!queue.first)
            queue.end = &queue.first;
        pthread_mutex_unlock(&queue.lock);
        uint32_t value = bench_square(job->value);
        pthread_mutex_lock(&queue.lock);
        job->value = value;
        job->done = true;
        if (queue.wanted == job)
            pthread_cond_signal(&queue.done);
    }
    pthread_mutex_unlock(&queue.lock);
    return unused;
}

static struct job *put(uint32_t n)
{
    struct job *job = malloc(sizeof *job);
    *job = (struct job){.value = n};
    pthread_mutex_lock(&queue.lock);
    *queue.end = job;
    queue.end = &job->next;
    pthread_cond_signal(&queue.more);
    pthread_mutex_unlock(&queue.lock);
    return job;
}

static uint32_t get(struct job *job)
{
    pthread_mutex_lock(&queue.lock);
    queue.wanted = job;
    while (!job->done)
        pthread_cond_wait(&queue.done, &queue.lock);
    pthread_mutex_unlock(&queue.lock);
    uint32_t value = job->value;
    free(job);
    return value;
}

static void stop_queue(pthread_t threads[2])
{
    pthread_mutex_lock(&queue.lock);
    queue.stop = true;
    pthread_cond_broadcast(&queue.more);
    pthread_mutex_unlock(&queue.lock);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    queue.stop = false;
}

static void start_two(pthread_t threads[2], void *(*run)(void *), void *const arguments[2])
{
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, run, arguments[i]) != 0)
            bench_fail("no thread can be made");
}

double byhand_threads_stream(void)
{
    unsigned count = STREAM / bench_divisor;
    struct job **jobs = calloc(count, sizeof *jobs);
    pthread_t threads[2];
    start_two(threads, serve_queue, (void *const[2]){NULL, NULL});
    double begin = bench_now();
    for (uint32_t i = 0; i < count; i++)
        jobs[i] = put(i);
    for (uint32_t i = 0; i < count; i++)
        check(get(jobs[i]), i * i);
    double took = bench_now() - begin;
    stop_queue(threads);
    free(jobs);
    return count / took / 1e3;
}

/* -------------------------------------------------------------------------------------- two threads, two halves */

struct half {
    const uint32_t *inputs;
    uint32_t *outputs;
    size_t count;
};

static void *run_half(void *data)
{
    const struct half *half = data;
    for (size_t i = 0; i < half->count; i++)
        half->outputs[i] = bench_grind(half->inputs[i]);
    return NULL;
}

double byhand_threads_split(void)
{
    size_t count = GRIND / bench_divisor;
    uint32_t *inputs = calloc(count, sizeof *inputs), *outputs = calloc(count, sizeof *outputs);
    pthread_t threads[2];
    for (size_t i = 0; i < count; i++)
        inputs[i] = (uint32_t)i;
    double begin = bench_now();
    struct half halves[2] = {{inputs, outputs, count / 2},
                             {inputs + count / 2, outputs + count / 2, count - count / 2}};
    start_two(threads, run_half, (void *const[2]){&halves[0], &halves[1]});
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    double took = bench_now() - begin;
    for (size_t i = 0; i < count; i++)
        check(outputs[i], bench_grind(inputs[i]));
    free(inputs);
    free(outputs);
    return (double)count / took / 1e3;
}
