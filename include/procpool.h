/* SPDX-License-Identifier: MIT */
/*
 * procpool: call C functions in worker processes.
 *
 * Conventions that hold for every function here:
 *
 *   - Arguments come in the order handle, inputs, options, outputs. Outputs are written only on success.
 *   - Functions return 0 (or a count) or a negative errno. pp_last_error() then gives the calling thread's
 *     last failure in words.
 *   - Options structs are zeroed first (`{ 0 }` or a designated initializer); zero is the default of each
 *     field, and the reserved words must stay zero, else -EINVAL. A field that switches something on is 0 or
 *     1, else -EINVAL too.
 *   - Time arguments are milliseconds as in poll(2): 0 looks, -1 waits for ever, running out is
 *     -ETIMEDOUT. Time fields are milliseconds too, and 0 means no limit.
 *   - Everything may be called from any thread unless its comment says otherwise. Functions that block
 *     return -EINTR when a signal handler ran while the thread slept (or it was stopped and continued), unless
 *     every handler that the program has installed, but for those of faults such as SIGSEGV, asks for
 *     SA_RESTART; nothing is lost and the call can be made again, but for what pp_map_array says. A wait is
 *     made of several sleeps; from the first one on a thread puts off signals whose handlers do not ask for it
 *     until it sleeps again, or some milliseconds, so that none is missed between two. One that comes while the
 *     call begins, before it sleeps, is as one that came before the call; a handler counts from 100 ms after it
 *     was installed at the latest. What
 *     can't be closed: where a thread sleeps on a word in memory (it waits for a pool while another thread collects,
 *     for several pools by pp_wait, or for a lock, semaphore, event, queue or value), a signal that comes
 *     in the instant before or behind a sleep, of well under a microsecond, twice in each 50 ms, is missed.
 *   - In a child that the program forks by itself every function refuses with -EPERM (or does nothing if
 *     it returns nothing) and touches nothing that the parent uses; but for those of objects of many processes.
 *   - NULL where a handle is needed is -EINVAL; functions without a return value accept and ignore it.
 *   - The library prints nothing, never exits the owner and installs no signal handler in it.
 */
#ifndef PROCPOOL_H
#define PROCPOOL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PP_VERSION_MAJOR 0
#define PP_VERSION_MINOR 1
#define PP_VERSION_PATCH 0

#if defined(__GNUC__)
#define PP_API __attribute__((visibility("default")))
#define PP_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define PP_API
#define PP_PRINTF(text, first)
#endif

typedef struct pp_launcher pp_launcher;
typedef struct pp_pool pp_pool;
typedef struct pp_future pp_future;
typedef struct pp_map pp_map;
typedef struct pp_completed pp_completed;
typedef struct pp_task pp_task;
typedef struct pp_buffer pp_buffer;
struct pp_backtrace;

/* ------------------------------------------------------------------------------------------ general */

/*
 * The calling thread's last failure in words; "" if there was none. The text belongs to the thread and
 * stays until its next failing call. A successful call leaves it alone or as something that was tried and
 * got over left it, so look at it only after a failure. Never fails.
 */
PP_API const char *pp_last_error(void);

/* The library's version, "0.1.0". A constant; never fails. */
PP_API const char *pp_version(void);

/*
 * The number of processors that this process may use, at least 1: its affinity mask, lowered to its cgroup's
 * CPU quota (rounded up). What max_workers of 0 means. Never fails; works in a forked child too.
 */
PP_API int pp_usable_processors(void);

/* -------------------------------------------------------------------------------------------- tasks */

/*
 * A task: a function that runs in a worker process. `arg` (aligned to 16 bytes, followed by a NUL byte that
 * `size` does not count; but see in_buffer of pp_map_options) is valid until it returns and must not be written. A
 * child that the task forks can't read it, nor a buffer of the call: what that needs is copied before. It succeeds by
 * returning 0, with the result given to pp_task_return, or with an empty result if that was never called. It fails by
 * returning anything else; `return pp_task_fail(...)` adds a message.
 *
 * Any function of any loaded module can be a task, static ones too.
 */
typedef int pp_function(pp_task *task, const void *arg, size_t size);

/*
 * The result of the call: `size` bytes at `data`, copied at once. Returns 0, so that a task can end with
 * `return pp_task_return(...)`. A second call replaces the first. New room for more than 256 KiB now and then takes
 * longer, up to some ms for each MiB. -EINVAL: data is NULL and size is not 0; -ENOMEM, -EMFILE, -ENFILE, -EFBIG
 * (RLIMIT_FSIZE): no room for the result; a task that returns that fails with kind PP_ERROR_TRAVEL, unless it has
 * called pp_task_fail. Task only: call it from the thread that runs the task, during the task.
 */
PP_API int pp_task_return(pp_task *task, const void *data, size_t size);

/*
 * Room for a result of `size` bytes, to be written in place; it becomes the result when the task returns 0. NULL
 * when there is none (as pp_task_return; pp_last_error() says why). A later pp_task_return or pp_task_reserve replaces
 * it. Task only.
 */
PP_API void *pp_task_reserve(pp_task *task, size_t size);

/*
 * Fails the call: the future's error is of kind PP_ERROR_TASK with `code` (a negative errno by custom; 0 becomes -EIO)
 * and the formatted message, of which the first 1023 bytes travel. Returns code, so that a task can end with
 * `return pp_task_fail(...)`; the call fails with it whatever the task returns. In a pool with `backtraces` the error
 * tells also where this was called: see pp_error_backtrace. Task only.
 */
PP_API int pp_task_fail(pp_task *task, int code, const char *format, ...) PP_PRINTF(3, 4);
#if defined(__GNUC__)
/* The same; only that no caller leaves its frame before (a tail call), for whoever asks where it failed. */
#define pp_task_fail(...)                                                                                              \
    __extension__({                                                                                                    \
        int pp__code = (pp_task_fail)(__VA_ARGS__);                                                                    \
        __asm__ __volatile__("");                                                                                      \
        pp__code;                                                                                                      \
    })
#endif

/* The call's id, unique in its pool and growing in the order of submission. Task only. Never fails. */
PP_API uint64_t pp_task_id(const pp_task *task);

/* The number of the worker that runs the call, 0 to max_workers - 1; a replacement takes over the number. Task only. */
PP_API int pp_task_worker(const pp_task *task);

/* A seed for random numbers, a function of the pool's seed and the call's id alone. Task only. Never fails. */
PP_API uint64_t pp_task_seed(const pp_task *task);

/*
 * The worker's own state: a pointer that pp_task_set_state stored in this worker process, in the initializer by
 * custom; NULL before. It is the task's to free, in the finalizer by custom. Task only. Never fails.
 */
PP_API void *pp_task_state(const pp_task *task);
PP_API void pp_task_set_state(pp_task *task, void *state);

/*
 * Whether the program has asked this call to stop, with pp_future_request_stop: 1 or 0. What the program did before
 * that is seen. A task that looks now and then ends soon after, with a result or a failure as it likes. It costs next
 * to nothing. Always 0 in initializers, finalizers and elements of a map. Task only, from any thread of it. Never
 * fails.
 */
PP_API int pp_task_cancelled(const pp_task *task);

/*
 * Tells how far the call is, in whatever unit: pp_future_progress shows the last value. It costs a store. In
 * initializers, finalizers and elements of a map nobody sees it. Task only, from the thread that runs the task. Never
 * fails.
 */
PP_API void pp_task_progress(pp_task *task, uint64_t progress);

/*
 * The descriptor that travelled with the call as its `index`th: a number of this process for the file that the caller
 * named, with the file's offset and status flags, which all who have it share; close-on-exec. It is the library's,
 * which closes it when the task ends: a task that wants it longer, or in a program that it runs, makes a copy (dup),
 * and it closes none itself. The owner keeps its copy until the call has ended. Elements of a map and initializers and
 * finalizers have none. Task only, from any thread of it. Errors: -EINVAL (no such descriptor).
 */
PP_API int pp_task_fd(const pp_task *task, size_t index);

/* How many there are. Task only, from any thread of it. Never fails. */
PP_API size_t pp_task_fd_count(const pp_task *task);

/*
 * Sends a copy of `fd`, made at once, back with the call's result, behind those of earlier calls of this function, for
 * pp_future_take_fd. `fd` stays the task's. If the call fails nothing goes back. Returns 0, or -EBADF (not open),
 * -EMFILE, -ENFILE, -ENOMEM (no copy can be made; a task that returns one of these fails with kind PP_ERROR_TRAVEL),
 * -EINVAL (there are PP_MAX_DESCRIPTORS already), -ENOTSUP (in an initializer, a finalizer or an element of a map).
 * Task only, from the thread that runs the task.
 */
PP_API int pp_task_return_fd(pp_task *task, int fd);

/*
 * The buffer that travelled with the call as its `index`th, in place: its bytes, aligned to a page, which must not be
 * written, with their number in *size (may be NULL). They are valid until the task returns. NULL: there is no such
 * buffer; pp_last_error() says so. Elements of a map and initializers and finalizers have none. Task only, from any
 * thread of it.
 */
PP_API const void *pp_task_buffer(const pp_task *task, size_t index, size_t *size);

/*
 * The same of one that pp_buffer_create_shared has made, to be written to as well: what the task has written is seen by
 * who sees its result. Another call that has the buffer may write to it at the same time. NULL as well: the buffer is
 * no shared one.
 */
PP_API void *pp_task_shared_buffer(const pp_task *task, size_t index, size_t *size);

/* How many there are. Task only, from any thread of it. Never fails. */
PP_API size_t pp_task_buffer_count(const pp_task *task);

/* ---------------------------------------------------------------------------------------- launchers */

/* Where workers come from. */
typedef enum pp_start_method {
    PP_START_DEFAULT = 0, /* forkserver if main called pp_worker_main, else fork */
    PP_START_FORK,        /* forks of the owner as it was when the launcher was made */
    PP_START_FORKSERVER,  /* forks of a fresh image of the running executable */
    PP_START_SPAWN,       /* each a fresh image of the running executable, or what a command, or the program, starts */
    PP_START_INLINE       /* no process: calls run in the owner while somebody waits; no isolation */
} pp_start_method;

/*
 * Functions of the program that have workers started, in place of a command. Both are called by a thread of each pool,
 * in turn with its log (of a pool of an event loop: in pp_pool_dispatch, or by a thread that waits for the pool or one
 * of its futures, with that thread's signals), without any lock, one at a time in a pool; one that takes long delays
 * starts and log lines, and nothing else (but in a pool of an event loop pp_pool_dispatch, and so all that it does).
 * They must return, and not end this pool. Threads of the library have all signals blocked, and so has what they fork,
 * until that attaches or unblocks them.
 */
typedef struct pp_starter {
    /*
     * Has some process call pp_worker_attach(invitation), now or later. `number` is the worker's, -1: a standby's,
     * which gets its own later. 0, or a negative errno: the worker can't be started now, which is tried again after
     * growing pauses, until for start_timeout (30 s if that is 0) none could be started and none lives; then the pool
     * breaks. A worker that does not come in that time breaks it as well.
     */
    int (*start)(void *context, const char *invitation, int number);
    /* May be NULL. Called once after each start that has returned 0: the worker has ended, or is not wanted any more
     * (nobody can attach with that invitation then). The kernel has killed one that had attached, whoever its parent
     * is; what else there is to clean up is the program's. What is there when the program exits is perhaps not stopped.
     */
    void (*stop)(void *context, const char *invitation, int number);
    void *context; /* their first argument */
} pp_starter;

typedef struct pp_launcher_options {
    pp_start_method start_method; /* overridden by PROCPOOL_START=fork|forkserver|spawn|inline in the environment */
    const char *const *preload;   /* forkserver: NULL-ended paths of shared libraries that it opens before it forks */
    /* spawn: the NULL-ended words of a command, run once for each worker, that starts it: found by PATH; a word "{}"
     * becomes the path of the running executable. See pp_worker_attach. NULL: workers are started without. Makes spawn
     * the default method. */
    const char *const *command;
    /* spawn, in place of a command: functions that have workers started; the struct is copied. NULL: there are none.
     * Makes spawn the default method. */
    const pp_starter *starter;
    /* Forkserver, spawn: descriptors that workers keep, besides 1 and 2; fork: kept despite close_fds. */
    const int *inherit_fds;
    size_t inherit_fd_count;
    int close_fds; /* fork, 1: close all other descriptors of the owner in workers (0: keep them, as fork does) */
    /* Fork, forkserver: 0 has it keep one process forked ahead, "pp-spare", which the next start takes instead of
     * forking one; when nothing has been asked of it for 5 ms, it makes the next. Where starts follow each other
     * within that time, it does so once no worker of it is left, if it may run on all processors and has no filter of
     * system calls (seccomp), and for that leaves its owner's processor for a moment, by sched_setaffinity: what is set
     * for the launcher's processors at this very moment, from outside, is lost. Launchers that pools make for
     * themselves keep none. */
    int no_spare;
    uint64_t reserved[4];
} pp_launcher_options;

/*
 * To be called first thing in main by a program that uses PP_START_FORKSERVER or PP_START_SPAWN. In the program itself
 * it returns 0 at once, having noted that it was called; in the images that are started as the parent of workers, or as
 * workers, it never returns. One that a launcher's command has started, and that can't join, exits with status 127.
 * -EPROTO: the environment says that this is such an image, but nobody answers; the program goes on as itself. Call it
 * once, before any thread is made.
 */
PP_API int pp_worker_main(void);

/*
 * Makes the calling process a worker of the pool whose launcher's command or starter has started it, or has had it
 * started. `invitation` is what that command found in its environment as PROCPOOL_INVITATION, or what the starter was
 * given; NULL: the one that is in this environment, which is then unset. On success it does not return: the process
 * runs the pool's calls until it is told to leave or killed, and the kernel kills it when the pool's owner ends,
 * whoever its parent is. Descriptors and memory stay as they are, signal dispositions become the default ones. It has
 * to be of the same user, and in the same network namespace, and each invitation can be followed once. Of a program
 * that is not the owner's executable only functions in shared libraries can be called. Call it before any thread is
 * made, and beside no pool of this process.
 *
 * Errors: -ENOENT (no invitation), -EINVAL (it is none), -ECONNREFUSED (nobody listens: the pool is gone), -EACCES
 * (nobody is invited so, or not any more, or by another user), -EALREADY (somebody has followed it), -EPROTO (the pool
 * has another build of the library), -ETIMEDOUT (no answer in 10 s), -EMFILE, -ENFILE, -ENOMEM, and what else
 * connect(2) says, -EINTR for example.
 */
PP_API int pp_worker_attach(const char *invitation);

/*
 * Makes a launcher: the parent process of workers, in the state in which the owner is now. One that is made early,
 * before the owner grows and makes threads, starts workers cheaply and cleanly. `options` may be NULL. *launcher has
 * one reference, the caller's.
 *
 * Errors: -EINVAL (bad options, an unknown PROCPOOL_START, more than 64 inherit_fds, preload, command or starter with
 * another method, an empty command, a starter without start or beside a command), -EBADF (an inherit_fd that is not
 * open), -ENOSYS (forkserver or spawn without pp_worker_main, or with raised privileges), -ENOENT or -ELIBBAD for a
 * preload that can't be opened, -E2BIG (the paths to preload, or the command, are too long), -EAGAIN (no process can be
 * made, or another thread holds a lock of libc's at every try), -ENOMEM, -EMFILE, -ENFILE, -EPERM (in a forked child;
 * in a daemon, see pp_process_options). If the launcher's process dies, its pools break with that cause.
 */
PP_API int pp_launcher_create(const pp_launcher_options *options, pp_launcher **launcher);

/* Takes one more reference; returns launcher. */
PP_API pp_launcher *pp_launcher_ref(pp_launcher *launcher);

/* Gives one reference back. Pools hold their own, so a launcher may be given up as soon as its pools are made. */
PP_API void pp_launcher_unref(pp_launcher *launcher);

/* -------------------------------------------------------------------------------------------- pools */

/* What the death of a worker inside a call does. */
typedef enum pp_crash_rule {
    PP_ISOLATE = 0, /* it fails that call alone */
    PP_BREAK_POOL   /* it breaks the pool: every outstanding future fails */
} pp_crash_rule;

/* What a thread that waits for a result, and a worker that waits for a call, do before they sleep. */
typedef enum pp_wait_policy {
    /* They look again for some microseconds, as long as no running call wants the processor. Between calls in a row, a
     * worker that may run on several processors leaves the one of the thread that waits for it, by sched_setaffinity;
     * then it may run where it might before; but where that is set at this very moment, from outside, is lost. A
     * worker that is pinned (pin, processors) stays where it is, and so does one under a filter of system calls
     * (seccomp) that was there when it started; a filter that a task installs must allow sched_getaffinity and
     * sched_setaffinity, or the workers be pinned. Where threads that wait and workers that are busy outnumber the
     * processors, and calls last some microseconds at most on average, the threads take turns: what one waits for may
     * come to it a millisecond later, or twice that, while another goes on from call to call. */
    PP_WAIT_ADAPTIVE = 0,
    /* Nothing: no processor time is spent on waiting. While one call at a time is waited for, and at once, its worker
     * comes to the processor of the thread that waits, if that helps: it is woken there in less time. It does so in the
     * way in which it leaves that processor else, with the same exceptions. */
    PP_WAIT_SLEEP
} pp_wait_policy;

/* Whether a process is kept ready to be the next worker, so that it need not be made when one has died. It does not
 * count as a worker, has run nothing yet, the initializer neither, and is gone with the pool. */
typedef enum pp_standby {
    PP_STANDBY_AFTER_DEATH = 0, /* from the first death on */
    PP_STANDBY_ALWAYS,          /* from the first worker on */
    PP_STANDBY_NEVER
} pp_standby;

/* How the finalizer of a worker ended. Valid until the function that it is given to returns. */
typedef struct pp_finalized {
    int worker; /* its number */
    pid_t pid;
    int code;         /* 0, or the code of the error, as at pp_error_kind */
    const void *data; /* the result if code is 0, aligned to 16 bytes and followed by a NUL */
    size_t size;
    const struct pp_error *error; /* NULL if code is 0; its call_id is 0 */
} pp_finalized;

/* What a submit does when max_pending calls are pending already. */
typedef enum pp_full_rule {
    PP_FULL_WAIT = 0, /* it waits, for submit_timeout at most; who came first goes on first */
    PP_FULL_REFUSE    /* it returns -EAGAIN */
} pp_full_rule;

/* What becomes of a pool that is there when the program exits, by exit(3) or the end of main. */
typedef enum pp_exit_policy {
    PP_EXIT_WAIT = 0, /* its accepted calls end, for exit_timeout at most; then its workers are killed */
    PP_EXIT_KILL      /* its workers are killed, what has not begun is cancelled */
} pp_exit_policy;

/* Where tasks write: descriptor 1 and descriptor 2. */
typedef enum pp_stream { PP_STDOUT = 1, PP_STDERR = 2 } pp_stream;

typedef struct pp_pool_options {
    int max_workers; /* 0: pp_usable_processors(); at most 1024 */
    int min_workers; /* workers that there are at least, from the pool's making on; at most max_workers */
    pp_standby standby;
    /* Milliseconds without a call after which a worker is told to leave, unless there are min_workers; 0: none. */
    uint32_t idle_timeout;
    /* Calls, elements of maps included, after which a worker is told to leave; another is ready then; 0: none. */
    uint32_t max_tasks;
    /* Milliseconds from asking for a worker until it is ready for calls, its initializer included; then the pool
     * breaks; 0: none, but for 30000 until it has come at all; a standby that has not by then is killed, and no more.
     */
    uint32_t start_timeout;
    /* Bytes; a worker whose own memory in use has grown by more since it was ready for calls is told to leave, too; 0:
     * none. */
    size_t max_growth;
    pp_crash_rule on_crash;
    pp_wait_policy wait;

    pp_launcher *launcher; /* the pool takes its own reference; NULL: the pool makes one from the next four */
    pp_start_method start_method;
    int close_fds;
    const int *inherit_fds;
    size_t inherit_fd_count;

    pp_function *initializer; /* runs in each worker before its first call; its failure breaks the pool */
    const void *initializer_arg;
    size_t initializer_arg_size; /* copied */
    pp_function *finalizer; /* runs in each worker that is told to leave; its failure is logged and costs nothing */
    const void *finalizer_arg;
    size_t finalizer_arg_size; /* copied */
    /* Receives how each finalizer ended, its worker's death and its timeout included; after the pool has broken perhaps
     * not. Called as `log` is, in turn with it, with the same rules. */
    void (*finalized)(void *finalized_data, const pp_finalized *end);
    void *finalized_data;
    /* Milliseconds from telling a worker to leave until its finalizer has ended; then it is killed; 0: none. */
    uint32_t finalizer_timeout;

    int pin; /* 1: worker n runs only on the n-th of the processors that the thread which makes the pool may use, after
                the last from the first again */
    const int *processors; /* the same with these instead; copied */
    size_t processor_count;
    int nice;            /* added to the niceness of workers, -20 to 19; below 0 it needs a privilege */
    int library_threads; /* that OpenMP and BLAS may use in each worker; 0: as many as they like */
    /* Of workers, besides what they inherit: NULL-ended, NAME=VALUE; copied; at most 8 KiB in all. */
    const char *const *environment;
    const char *directory; /* that workers run in; NULL: the one that they inherit; copied */
    size_t stack_size;     /* of the thread that runs tasks, bytes; 0: 8 MiB; 64 KiB to 1 TiB */
    uint64_t seed;         /* for pp_task_seed; 0: a random one */

    /* Calls accepted and not begun at any time, a map's chunk as one; 0: no bound. Maps wait for no room. */
    size_t max_pending;
    pp_full_rule when_full;
    uint32_t submit_timeout;    /* ms that a submit waits for room, then -ETIMEDOUT; 0: no limit */
    pp_exit_policy exit_policy; /* see pp_pool_create */
    uint32_t exit_timeout;      /* ms; 0: no limit */

    int event_loop; /* 1: no thread is made: the program calls pp_pool_dispatch when pp_pool_fd is readable, and
                       callbacks and the log run in there */
    int backtraces; /* 1: pp_task_fail notes where it was called, for pp_error_backtrace: some microseconds for each
                       failure */
    /* PP_STDOUT, PP_STDERR or both: what calls write there is kept for pp_future_output; 0: it goes where the owner's
     * goes. */
    unsigned capture;
    /* Bytes of each stream that are kept of a call, the first ones; 0: 1 MiB; at most 1 GiB and RLIMIT_FSIZE; not
     * without capture. */
    size_t capture_limit;
    /* Receives a line, without newline, for rare events: a worker started, died or replaced, pool broken, a wake that
     * was lost and made up for (a defect of the library's: please tell). Called one line at a time by a
     * thread that the pool has for it (inline: by the thread that noticed), so that taking long delays lines alone; it
     * must not end this pool. After pp_pool_destroy it is not called any more; after pp_pool_release until the pool has
     * ended. */
    void (*log)(void *log_data, const char *line);
    void *log_data;
    uint64_t reserved[4];
} pp_pool_options;

/*
 * Makes a pool. No worker is started before there is a call for it, but min_workers. `options` may be NULL. The pool
 * outlives the thread that made it. End it with pp_pool_destroy or pp_pool_release.
 *
 * When the program exits, all pools that are left are shut, those that were released included, at the start of exit(3):
 * from then on submits and new pools are refused, in handlers and in all threads. A handler of exit(3)'s, which is
 * registered with each of the first 32 pools, then does as their exit_policy says. Futures can be waited for in all
 * handlers, and pools be destroyed. Where exit(3) is called by a thread that has never made a pool, submitted or
 * waited, and has not loaded the library (the main thread has, as a rule), or could not be watched for want of memory,
 * that handler is what shuts them: in handlers that were registered after it, which run before it, they work as ever.
 * So they do in C++ destructors of that thread's own thread_local objects, which come first. Calls of an inline pool
 * are not awaited, nor is anything by _exit(2), quick_exit(3), a signal's end or a child that the program forked. In a
 * task, exit(3) awaits the pools that this task made.
 *
 * Errors: -EINVAL (max_workers negative or above 1024, min_workers negative or above that, unknown enum value,
 * when_full or submit_timeout without max_pending or together, launcher together with options of one, stack too small
 * or too large, an initializer or finalizer that is in no loaded module, a bad pin, processors, nice, environment,
 * library_threads, capture or capture_limit, reserved word not zero), -E2BIG (environment too long), -ENOENT, -ENOTDIR,
 * -EACCES (no such directory), those of pp_launcher_create, -ENOMEM (also where RLIMIT_AS has no place for so many
 * workers), -EMFILE (also RLIMIT_NOFILE), -ENFILE, -EFBIG (RLIMIT_FSIZE is less than a side of a worker's channel,
 * about 100 KiB, or than capture_limit), -EAGAIN (no thread can be made, RLIMIT_NPROC or the pids.max of a
 * control group that its launcher was made in, and is in still, allows fewer processes, or the launcher's process does
 * not read), -ENOSYS (the kernel has no memfd_create), -EPERM (this is a forked child, or a sandbox forbids it), -EPIPE
 * (the launcher's process is gone), -ESHUTDOWN (the program exits). pp_last_error() names the limit and what to do
 * about it.
 */
PP_API int pp_pool_create(const pp_pool_options *options, pp_pool **pool);

/* How many buffers can travel with a call, and how many descriptors, and back with its result. */
#define PP_MAX_BUFFERS 16
#define PP_MAX_DESCRIPTORS 252

typedef struct pp_call {
    pp_function *function;
    const void *arg;  /* copied before the submit returns */
    size_t size;      /* bytes */
    uint32_t timeout; /* ms from the begin; then its worker is killed and the call fails with -ETIME; 0: none */
    uint32_t retries; /* how many times it may be begun again after a crash, a timeout or -EPROTO; at most 1000 */
    /* Calls of a higher one begin first, those of one in the order of their submits; -100 to 100. What has begun goes
     * on. */
    int priority;
    /* Milliseconds from the submit; one that has not begun by then never does, and fails with -ETIME; 0: none. A call
     * with one waits for a worker that has nothing to do, and is never queued behind another: where calls are short
     * that is slower. */
    uint32_t deadline;
    /* Travel with it, for pp_task_fd. Copied before the submit returns: then the caller may close its own. */
    const int *descriptors;
    size_t descriptor_count; /* at most PP_MAX_DESCRIPTORS */
    /* Travel with it, for pp_task_buffer. The call has references of its own until it has ended. */
    pp_buffer *const *buffers;
    size_t buffer_count; /* at most PP_MAX_BUFFERS, and together with the descriptors PP_MAX_DESCRIPTORS */
    uint64_t reserved[4];
} pp_call;

/*
 * Submits function(arg, size). The argument is copied. *future has one reference, the caller's; `future` may be NULL
 * when nobody wants the answer. Calls are begun in the order in which they were submitted, but for short ones that
 * travel a few at a time.
 *
 * Errors: -EINVAL (no function, arg NULL and size not 0, function in no loaded module, bad pp_call), -EBADF (one of the
 * descriptors is not open), -ENOMEM, -EMFILE or -ENFILE (no descriptor for a large argument, or for a copy of a
 * descriptor), -EFBIG (a large argument is above RLIMIT_FSIZE), -ESHUTDOWN (after shutdown or release),
 * -ENOTRECOVERABLE (pool broken; wins over -ESHUTDOWN), -EPERM. What a crash does: see pp_future_error.
 *
 * Never waits for a worker, but in a pool with max_pending: there it waits while so many calls are pending, unless that
 * pool refuses then. It wakes in the order in which threads came, and at once, with its error, when the pool is shut
 * down or breaks; in an inline pool it runs calls meanwhile. Errors of such a pool: -EAGAIN (no room, and the pool
 * refuses; or, always, in a callback of this pool, which does not wait), -ETIMEDOUT, -EINTR (nothing was submitted),
 * -EDEADLK (as pp_future_wait). Threads that submit side by side, one call after the other, take turns, but in a pool
 * of an event loop: one leaves the pool to the others for 0.6 ms, in which all together get more done.
 */
PP_API int pp_submit(pp_pool *pool, pp_function *function, const void *arg, size_t size, pp_future **future);

/* The same with everything that a call can be given. `call` is only read. */
PP_API int pp_submit_call(pp_pool *pool, const pp_call *call, pp_future **future);

/*
 * Submits `count` calls in order; futures[i] (or `futures` NULL) answers calls[i]. Returns how many were accepted,
 * always the first ones; if that is none and count is not 0, the error of pp_submit_call that the first one met, or
 * -EINVAL for more calls than any memory has room for. Each call may wait for room. After a partial success
 * pp_last_error() says why the next was refused.
 */
PP_API ssize_t pp_submit_many(pp_pool *pool, const pp_call *calls, size_t count, pp_future **futures);

/*
 * From now on the pool has at most `max_workers` workers (0: pp_usable_processors(); at most 1024; not less than
 * min_workers). More are started when there are calls for them. Those that are too many, by their numbers, get no more
 * calls, end those that they have begun and are told to leave; what was handed to them and has not begun goes to
 * others. Does not wait for that. An inline pool has nothing to change.
 *
 * Any thread. Errors: -EINVAL, -ENOMEM, -EMFILE, -EAGAIN (the last three also where a limit has no room for so many
 * more, as at pp_pool_create), -ESHUTDOWN, -ENOTRECOVERABLE, -EPERM.
 */
PP_API int pp_pool_resize(pp_pool *pool, int max_workers);

/* pp_pool_shutdown: cancel what has not begun, instead of letting it run. A call that is to be tried again is not, and
 * fails as it did. */
#define PP_CANCEL_PENDING 1u

/*
 * No more submits; waits until all accepted calls have ended and all workers are gone. With timeout 0 it only begins
 * that. May be called again, by several threads, also after -ETIMEDOUT (then everything goes on in the background).
 * Callbacks that are due have returned then. Errors: -EINVAL (unknown flag), -ETIMEDOUT, -EINTR, -EPERM, -EDEADLK (a
 * timeout other than 0 in a callback of this pool, which has changed nothing; an inline pool, from its own task). A
 * broken pool shuts down like any other and returns 0.
 */
PP_API int pp_pool_shutdown(pp_pool *pool, unsigned flags, int timeout);

/*
 * Shut down as pp_pool_shutdown with PP_CANCEL_PENDING and a timeout of 0 does, and send each worker SIGTERM, or
 * SIGKILL: what has not begun is cancelled, what runs fails with kind PP_ERROR_CRASH as its worker dies, and is not
 * tried again; a result that was there before that is a result. No pool breaks by it. A task that handles or ignores
 * SIGTERM goes on to its end, of which its future tells, and its worker then leaves; pp_pool_kill can come after that.
 * Finalizers of workers that die so do not run to their end.
 *
 * Neither waits for the deaths: pp_pool_shutdown does, and the handle is still to be given up. May be called again, by
 * several threads, also after a shutdown, on a broken pool (whose workers were killed) and in callbacks. In an inline
 * pool what runs goes on. Any thread. Errors: -EINVAL, -EPERM.
 */
PP_API int pp_pool_terminate(pp_pool *pool);
PP_API int pp_pool_kill(pp_pool *pool);

/*
 * Shuts down, waiting (not stopped by signals), and gives up the handle. Futures and maps of the pool outlive it.
 * Not from a task or a log function of this pool. In a callback of this pool it does not wait, as pp_pool_release, and
 * pp_last_error() says so.
 */
PP_API void pp_pool_destroy(pp_pool *pool);

/* Gives up the handle at once; accepted calls run to their end, then workers and pool are gone by themselves. (Inline:
 * those with a future run when it is waited for, the others do not; those that only callbacks want are cancelled.) A
 * pool of an event loop gets its threads then; where none can be made, this waits as pp_pool_destroy does, or, in a
 * callback, the pp_pool_dispatch that has called it. */
PP_API void pp_pool_release(pp_pool *pool);

/*
 * For a pool made with event_loop: the descriptor that becomes readable when pp_pool_dispatch has something to do. It
 * is the pool's, watched for reading and never read, and gone when the handle is given up; take it out of the event
 * loop before. Any thread. Errors: -EINVAL (no pool, or one that was not made for an event loop), -EPERM.
 */
PP_API int pp_pool_fd(pp_pool *pool);

/*
 * Does what there is to do, and does not sleep: takes results, sends calls on, acts on deaths and timeouts, then runs
 * callbacks that are due and hands out the log. Of a pool with PP_START_INLINE, one call is run. Returns how many calls
 * have not ended (0: none is outstanding) or a negative errno. Where nobody dispatches, a call that was sent to a
 * worker runs, and all else waits: for a dispatch, or for a thread that waits for a future, which does all of it but
 * callbacks and log, until the pool has ended. Any thread, one at a time; may be called from a callback, and then runs
 * none. Errors: -EINVAL (as above), -EBUSY (another thread is dispatching), -EPERM.
 */
PP_API int pp_pool_dispatch(pp_pool *pool);

/* ------------------------------------------------------------------------------------------ buffers */

/*
 * Makes a buffer of `size` bytes, zeroed: memory that this process fills, and that any call of any pool can take along
 * to be read in place there. What a call costs does not depend on its size: a worker maps it when it sees it first, and
 * remembers it for its next calls, the last ones that it has seen, until they are together more than a gibibyte or it
 * was not used for a second or two. The memory is there from now on. *buffer has one reference, the caller's. It takes
 * one descriptor.
 *
 * Any thread. Errors: -EINVAL (size is 0, or larger than any memory), -ENOMEM (also where RLIMIT_AS has no room),
 * -EMFILE, -ENFILE, -EFBIG (RLIMIT_FSIZE), -ENOSYS (the kernel has no memfd_create), -EPERM (a forked child).
 */
PP_API int pp_buffer_create(size_t size, pp_buffer **buffer);

/*
 * The same, but that workers can write to it as well: a map its results (out_buffer), a call what it likes
 * (pp_task_shared_buffer). What a call that failed has written stays, and a worker that goes wrong may write to any
 * byte of it. Errors as above.
 */
PP_API int pp_buffer_create_shared(size_t size, pp_buffer **buffer);

/*
 * Its bytes, aligned to a page, to be read and written until the last unref; no other process can write to them, but to
 * those of pp_buffer_create_shared. What is written before a submit is seen by the task; what is written while a call
 * that has it has not ended may be seen, or in part. NULL for NULL and in a forked child.
 */
PP_API void *pp_buffer_data(pp_buffer *buffer);

/* As at pp_buffer_create; 0 for NULL. Never fails. */
PP_API size_t pp_buffer_size(const pp_buffer *buffer);

/* Takes one more reference; returns buffer. */
PP_API pp_buffer *pp_buffer_ref(pp_buffer *buffer);

/* Gives one reference back; with the last one the buffer goes. Calls that have not ended have references of their own.
 * A worker that remembers it keeps its memory for a while. */
PP_API void pp_buffer_unref(pp_buffer *buffer);

/* ------------------------------------------------------------------------------------------ futures */

typedef enum pp_future_status {
    PP_PENDING = 0,
    PP_RUNNING,   /* a worker, or the program, has really begun it */
    PP_CANCELLED, /* and whoever was to do the work does not know it yet: only futures of pp_future_create */
    PP_CANCELLED_AND_NOTIFIED, /* and it is known */
    PP_FINISHED
} pp_future_status;

typedef enum pp_error_kind {
    PP_ERROR_NONE = 0,
    PP_ERROR_TASK,    /* -EREMOTEIO: the task failed */
    PP_ERROR_CRASH,   /* -EOWNERDEAD: its worker died while it ran, or was killed on request */
    PP_ERROR_TIMEOUT, /* -ETIME: it outlived its timeout, and its worker was killed; or (tries 0) its deadline passed */
    PP_ERROR_CANCELLED, /* -ECANCELED: it was cancelled before it began */
    PP_ERROR_BROKEN,    /* -ENOTRECOVERABLE: its pool broke */
    PP_ERROR_TRAVEL,    /* -EBADMSG: function, argument or result could not travel */
    PP_ERROR_PROTOCOL   /* -EPROTO: its worker wrote garbage into the channel and was killed */
} pp_error_kind;

/* How a call failed. Numbers that do not apply are 0 (worker, status: -1), texts "". */
typedef struct pp_error {
    pp_error_kind kind;
    int code;             /* what the future's functions return, as above */
    int task_code;        /* TASK: what the task gave; TRAVEL, BROKEN: the errno behind it, if any */
    int worker;           /* number of the worker */
    const char *message;  /* one line */
    const char *function; /* the task function's name, or module+offset */
    uint64_t call_id;
    pid_t pid;                      /* the worker's process */
    int signal;                     /* CRASH: the signal that ended it */
    int status;                     /* CRASH: its exit status */
    int out_of_memory;              /* CRASH: 1 if, by all that can be seen, the kernel killed it as memory ran out */
    const void *address;            /* CRASH by a fault: what was accessed, or the instruction; else NULL */
    struct pp_backtrace *backtrace; /* for pp_error_backtrace; NULL: there is none */
    uint32_t tries;                 /* how often it was begun */
    uint64_t run_time;              /* nanoseconds from begin to end */
    const struct pp_error *earlier; /* the try before, if it was tried again; else NULL */
} pp_error;

/*
 * Where the call failed, in words: of a crash by SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP or SIGSYS, and of a
 * pp_task_fail in a pool with `backtraces`; "" of all others. A line for each frame, innermost first, each ending in a
 * newline, up to the task function:
 *
 *     #0 decode at /src/codec.c:87 (codec.so+0x11e0)
 *
 * What is not known is left out: lines where there is no debug information (or no libdw), names where a file was
 * stripped or replaced.
 *
 * The text is made when it is first asked for, from the files of the modules, which takes milliseconds, or as long as
 * their debug information is large; the calling thread alone waits. It is valid as long as the error, of which `error`
 * may be a copy. Any thread. Never fails: without memory it is
 * "", and may be asked for again. A child that the owner forked sees what was made before. The worker says which files
 * are read, by libdw and in the owner: don't ask for the backtrace of a worker that could misuse an error of libdw's.
 */
PP_API const char *pp_error_backtrace(const pp_error *error);

/* Takes one more reference; returns future. */
PP_API pp_future *pp_future_ref(pp_future *future);

/*
 * Gives one reference back; with the last one the result is freed. The call is not cancelled by that. Futures may
 * outlive their pool.
 */
PP_API void pp_future_unref(pp_future *future);

/*
 * Waits until the future is done (finished or cancelled); waiting consumes nothing. Errors: -ETIMEDOUT, -EINTR,
 * -EINVAL, -EPERM, -EDEADLK (an inline pool's task waits for a call that only its own caller could run).
 */
PP_API int pp_future_wait(pp_future *future, int timeout);

/*
 * Waits, then copies the result. With `size` NULL the result must have exactly `capacity` bytes; else up to `capacity`
 * are copied and *size is the result's size. May be called again.
 *
 * Errors: those of pp_future_wait, the codes listed at pp_error_kind, -EMSGSIZE (the result does not fit or differs in
 * size; *size is written then too, and nothing else), -ENODATA (it was taken), -EINVAL (buffer NULL and capacity not
 * 0).
 */
PP_API int pp_future_result(pp_future *future, int timeout, void *buffer, size_t capacity, size_t *size);

/* Waits, then shows the result in place, aligned to 16 bytes and followed by a NUL, read-only, valid until the last
 * unref or pp_future_take, and not in a forked child. Errors as pp_future_result, without -EMSGSIZE. */
PP_API int pp_future_view(pp_future *future, int timeout, const void **data, size_t *size);

/* Waits, then moves the result out: *data is the caller's, to be freed with pp_free. A result can be taken once; then
 * -ENODATA. Errors as pp_future_view, and -ENOMEM. */
PP_API int pp_future_take(pp_future *future, int timeout, void **data, size_t *size);

/* What a call wrote to one stream. */
typedef struct pp_output {
    const char *data; /* aligned to 16 bytes and followed by a NUL */
    size_t size;      /* bytes */
    size_t dropped;   /* bytes behind them that were beyond capture_limit */
} pp_output;

/*
 * Waits, then shows what the call wrote to `stream` (in its last try, if it was tried again), valid until the last
 * unref: all that went to descriptor 1 or 2 while it ran, by stdio, write(2) or processes that it made, whether it
 * succeeded, failed, crashed, was killed or ran out of its time. Of a call that never began it is nothing. What a call
 * leaves in a stdio buffer is written out when it ends; if its worker dies, that is lost: standard output has a buffer
 * of a line there. What is beyond capture_limit takes memory only for some moments. What processes and threads that it
 * made write after its end is nobody's, or a later call's of that worker. Output outside calls (initializer, finalizer)
 * goes where the owner's goes.
 *
 * Any thread. Errors: -ETIMEDOUT, -EINTR, -EDEADLK (as pp_future_wait); -ENOTSUP (its pool does not capture that
 * stream, is inline, or the program completes it), -ENOMEM (there was no memory to keep it), -EINVAL, -EPERM.
 */
PP_API int pp_future_output(pp_future *future, int timeout, pp_stream stream, pp_output *output);

/*
 * Waits, then moves the `index`th descriptor out that came back with the result: it is returned, close-on-exec, and the
 * caller's to close. Each can be taken once; those that nobody has taken are closed with the last unref. What
 * pp_future_take has moved out does not matter.
 *
 * Errors: those of pp_future_wait, the codes listed at pp_error_kind, -EINVAL (no such descriptor), -ENODATA (it was
 * taken). A result whose descriptors could not be received in full, as the owner had no numbers left (RLIMIT_NOFILE),
 * is a failure of its call, of kind PP_ERROR_TRAVEL with -EMFILE.
 */
PP_API int pp_future_take_fd(pp_future *future, int timeout, size_t index);

/* Waits, then tells how many came back, taken or not. Errors: those of pp_future_wait, and the codes listed at
 * pp_error_kind. */
PP_API int pp_future_fd_count(pp_future *future, int timeout);

/* Frees what pp_future_take gave. NULL is allowed; works in a forked child too. */
PP_API void pp_free(void *data);

/*
 * Waits, then tells how the call failed: *error points to its error, valid until the last unref, or is NULL if it
 * succeeded. Errors: those of pp_future_wait.
 */
PP_API int pp_future_error(pp_future *future, int timeout, const pp_error **error);

/*
 * Cancels the call if no worker has begun it. 0: it will never run (also if cancelled before); -EBUSY: it has begun,
 * also if it waits to be tried again; -EALREADY: it has ended; -EINVAL, -EPERM. Who waits for it is woken.
 */
PP_API int pp_future_cancel(pp_future *future);

/*
 * Ends the call, whatever it does. One that no worker has begun is cancelled, as by pp_future_cancel. One that runs
 * fails with kind PP_ERROR_CRASH and a message that says so, its worker is killed with all processes that it made (of
 * one that a command or a starter started and that is not the launcher's own child: alone), and another one starts; it
 * is not tried again, and the pool does not break by it (PP_BREAK_POOL). One that waits to be tried again is not, and
 * ends with the error of its last try. No other call is touched: if it has ended before the kill it keeps its result,
 * and what its worker runs then goes on.
 *
 * Does not wait for the death: the future is done soon after. Returns 0 (also when it is being killed already, or was
 * cancelled before). Errors: -EALREADY (it has ended), -ENOTSUP (it runs in this process: an inline pool's, or one that
 * the program completes), -EINVAL, -EPERM. Any thread.
 */
PP_API int pp_future_kill(pp_future *future);

/*
 * Asks the call to stop by itself. One that no worker has begun is cancelled, as by pp_future_cancel. One that runs
 * sees it by pp_task_cancelled and ends as it likes, or does not look and goes on; it is not tried again, whatever
 * happens to its worker. One that waits to be tried again is not, and ends with the error of its last try. Does not
 * wait. May be called again.
 *
 * Returns 0, or -EALREADY (it has ended), -ENOTSUP (the program completes it, and has begun), -EINVAL, -EPERM. Any
 * thread.
 */
PP_API int pp_future_request_stop(pp_future *future);

/*
 * The last value that the call's task has told by pp_task_progress, in this try; 0 before the first, and before it has
 * begun. Never blocks. Returns 0, or -EALREADY (it has ended, and *progress is not written), -EINVAL, -EPERM. Any
 * thread.
 */
PP_API int pp_future_progress(pp_future *future, uint64_t *progress);

/* A pp_future_status (0 or greater), or -EINVAL, -EPERM. Never blocks. */
PP_API int pp_future_state(pp_future *future);

/* The call's id, as pp_task_id; 0 for NULL. */
PP_API uint64_t pp_future_id(const pp_future *future);

typedef void pp_callback(pp_future *future, void *context);

/*
 * Calls callback(future, context) once when the future is done: on a thread that all callbacks of the pool share, named
 * pp-callbacks, in the order in which they were added, those of different futures in the order in which these were
 * done. If it is done already and all earlier ones have returned, the callback is called here: what other functions
 * refuse in a callback (-EDEADLK, -EAGAIN) they do not refuse in that one, unless this is called in one itself.
 * (Inline: by a thread that uses the pool. A pool of an event loop: in pp_pool_dispatch, and when it has ended by
 * whichever thread uses it or a future of it next. What the program completes itself when a pool has ended: by who does
 * so.) The callback has the future for as long as it runs.
 *
 * A callback may use everything of the library, wait, add callbacks and give references up; one that takes long delays
 * other callbacks and nothing else (but in a pool of an event loop pp_pool_dispatch, and so all that it does). Only the
 * end of its own pool it can't wait for: see pp_pool_shutdown. It must return. What happens to a worker does not
 * matter: a future is done in any case, and its callbacks run.
 *
 * Any thread. Errors: -EINVAL, -ENOMEM, -EAGAIN (no thread can be made), -EPERM.
 */
PP_API int pp_future_add_callback(pp_future *future, pp_callback *callback, void *context);

/*
 * Makes a future that the program completes itself, with the functions below; waiting, callbacks and cancelling are as
 * with all others of `pool`. It has one reference, the caller's, and a pending one lives as long as it has some: no
 * pool waits for it, and it may be made and completed after the pool's end. (With callbacks it lives until it is done.)
 *
 * Any thread. Errors of all: -EINVAL (NULL arguments, the future of a submitted call, or one in a state that does not
 * allow it, which pp_last_error() names), -ENOMEM, -EPERM.
 */
PP_API int pp_future_create(pp_pool *pool, pp_future **future);

/* Pending: it is running now, 1. Cancelled: whoever was to do the work knows now, 0. Errors: as above. */
PP_API int pp_future_set_running_or_notify_cancel(pp_future *future);

/* Pending or running: it is finished with a copy of `size` bytes at `data`, 0. Errors: as above. */
PP_API int pp_future_set_result(pp_future *future, const void *data, size_t size);

/* Pending or running: it has failed, as if a task had with `code` (not 0) and `message` (copied; may be NULL), 0.
 * Errors: as above. */
PP_API int pp_future_set_error(pp_future *future, int code, const char *message);

/* ------------------------------------------------------------------------------------- many futures */

typedef enum pp_when {
    PP_ALL_COMPLETED = 0,
    PP_FIRST_COMPLETED,
    PP_FIRST_FAILED /* one has ended with an error; a cancelled one has not. Else as PP_ALL_COMPLETED */
} pp_when;

/*
 * Waits until as many of `count` futures, of one pool or of several, are done as `when` says; of none it waits for
 * nothing. Returns how many entries are done, each of a future that stands there more than once. done[i] (`done` may be
 * NULL) is then 1 if futures[i] is done, else 0; it is written with -ETIMEDOUT and -EINTR too. The futures stay the
 * caller's, waiting consumes nothing. Each call looks at all of them, and takes memory for each if it has to wait: who
 * waits for the first of many, time and again, takes out all that are done each time, or uses pp_as_completed.
 *
 * Any thread. Errors: -ETIMEDOUT, -EINTR, -EINVAL (no futures, a NULL among them, more than any memory has room for, no
 * such condition), -ENOMEM, -EPERM, -EDEADLK (as at pp_future_wait).
 */
PP_API ssize_t pp_wait(pp_future *const *futures, size_t count, pp_when when, int timeout, unsigned char *done);

/*
 * The futures as they become done, those that are done already first; one that stands there more than once comes once.
 * The array is only read, and not needed any more after the return; each future is kept until it was given out.
 * *completed is the caller's, for one thread at a time.
 *
 * Errors: -EINVAL, -ENOMEM, -EPERM as at pp_wait.
 */
PP_API int pp_as_completed(pp_future *const *futures, size_t count, pp_completed **completed);

/*
 * Waits for the next one: 1, and *future is it, with its place in the array in *index (may be NULL). It comes without a
 * reference: it is there until the next step or the close, or as long as the caller has one of its own. 0: all were
 * given out. After -ETIMEDOUT or -EINTR nothing is lost, and it can be called again. The cost of a step does not grow
 * with the number of futures.
 *
 * Errors: -ETIMEDOUT, -EINTR, -EINVAL (NULL arguments), -EPERM, -EDEADLK (as at pp_future_wait).
 */
PP_API int pp_completed_next(pp_completed *completed, int timeout, pp_future **future, size_t *index);

/* Forgets those that were not given out; they go on. NULL is allowed; does nothing in a child that the owner forked. */
PP_API void pp_completed_close(pp_completed *completed);

/* ---------------------------------------------------------------------------------------------- map */

typedef struct pp_map_input {
    const void *data; /* copied before the source is asked again */
    size_t size;      /* bytes */
    void *tag;        /* comes back with the result */
} pp_map_input;

/*
 * The source of a map's inputs: fills *input (zeroed before) and returns 1; returns 0 at the end, and is not asked
 * again; -EAGAIN: none now, ask at the next step; another negative errno ends the input too, and pp_map_next returns it
 * after the results. Called only inside pp_map_next, by the thread that is in it, without any lock.
 */
typedef int pp_map_source(void *context, pp_map_input *input);

typedef struct pp_map_options {
    /* Inputs that travel together, at most 65536. 0: found by measuring: those of calls that take long travel alone,
     * those of short ones as many together as take a quarter of a millisecond, at most 1024. Of a chunk's elements
     * those that last less than a quarter of a microsecond on average are begun up to 16 at a time. */
    size_t chunk_size;
    /* Inputs pulled and not yet given out; 0: four chunks per worker, with an in_buffer 32; at least one chunk is
     * always pulled. */
    size_t max_in_flight;
    int unordered;    /* 1: results as they come; 0: in the order of the inputs */
    int fail_fast;    /* 1: after the first failed element given out: no more, what has not begun is cancelled */
    uint32_t timeout; /* of each element, as pp_call's */
    uint32_t retries; /* of each element, as pp_call's */
    /* Milliseconds from opening, of the whole map; 0: none. Then it ends: what has not begun is cancelled, what runs is
     * not given out. */
    uint32_t total_timeout;
    /* Where an array's elements lie in this buffer (else -EINVAL), workers read them in place, and none is copied but
     * those of up to 256 bytes, by their worker. A larger one is aligned as it lies there, and no NUL follows. NULL:
     * elsewhere. A pool that captures output copies all the same, and so does an inline one. */
    pp_buffer *in_buffer;
    /* pp_map_array: where the outputs lie in this buffer, one of pp_buffer_create_shared (else -EINVAL), workers write
     * results there themselves; what holds for that memory is said there. NULL: elsewhere. */
    pp_buffer *out_buffer;
    uint64_t reserved[2];
} pp_map_options;

typedef struct pp_map_result {
    uint64_t index; /* of the input, from 0 */
    void *tag;
    const void *input; /* the input's bytes */
    size_t input_size;
    int code;         /* 0, or the code of the error, as at pp_error_kind */
    const void *data; /* the result if code is 0, aligned to 16 bytes and followed by a NUL */
    size_t size;
    const pp_error *error; /* NULL if code is 0 */
} pp_map_result;

/*
 * Maps function over inputs that `source` gives. Inputs are pulled as results are taken, so memory is bounded. A chunk
 * is no unit of failure: a crash, hang or error costs the one element that ran. One thread at a time may use a map.
 * `options` may be NULL. Errors: -EINVAL, -ENOMEM, -ESHUTDOWN, -ENOTRECOVERABLE, -EPERM.
 */
PP_API int pp_map_open(pp_pool *pool, pp_function *function, pp_map_source *source, void *context,
                       const pp_map_options *options, pp_map **map);

/*
 * The same over an array of `count` elements of `size` bytes, which must stay until the map is closed. Tags are NULL.
 * -EINVAL as well: the array would be larger than any memory (PTRDIFF_MAX bytes; of elements of no bytes as many).
 */
PP_API int pp_map_open_array(pp_pool *pool, pp_function *function, const void *elements, size_t count, size_t size,
                             const pp_map_options *options, pp_map **map);

/*
 * The next result: 1 and *result, whose pointers are valid until the next call on this map; 0 after the last. A failed
 * element is a result as well. Errors: -ETIMEDOUT, -EINTR; -EAGAIN (the source has none now and nothing is in flight);
 * what the source returned, once, after all results; -ETIME, once, when total_timeout is over and what was there has
 * been given out; -ESHUTDOWN or -ENOTRECOVERABLE, once, when the pool refuses further inputs, after all results of
 * those pulled before (what was pulled and not sent yet when the pool was shut is cancelled, even if the rest runs);
 * -ENOMEM, -EMFILE, -ENFILE (nothing lost, can be called again); -EDEADLK as pp_future_wait; -EINVAL, -EPERM.
 */
PP_API int pp_map_next(pp_map *map, int timeout, pp_map_result *result);

/*
 * What the element wrote whose result the last pp_map_next has given out, as pp_future_output; valid until the next
 * call on this map. In a pool that captures, elements travel one by one, whatever chunk_size says. Errors: -EINVAL (no
 * result was given out, or the arguments), -ENOTSUP, -ENOMEM, -EPERM.
 */
PP_API int pp_map_output(pp_map *map, pp_stream stream, pp_output *output);

/* Ends the map, early too: what has not begun is cancelled, what runs is not waited for. */
PP_API void pp_map_close(pp_map *map);

/*
 * A parallel loop: outputs[i] = function(inputs[i]) for `count` elements of in_size and out_size bytes. A result of
 * another size is a failure of its element; outputs of failed elements stay as they are. While the loop runs they may
 * be written to with the bytes that they have, so they are this function's until it returns. Returns how many elements
 * failed, or a negative errno: -EINVAL (also where inputs or outputs would be larger than any memory), -EINTR, -ENOMEM,
 * -EMFILE, -ENFILE, -ETIME (total_timeout is over), -ESHUTDOWN, -ENOTRECOVERABLE, -EPERM. After failures
 * pp_last_error() tells of the one with the lowest index. With fail_fast, elements that never ran count as failed.
 * After an error, also after -EINTR, the loop is over: what was in flight is dropped, and if it is called again all
 * elements run again.
 *
 * With an out_buffer, inputs and outputs may not overlap (-EINVAL), and the output of an element that failed may have
 * been written to in part. After an error, with fail_fast, and where the pool broke, elements that still run may write
 * theirs after the return: the outputs' memory stays, but is to be used for nothing else before no call of the pool is
 * outstanding, or the pool is gone.
 */
PP_API ssize_t pp_map_array(pp_pool *pool, pp_function *function, const void *inputs, size_t count, size_t in_size,
                            void *outputs, size_t out_size, const pp_map_options *options);

/* ---------------------------------------------------------------------------------------- processes */

/* A process that runs one function: started by a launcher as workers are, with all that they are promised, and without
 * a pool. */
typedef struct pp_process pp_process;

/*
 * What such a process runs: any function of any loaded module. `arg` is its own copy of the argument, aligned to 16
 * bytes, followed by a NUL byte that `size` does not count, and may be written. What it returns (its low 8 bits), or
 * gives to exit(3), is the exit status; what it wrote to stdout and stderr is flushed then.
 */
typedef int pp_process_function(void *arg, size_t size);

typedef struct pp_process_options {
    const char *name; /* at most 63 bytes, of which ps shows 15; copied; NULL: "Process-1", and so on */
    /*
     * What becomes of it when the program ends. 0: by exit(3) or the end of main it is awaited; an owner that is
     * killed, calls _exit or becomes another program it outlives (but the kernel sends SIGHUP to one that is stopped
     * then). 1: it is killed, however the owner ends, and may start no processes itself.
     */
    int daemon;
    pp_launcher *launcher; /* one without a starter; the process takes its own reference; NULL: it gets one of its own
                              from the next four */
    pp_start_method start_method;
    int close_fds;
    const int *inherit_fds;
    size_t inherit_fd_count;
    size_t stack_size;      /* of the thread that runs the function, bytes; 0: 8 MiB; 64 KiB to 1 TiB */
    uint32_t start_timeout; /* ms until it has begun; 0: 30000 */
    uint64_t reserved[4];
} pp_process_options;

/*
 * Starts a process that runs function(arg, size), and waits until it has begun. The argument is copied. `options` may
 * be NULL. *process has one reference, the caller's. It does not outlive its last reference. A signal's handler does
 * not end the waiting.
 *
 * One that is no daemon is the one exception to "no orphan": it goes on when its owner, or the launcher's process, or
 * both are killed, until its function returns, and who adopts orphans reaps it. One that was started in a worker of a
 * pool, or in a process that came from there, ends with its owner all the same. In a daemon this, pp_launcher_create
 * and pp_pool_create fail with -EPERM, but for PP_START_INLINE.
 *
 * When the program exits, processes that are no daemons are awaited after the daemons were killed, by a handler of
 * exit(3)'s as pp_pool_create tells.
 *
 * Any thread. Errors: -EINVAL (no function, or one in no loaded module, arg NULL and size not 0, name too long, stack
 * too small or too large, launcher together with options of one, a reserved word that is not zero, and as
 * pp_launcher_create), -ENOTSUP (PP_START_INLINE, or a launcher with a starter), -ETIMEDOUT (it has not begun in
 * start_timeout; it is killed), -ENOEXEC (what a launcher's command started ended before, in another way than with
 * status 0), -EAGAIN, -ENOMEM, -EMFILE, -ENFILE, -EFBIG (the argument is above RLIMIT_FSIZE), -EPIPE (the launcher's
 * process is gone), -ESHUTDOWN (the program exits), -EPERM (in a daemon, or a forked child), and those of
 * pp_launcher_create.
 */
PP_API int pp_process_start(pp_process_function *function, const void *arg, size_t size,
                            const pp_process_options *options, pp_process **process);

/* Takes one more reference; returns process. */
PP_API pp_process *pp_process_ref(pp_process *process);

/* Gives one reference back; with the last one the process is killed if it still runs, a daemon or not, and is not
 * waited for. */
PP_API void pp_process_unref(pp_process *process);

/* Gives one reference back if the process has ended: 0, or -EBUSY: it has not, and the reference stays; -EINVAL,
 * -EPERM. */
PP_API int pp_process_close(pp_process *process);

/* Its process id, which stays the same after its end and may be another's then. -EINVAL, -EPERM. */
PP_API pid_t pp_process_pid(const pp_process *process);

/* Its name, valid as long as the process. "" for NULL. Never fails. */
PP_API const char *pp_process_name(const pp_process *process);

/* 1: it runs; 0: it has ended; -EINVAL, -EPERM. Never blocks. */
PP_API int pp_process_is_alive(pp_process *process);

/* Waits until it has ended; may be called again, and by several threads. 0, or -ETIMEDOUT, -EINTR, -EINVAL, -EPERM. */
PP_API int pp_process_join(pp_process *process, int timeout);

/*
 * How it ended: *code is its exit status, 0 to 255, or the negative number of the signal that ended it. The launcher's
 * process tells it, a moment after the end: for that this waits. Errors: -EBUSY (it has not ended, or how it did was
 * not told for 10 s), -ENODATA (nobody has seen how: the launcher's process had died before, or it was the child of
 * another process), -ENOMEM (it can't be read now how; the call may be made again), -EINVAL, -EPERM.
 */
PP_API int pp_process_exit_code(pp_process *process, int *code);

/*
 * The same with all that is known, as pp_future_error has it of calls; texts are valid as long as the process. kind is
 * PP_ERROR_NONE if its status was 0, PP_ERROR_TRAVEL if it did not find the function or had no memory to begin, else
 * PP_ERROR_CRASH, with signal, status (-1: unknown, or a signal), out_of_memory, and what pp_error_backtrace and
 * address tell of a crash. call_id is 0 and worker -1. Errors: -EBUSY, -ENOMEM, -EINVAL, -EPERM.
 */
PP_API int pp_process_error(pp_process *process, pp_error *error);

/*
 * Send it SIGTERM, or SIGKILL, and do not wait for its end. A process that has ended, and so any other that has its
 * number by now, gets nothing. 0, -EAGAIN (the launcher's process does not read), -EINVAL, -EPERM. What a kill leaves
 * of children in its process group is killed too, by the launcher's process, if it is there.
 */
PP_API int pp_process_terminate(pp_process *process);
PP_API int pp_process_kill(pp_process *process);

/*
 * The sentinel: a pidfd of the process, for any event loop: readable (poll's POLLIN) from its end on, and neither
 * pp_process_is_alive nor pp_process_join thinks otherwise. pidfd_send_signal(2) takes it; waitid(2) does not, for it
 * is not the owner's child. It is the library's, not to be closed, and gone with the last reference. Where there are no
 * pidfds (on valgrind) it is a socket that hangs up then. -EINVAL, -EPERM.
 */
PP_API int pp_process_fd(const pp_process *process);

/* The name of the process that calls it, if pp_process_start has started it, valid as long as that; else "". Any
 * thread. Never fails. */
PP_API const char *pp_process_current_name(void);

/* ------------------------------------------------------------------------------------------- select */

typedef enum pp_select_kind {
    PP_SELECT_FUTURE = 1, /* ready: it is done */
    PP_SELECT_QUEUE,   /* ready: a get would not wait: there is a message, or the queue is closed and all was taken */
    PP_SELECT_PROCESS, /* ready: it has ended */
    PP_SELECT_FD       /* ready: one of its events is there, or an error or a hangup */
} pp_select_kind;

/* One of several things to wait for; zeroed before it is filled. */
typedef struct pp_selectable {
    pp_select_kind kind; /* and so which of the four is given; all stay the caller's */
    pp_future *future;
    struct pp_queue *queue;
    pp_process *process;
    int fd;
    int events; /* of a descriptor, as poll(2) has them; 0: POLLIN */
    int ready;  /* written: 0, or that it is ready: 1, of a descriptor the events that are there, as poll's revents */
} pp_selectable;

/*
 * Waits until at least one of `count` things is ready, futures of several pools, queues, processes and descriptors, and
 * returns how many are, all of which are marked; 0 if count is 0. Nothing is taken or read by that: a message that made
 * a queue ready may be another's by the time of the get. Calls of inline pools run in it, and where futures are of
 * pools with event_loop, it does what their loop would.
 *
 * While it waits there is a thread for each queue. Any thread; in a child that the owner forked for queues and
 * descriptors only. A thing may be in several items. Errors: -ETIMEDOUT, -EINTR, -EINVAL (no items, more than any
 * memory has room for, an unknown kind, nothing of that kind given, events that are negative or more than a short
 * holds, or more descriptors than RLIMIT_NOFILE, lowered since, allows), -EBADF (a descriptor is not open), -EDEADLK
 * (nothing but what only the calling thread could do, as pp_future_wait), -EAGAIN (no thread can be made), -EPROTO (a
 * queue's memory was overwritten), -ENOMEM, -EMFILE, -ENFILE, -EPERM.
 */
PP_API ssize_t pp_select(pp_selectable *items, size_t count, int timeout);

/* ---------------------------------------------------------------------------------- scope's end (C) */

PP_API void pp_cleanup_pool(pp_pool **pool);       /* pp_pool_destroy */
PP_API void pp_cleanup_future(pp_future **future); /* pp_future_unref */

#if defined(__GNUC__)
/* `PP_CLEANUP_POOL pp_pool *pool = NULL;`: destroyed where its scope ends. */
#define PP_CLEANUP_POOL __attribute__((cleanup(pp_cleanup_pool)))
#define PP_CLEANUP_FUTURE __attribute__((cleanup(pp_cleanup_future)))
#endif

/* ------------------------------------------------------------------------ objects of many processes */

/*
 * Lock, value, semaphore, event, queue and dictionary belong to as many processes as have them. An object lies in
 * shared memory without a name: it is gone when the last process that had it is, however that ended.
 *
 * Ways into another process:
 *   - a child that the program forks, workers under PP_START_FORK included, has all that there was before the fork, and
 * uses the same handles. (These functions are the exception: they work in such a child.)
 *   - pp_..._fd is the object's descriptor; whoever gets it, through inherit_fds, a socket or an exec, calls
 * pp_..._open with it.
 *
 * Rules for all:
 *   - pp_..._create and pp_..._open: *object has one reference, the caller's. -EINVAL: no place for it; -ENOMEM,
 * -EMFILE, -ENFILE, -EFBIG (RLIMIT_FSIZE), -ENOSYS or -EPERM (no memfd_create). pp_..._open besides: -EBADF (fd is not
 * open), -EINVAL (fd is no such object, or another build's of the library). `fd` stays the caller's.
 *   - pp_..._fd: the handle's own descriptor, close-on-exec, there until the last unref; not to be closed. -EBADF: it
 * has been closed, as in a worker that was forked with close_fds; the handle works on. -EINVAL.
 *   - pp_..._ref takes one more reference of this process and returns the handle; pp_..._unref gives one back, with the
 * last one the process no longer has the object. NULL is accepted.
 *   - Any process and any thread may call them, but not signal handlers. Waits end early with -EINTR as everywhere.
 * -EINVAL: NULL.
 *   - An exec is the end of all threads but not of the process: its locks and values are released as by a death, and
 * what it holds of a semaphore is free, and what it has not done of a joinable queue is done. For the last two images
 * are told apart by where their stacks begin: where addresses are not randomised (under gdb, setarch -R), one of the
 * same program with the same arguments is taken for the one before.
 *   - No death of a participant, at any instruction, blocks others: who sleeps looks again each 50 ms in any case. One
 * that is stopped (SIGSTOP) inside a function can hold up the others until it goes on or is killed; they time out then,
 * but up to a second late.
 *   - All processes must be in one PID namespace, and trust each other: one that writes garbage into an object breaks
 * it for all. -EPROTO: that was seen. A lock's word that names a thread which there is not is seen within some seconds.
 */
typedef struct pp_lock pp_lock;
typedef struct pp_value pp_value;
typedef struct pp_semaphore pp_semaphore;
typedef struct pp_event pp_event;

/* A lock that one thread of all processes holds at a time. Errors: as above. */
PP_API int pp_lock_create(pp_lock **lock);
PP_API int pp_lock_open(int fd, pp_lock **lock);
PP_API int pp_lock_fd(const pp_lock *lock);
PP_API pp_lock *pp_lock_ref(pp_lock *lock);
PP_API void pp_lock_unref(pp_lock *lock);

/*
 * Takes the lock. 0: the calling thread holds it. -EOWNERDEAD: it holds it as well, and the last holder (thread or
 * process) ended without releasing it, so what the lock protects may be half changed; that is told once. Waiting
 * processes see such an end within 50 ms.
 *
 * Else the thread does not hold it: -ETIMEDOUT, -EINTR, -EDEADLK (it holds it already), -EINVAL (also of garbage),
 * -EPROTO (said to be held by a thread that there is not). When a thread ends, the kernel sees to the 2048 locks and
 * values that it took last; those which it held besides are -EPROTO. A held lock keeps its handle, whatever is
 * unreferenced.
 */
PP_API int pp_lock_acquire(pp_lock *lock, int timeout);

/*
 * Gives it back, through the handle by which it was taken. 0, or -EPERM: the calling thread does not hold it (a child
 * does not hold what its parent did at the fork), or took it through another handle of the same lock; -EINVAL.
 */
PP_API int pp_lock_release(pp_lock *lock);

/*
 * `size` bytes of shared memory with a lock. `initial` is copied; NULL: zeros. Errors: as above, and -EINVAL (size is
 * 0). The memory is allocated at once.
 */
PP_API int pp_value_create(const void *initial, size_t size, pp_value **value);
PP_API int pp_value_open(int fd, pp_value **value);
PP_API int pp_value_fd(const pp_value *value);
PP_API pp_value *pp_value_ref(pp_value *value);
PP_API void pp_value_unref(pp_value *value);

/* The value's lock, as pp_lock_acquire and pp_lock_release. Nothing but custom keeps others from the memory meanwhile.
 */
PP_API int pp_value_acquire(pp_value *value, int timeout);
PP_API int pp_value_release(pp_value *value);

/* The memory, aligned to 64 bytes, at another address in each process; valid until the last unref here. NULL for NULL.
 * Never fails. */
PP_API void *pp_value_data(const pp_value *value);

/* Its size in bytes; 0 for NULL. Never fails. */
PP_API size_t pp_value_size(const pp_value *value);

/*
 * A semaphore of `units` units, 1 to 65536, of which processes hold some; all free at first. What a process held when
 * it ended, or became another program, is free again. At most 1024 processes hold units at a time, others wait. Errors:
 * as above, and -EINVAL (units out of range).
 */
PP_API int pp_semaphore_create(int units, pp_semaphore **semaphore);
PP_API int pp_semaphore_open(int fd, pp_semaphore **semaphore);
PP_API int pp_semaphore_fd(const pp_semaphore *semaphore);
PP_API pp_semaphore *pp_semaphore_ref(pp_semaphore *semaphore);
PP_API void pp_semaphore_unref(pp_semaphore *semaphore);

/*
 * Takes one unit for the calling process; each of its threads may give it back. Whether holders have died is looked at
 * when there is no unit, and then about each 50 ms. Errors of all three: -EINVAL, -EPROTO (the semaphore's memory was
 * overwritten), -EDEADLK (a signal handler in a thread that is in such a function), and of this one -ETIMEDOUT, -EINTR.
 */
PP_API int pp_semaphore_acquire(pp_semaphore *semaphore, int timeout);

/* Gives one back. 0, or -EPERM: the calling process holds none (a child holds nothing of what its parent does); or as
 * above. */
PP_API int pp_semaphore_release(pp_semaphore *semaphore);

/* How many are free now, those of dead holders included; or an error as above. */
PP_API int pp_semaphore_value(pp_semaphore *semaphore);

/* A flag to wait for; not set at first. No death leaves anything behind. Errors: as above. */
PP_API int pp_event_create(pp_event **event);
PP_API int pp_event_open(int fd, pp_event **event);
PP_API int pp_event_fd(const pp_event *event);
PP_API pp_event *pp_event_ref(pp_event *event);
PP_API void pp_event_unref(pp_event *event);

/* Sets it and wakes all who wait: what was written before is seen by them. / Clears it. Never block. 0, or -EINVAL. */
PP_API int pp_event_set(pp_event *event);
PP_API int pp_event_clear(pp_event *event);

/* 1: it is set; 0: it is not; -EINVAL. Never blocks. */
PP_API int pp_event_is_set(const pp_event *event);

/* Waits until it is set, also if it is cleared again right then. Errors: -ETIMEDOUT, -EINTR, -EINVAL. */
PP_API int pp_event_wait(pp_event *event, int timeout);

/*
 * A queue of messages of many processes: first in, first out, any number of producers and consumers. It is an object
 * like those above, with the same ways into other processes and the same rules. A process that is killed at any step of
 * a put or a get loses at most the one message that it was putting or had taken; no message is ever delivered twice,
 * the queue works on, and nobody hangs.
 */
typedef struct pp_queue pp_queue;

typedef struct pp_queue_options {
    size_t max_items; /* messages that are in it at a time, at most 16777216; 0: 1024 */
    /* Of all messages in it together, and so of one; 0: 1 MiB. It is allocated at once, with 16 bytes for each of
     * max_items. */
    size_t max_bytes;
    int joinable; /* 1: for pp_queue_task_done and pp_queue_join */
    uint64_t reserved[4];
} pp_queue_options;

/* `options` may be NULL. Errors: as of all objects, and -EINVAL (bad options). */
PP_API int pp_queue_create(const pp_queue_options *options, pp_queue **queue);
PP_API int pp_queue_open(int fd, pp_queue **queue);
PP_API int pp_queue_fd(const pp_queue *queue);
PP_API pp_queue *pp_queue_ref(pp_queue *queue);
PP_API void pp_queue_unref(pp_queue *queue);

/*
 * Puts a copy of `size` bytes at `data` (0: an empty message; `data` may be NULL then), waiting for room. A large
 * message may wait longer than small ones that come later. Any process and thread. Errors: -ETIMEDOUT, -EINTR,
 * -EMSGSIZE (more than max_bytes), -EPIPE (closed), -EINVAL, -EPROTO (the queue's memory was overwritten), -EDEADLK (a
 * signal handler in a thread that is in such a function; so of all that follow). If the process is killed in it, the
 * message is in the queue whole, or not at all.
 */
PP_API int pp_queue_put(pp_queue *queue, const void *data, size_t size, int timeout);

/*
 * Takes the oldest message, waiting for one. With `size` NULL it must have exactly `capacity` bytes; else up to
 * `capacity` are copied to `buffer` and *size is its size. -EMSGSIZE: it does not fit or differs in size; it stays in
 * the queue, *size is written then too.
 *
 * Errors: -ETIMEDOUT, -EINTR, -EMSGSIZE, -EPIPE (closed, and all was taken), -EUSERS (joinable: 1024 processes have
 * messages that are not done), -EINVAL, -EPROTO, -EDEADLK. If the process is killed in it, the message is in the queue
 * still, or gone with the process.
 */
PP_API int pp_queue_get(pp_queue *queue, int timeout, void *buffer, size_t capacity, size_t *size);

/* The same, with memory for it: *data, aligned to 16 bytes and followed by a NUL, is the caller's, to be freed with
 * pp_free. Errors as pp_queue_get but -EMSGSIZE, and -ENOMEM (the message stays). */
PP_API int pp_queue_take(pp_queue *queue, int timeout, void **data, size_t *size);

/* How many messages are in it; whether none is, 1 or 0; whether there are max_items, 1 or 0. Others may change that at
 * once. Never block. -EINVAL. */
PP_API ssize_t pp_queue_size(const pp_queue *queue);
PP_API int pp_queue_empty(const pp_queue *queue);
PP_API int pp_queue_full(const pp_queue *queue);

/*
 * A joinable queue: a message that the calling process has taken is done. Any of its threads. What a process had taken
 * and not done when it ended, or became another program, counts as done, as it is lost. 0; -EPERM: the process has none
 * that is not done; -EINVAL (not joinable), -EPROTO, -EDEADLK.
 */
PP_API int pp_queue_task_done(pp_queue *queue);

/* A joinable queue: waits until all that was put was taken and is done. Errors: -ETIMEDOUT, -EINTR, -EINVAL (not
 * joinable), -EPROTO, -EDEADLK. */
PP_API int pp_queue_join(pp_queue *queue, int timeout);

/* Ends the putting, for all processes: puts fail with -EPIPE, gets take what is left, then fail so, too; who waits is
 * woken. May be called again. 0 or -EINVAL. */
PP_API int pp_queue_close(pp_queue *queue);

/*
 * A dictionary of many processes: keys of 1 to PP_DICT_KEY_MAX bytes, values of up to PP_DICT_VALUE_MAX. There is no
 * server: each process reads and writes it by itself. It is an object like those above, with the same ways into other
 * processes and the same rules.
 *
 * Every change, also one of many keys at once (pp_dict_update), is done whole or not at all, and all others see it so;
 * a process that is killed in the middle leaves the last whole state. An anonymous one lies in memory without a name. A
 * kept one is a file, which outlives all processes: pp_dict_create with the same path opens it again, from anywhere on
 * the machine. It is one of LMDB's, and there where LMDB is.
 *
 * Functions wait for each other, for microseconds, or for as long as it takes to get an anonymous one's memory where
 * that grows, to flush a kept one's change, or to copy all for a view. Errors of all: -EINVAL, -EMSGSIZE (a key or a
 * value that can't be), -EPROTO (memory or file were overwritten, where that is seen: what is damaged within a
 * kept one's pages can end the program that reads them); of an anonymous one -EDEADLK (a signal handler in a
 * thread that is in such a function), and -EBADF of changes (its descriptor has been closed in this process and it
 * needs more memory, before Linux 5.14); of a kept one -ENOTSUP, -EUSERS (more threads of all processes than
 * max_readers) and those of files (-EIO: the disk failed). They have no timeouts: a process that is stopped in a change
 * (of an anonymous one: in any of these functions) holds up the others until it goes on or is killed. One that is
 * stopped in a function that reads a kept one keeps pages from being used again, until changes are -ENOSPC; they work
 * again when it goes on or is killed.
 */
typedef struct pp_dict pp_dict;
typedef struct pp_dict_view pp_dict_view;

#define PP_DICT_KEY_MAX 511
#define PP_DICT_VALUE_MAX 0x7fffffff

typedef struct pp_dict_options {
    const char *path; /* of the file of a kept one, made if it is not there; beside it lies PATH-lock, its lock file:
                         another file that is there is left as it is, and no dictionary opened (-EPROTO), unless it is
                         empty or begins as a new lock file does, with zeros. NULL: anonymous */
    size_t max_bytes; /* of keys, values and what they cost (about 40 bytes each); 0: 256 MiB. Memory or file grow on
                       * demand. A large update of an anonymous one needs more meanwhile, of addresses three times as
                       * much is taken */
    int max_readers;  /* of a kept one: how many processes and threads read at the same moment; 0: 126. 16 more are kept
                         for dead ones */
    int no_flush;     /* of a kept one, 1: changes need not have reached the disk: who dies still loses nothing, but a
                         machine that does may */
    uint64_t reserved[4];
} pp_dict_options;

/*
 * `options` may be NULL. Errors: as of all objects, and -EINVAL (bad options), -ENOTSUP (kept, and no LMDB),
 * -ENAMETOOLONG, -EPROTO (the file is no dictionary, or what lies beside it no lock file), and those of opening a file.
 * Through pp_dict_fd a kept one is handed on as its path and options. Another program's file of LMDB's that has named
 * databases, or keys of another kind, is no dictionary, and is left as it is; a named one is seen among the first 4096
 * keys, and behind them only by changes, none of which harms it: -EPROTO. Of a kept one also: -ENOENT (a symbolic link
 * that leads to no file; of pp_dict_open, and of all functions in a forked child, which opens the file again: there is
 * another file or none by now), -EISDIR, -EINVAL (it is no regular file), -EMLINK (it has hard links, so that it could
 * be locked under each of its names), -EBUSY (it or PATH-lock was removed, replaced or renamed while a process has it
 * open). A process that has more handles of one file keeps to the largest max_bytes of them, and flushes unless all
 * have no_flush; a full file grows by up to 1 MiB beyond max_bytes while something is deleted. Of all functions of a
 * kept one: -EBADF (the library's descriptors of the file were closed in this process; nothing is written to what has
 * their numbers), and -EPROTO (the file was cut; its size is looked at before each transaction, each change of one and
 * its end, and every 64 keys of a view: who reads the file between that and the next look dies of SIGBUS, and so may
 * who meets a file cut by less than is free in it). Of changes: -EFBIG (RLIMIT_FSIZE; no SIGXFSZ is raised), -ENOSPC
 * (also a full disk).
 */
PP_API int pp_dict_create(const pp_dict_options *options, pp_dict **dict);
PP_API int pp_dict_open(int fd, pp_dict **dict);
PP_API int pp_dict_fd(const pp_dict *dict);
PP_API pp_dict *pp_dict_ref(pp_dict *dict);
PP_API void pp_dict_unref(pp_dict *dict);

/*
 * Copies the value of a key to `buffer`. With `size` NULL it must have exactly `capacity` bytes; else up to `capacity`
 * are copied and *size is its size. -EMSGSIZE: it does not fit or differs in size; *size is written then, too. Errors:
 * -ENOENT, -EMSGSIZE.
 */
PP_API int pp_dict_get(pp_dict *dict, const void *key, size_t key_size, void *buffer, size_t capacity, size_t *size);

/* The same, with memory for it: *value, aligned to 16 bytes and followed by a NUL, is the caller's, to be freed with
 * pp_free. Errors: -ENOENT, -ENOMEM. */
PP_API int pp_dict_copy(pp_dict *dict, const void *key, size_t key_size, void **value, size_t *size);

/*
 * One change of one key: as the pp_dict_change of that name in pp_dict_update, with its errors.
 *   put: whether there was a value or not. add: -EEXIST if there is one. replace: -ENOENT without one, -ESTALE where it
 * is not the expected one. delete: -ENOENT. increment: adds `by` to a value that is an int64_t (absent: 0); *result, if
 * not NULL, is the sum. -EMSGSIZE (not 8 bytes), -EOVERFLOW.
 */
PP_API int pp_dict_put(pp_dict *dict, const void *key, size_t key_size, const void *value, size_t size);
PP_API int pp_dict_add(pp_dict *dict, const void *key, size_t key_size, const void *value, size_t size);
PP_API int pp_dict_replace(pp_dict *dict, const void *key, size_t key_size, const void *expected, size_t expected_size,
                           const void *value, size_t size);
PP_API int pp_dict_increment(pp_dict *dict, const void *key, size_t key_size, int64_t by, int64_t *result);
PP_API int pp_dict_delete(pp_dict *dict, const void *key, size_t key_size);

typedef enum pp_dict_act {
    PP_DICT_PUT = 1,
    PP_DICT_ADD,
    PP_DICT_REPLACE,
    PP_DICT_INCREMENT,
    PP_DICT_DELETE,
    PP_DICT_EXPECT /* changes nothing: -ENOENT or -ESTALE unless the value is `expected`; with that NULL, -EEXIST unless
                      there is none */
} pp_dict_act;

typedef struct pp_dict_change {
    pp_dict_act act;
    const void *key;
    size_t key_size;
    const void *value; /* put, add, replace; may be NULL if its size is 0 */
    size_t size;
    const void *expected; /* replace, expect */
    size_t expected_size;
    int64_t by;     /* increment */
    int64_t result; /* increment: the sum; undefined if the update fails */
    uint64_t reserved[2];
} pp_dict_change;

/*
 * `count` changes in their order, each seeing those before it, as one: all, or none if one of them fails. *failed, if
 * not NULL, is then the index of that one, or `count` if it is none of them. Errors: those of each change, -ENOSPC
 * (there would be more than max_bytes; a value of an anonymous one that is replaced needs room for both, unless they
 * have one size of at most 64 bytes), -ENOMEM. Of errors nothing is changed; all that was there is there still, and can
 * be deleted to make room.
 */
PP_API int pp_dict_update(pp_dict *dict, pp_dict_change *changes, size_t count, size_t *failed);

/* Deletes all; memory of an anonymous one is given back. */
PP_API int pp_dict_clear(pp_dict *dict);

/* How many keys there are. Others may change that at once. */
PP_API ssize_t pp_dict_size(pp_dict *dict);

/*
 * A view of the whole as it was at one moment: a copy, private to the caller, of all keys and values. Errors: -ENOMEM.
 * pp_dict_view_next gives them one by one in no order that means anything: 1, or 0 at the end; key and value are
 * aligned to 8 bytes, followed by a NUL that their sizes do not count, and valid until pp_dict_view_close. One thread
 * at a time uses a view. NULL is accepted where something is not wanted.
 */
PP_API int pp_dict_view_open(pp_dict *dict, pp_dict_view **view);
PP_API int pp_dict_view_next(pp_dict_view *view, const void **key, size_t *key_size, const void **value, size_t *size);
PP_API void pp_dict_view_close(pp_dict_view *view);

#ifdef __cplusplus
}
#endif

#endif
