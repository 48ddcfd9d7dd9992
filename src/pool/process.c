/* SPDX-License-Identifier: MIT */
/*
 * Processes that run one function, on the owner's side. No thread belongs to one: its pidfd shows that it has ended,
 * and how lies in its connection until somebody asks. All functions may be called from any thread.
 */
#include "pool/process.h"

#include "base/atomic.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/interrupt.h"
#include "base/seam.h"
#include "pool/backtrace.h"
#include "process/launcher.h"
#include "process/owner.h"
#include "shm/ring.h"
#include "shm/segment.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERIAL 1 /* of the only child of a connection */
#define SMALLEST_STACK 65536u
#define DEFAULT_STACK (8u << 20)
#define DEFAULT_START_TIMEOUT 30000
#define END_WAIT_MS 10000 /* until the zygote tells how one has ended */

/* ---------------------------------------------------------------------------------------------- its end */

/* The zygote drops the connection then, and whoever polls it, or will, finds it readable. Under the lock, as are all
 * functions up to look. */
static void end(pp_process *process)
{
    process->ended = true;
    process->end.run_time = pp__now() - process->begun;
    shutdown(process->connection, SHUT_RDWR);
}

/* It could not run its function; what it says is text, whatever it is. Without memory for what it shares with us it
 * says nothing. */
static bool note_unfit(pp_process *process)
{
    struct pp__process_side *side = process->side;
    uint32_t error = pp__load_acquire(&side->unfit); /* pairs with the store in tell_unfit (process_run.c) */
    bool began = pp__load_acquire(&side->runs) != 0; /* pairs with the store in run (process_run.c) */
    if (began || error > 4095 || process->end.status != PP__PROCESS_UNFIT)
        return false;
    if (error)
        pp__shm_copy(process->message, side->unfit_text, sizeof side->unfit_text);
    else
        snprintf(process->message, sizeof process->message, "there was no memory in it to begin with its function");
    process->message[sizeof process->message - 1] = '\0';
    process->end.kind = PP_ERROR_TRAVEL;
    process->end.code = -EBADMSG;
    process->end.task_code = error ? -(int)error : -ENOMEM;
    return true;
}

static void note_crash(pp_process *process)
{
    uint32_t size = pp__load_acquire(&process->side->crash_size); /* pairs with the store in publish (crash.c) */
    process->end.kind = PP_ERROR_CRASH;
    process->end.code = -EOWNERDEAD;
    if (size <= sizeof process->side->crash)
        pp__error_crashed_at(&process->end, process->side->crash, size);
}

static void note_end(pp_process *process, const struct pp__report *report)
{
    pp_error *e = &process->end;
    int how = report->code & ~PP__END_UNJOINED;
    process->seen = how == CLD_EXITED || how == CLD_KILLED || how == CLD_DUMPED;
    if (how == CLD_EXITED)
        e->status = report->status & 255;
    else if (process->seen)
        e->signal = report->status;
    e->out_of_memory = report->error == ENOMEM;
    pp__launcher_describe_end(report->code, report->status, process->message, sizeof process->message);
    if (e->status != 0 && !note_unfit(process))
        note_crash(process);
    end(process);
}

/* The end of one whose zygote has died: by that it was killed, unless it outlives it, and nobody is told how it ended.
 */
static void note_orphans_end(pp_process *process)
{
    char text[128];
    pp__launcher_epitaph(process->launcher, text, sizeof text);
    snprintf(process->message, sizeof process->message, "%s as %s",
             process->outlives ? "ended in an unknown way," : "was killed",
             *text ? text : "the process that has started it is gone");
    note_crash(process);
    end(process);
}

static bool is_over(const pp_process *process)
{
    struct pollfd watched = {.fd = process->pidfd, .events = POLLIN};
    return process->pidfd >= 0 && pp__fd_look(&watched, 1) == 1;
}

static int note_begin(pp_process *process, const struct pp__report *report, int pidfd)
{
    process->pidfd = pidfd;
    process->pid = process->end.pid = report->pid;
    process->begun = pp__now();
    if (pidfd < 0 && report->error != ENOSYS)
        return pp__fail_errno(report->error ? report->error : EPROTO, "a descriptor for the end of a process");
    return 1;
}

/* Takes in what the zygote has told: 1: it has begun; 0: nothing new, or it has ended; or the negative errno of a start
 * that failed. */
static int take_report(pp_process *process)
{
    struct pp__report report;
    int pidfd, got = pp__launcher_report_of_watched(process->connection, &report, &pidfd);
    process->orphaned = got == -EPIPE;
    if (got == 0 || process->orphaned)
        return 0;
    if (got < 0)
        return got;
    if (report.type == PP__REPORT_STARTED)
        return note_begin(process, &report, pidfd);
    if (report.type == PP__REPORT_FAILED)
        return pp__fail(-report.error, "a process can't be made: %s", pp__why_no_process(report.error));
    note_end(process, &report);
    return 0;
}

/* The same, and what its pidfd shows, which may be before the zygote has told, or though it never will. What it has
 * shown once holds, also where nobody can look again. */
static int take_in(pp_process *process)
{
    int got = process->ended || process->orphaned ? 0 : take_report(process);
    if (process->ended)
        return got;
    process->over = process->over || is_over(process);
    if (process->orphaned && (process->over || process->pidfd < 0))
        note_orphans_end(process);
    return got;
}

enum progress { RUNS, OVER, ENDED };

/* How far it is, and in *failed why what the zygote tells can't be read now: 0 or a negative errno. */
static enum progress look_and_tell(pp_process *process, int *failed)
{
    pthread_mutex_lock(&process->lock);
    int got = take_in(process);
    *failed = got < 0 ? got : 0;
    enum progress progress = process->ended ? ENDED : process->over ? OVER : RUNS;
    pthread_mutex_unlock(&process->lock);
    return progress;
}

static enum progress look(pp_process *process)
{
    int failed;
    return look_and_tell(process, &failed);
}

/* ------------------------------------------------------------------------------------------ the handle */

static int check_options(const pp_process_options *o)
{
    if (o->name && strlen(o->name) >= PP__PROCESS_NAME_MAX)
        return pp__fail(-EINVAL, "a name of %zu bytes: it may have %d", strlen(o->name), PP__PROCESS_NAME_MAX - 1);
    if (o->stack_size && (o->stack_size < SMALLEST_STACK || o->stack_size > PP__STACK_MAX))
        return pp__fail(-EINVAL, "stack_size is %zu; it must be 0 (the default) or %u to %llu", o->stack_size,
                        SMALLEST_STACK, (unsigned long long)PP__STACK_MAX);
    if (o->launcher && (o->start_method || o->inherit_fds || o->inherit_fd_count || o->close_fds))
        return pp__fail(-EINVAL,
                        "start_method, inherit_fds and close_fds are the launcher's and must be given to that");
    int error = pp__check_switch("daemon", o->daemon);
    if (!error)
        error = pp__check_switch("close_fds", o->close_fds);
    return error ? error : pp__check_reserved(o->reserved, sizeof o->reserved / sizeof *o->reserved);
}

static int check(pp_process_function *function, const void *arg, size_t size, const pp_process_options *options,
                 pp_process **process)
{
    if (!function || !process)
        return pp__fail(-EINVAL, "pp_process_start: no %s", function ? "place for the process" : "function");
    if (!arg && size > 0)
        return pp__fail(-EINVAL, "pp_process_start: the argument is NULL and its size is %zu", size);
    if (size > PTRDIFF_MAX / 2)
        return pp__fail(-EINVAL, "pp_process_start: an argument of %zu bytes is larger than any memory", size);
    return check_options(options);
}

static int get_launcher(pp_process *process, const pp_process_options *o)
{
    const pp_launcher_options options = {.start_method = o->start_method,
                                         .inherit_fds = o->inherit_fds,
                                         .inherit_fd_count = o->inherit_fd_count,
                                         .close_fds = o->close_fds,
                                         .no_spare = 1}; /* it starts one */
    if (!o->launcher) {
        int error = pp__launcher_create_for_process(&options, &process->launcher);
        if (error)
            return error;
    } else {
        process->launcher = pp_launcher_ref(o->launcher);
    }
    if (pp__launcher_method(process->launcher) == PP_START_INLINE)
        return pp__fail(-ENOTSUP, "PP_START_INLINE makes no processes");
    if (pp__launcher_starter(process->launcher))
        return pp__fail(-ENOTSUP, "a starter's processes are workers of pools");
    return 0;
}

static void give_name(pp_process *process, const char *name)
{
    static _Atomic unsigned count;
    if (name)
        snprintf(process->name, sizeof process->name, "%s", name);
    else
        snprintf(process->name, sizeof process->name, "Process-%u",
                 atomic_fetch_add_explicit(&count, 1, memory_order_relaxed) + 1);
}

static size_t whole_pages(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (size + page - 1) / page * page;
}

/* Its segment, with the function and the argument in it: the descriptor or a negative errno. */
static int open_segment(pp_process *process, pp_process_function *function, const void *arg, size_t size)
{
    struct pp__module *module;
    uint64_t offset;
    void *memory;
    const void *address;
    memcpy(&address, &function, sizeof address);
    int error = pp__module_find(address, &module, &offset);
    if (error)
        return error;
    pp__module_name(module, offset, process->function);
    process->size = whole_pages(sizeof *process->side + size + 1);
    int fd = pp__segment_create("procpool-process", process->size, false, &memory);
    if (fd >= 0) {
        process->side = memory;
        process->side->travel_size = pp__module_travel(module, process->side->travel);
        process->side->offset = offset;
        process->side->argument_size = size;
        memcpy(process->side->name, process->name, sizeof process->name);
        if (size > 0)
            memcpy(process->side->argument, arg, size);
    }
    pp__module_unref(module);
    return fd;
}

static int launch(const pp_process *process, uint64_t stack_size, int segment)
{
    const struct pp__process_plan data = {.size = process->size,
                                          .kin = process->daemon ? PP__KIN_NONE : pp__owner_kin()};
    struct pp__plan plan = {.serial = SERIAL,
                            .stack_size = stack_size ? stack_size : DEFAULT_STACK,
                            .watched = 1,
                            .outlives = process->outlives,
                            .size = sizeof data};
    snprintf(plan.name, sizeof plan.name, "%.15s", process->name);
    memcpy(plan.data, &data, sizeof data);
    int error = pp__launcher_start(process->connection, &plan, &segment, PP__PROCESS_FDS);
    return error ? pp__fail_errno(-error, "asking for a process") : 0;
}

/*
 * Until there is something to read, or the deadline: 0, -ETIMEDOUT, -EINTR. Once it is seen on one of the two
 * descriptors that the process is over, or the zygote gone, that one says nothing more.
 */
static int sleep_for(pp_process *process, uint64_t deadline)
{
    struct pollfd watched[2] = {{.events = POLLIN}, {.events = POLLIN}};
    pthread_mutex_lock(&process->lock);
    watched[0].fd = process->orphaned ? -1 : process->connection;
    watched[1].fd = process->over ? -1 : process->pidfd;
    pthread_mutex_unlock(&process->lock);
    int count = PP_SYS(poll)(watched, 2, pp__to_milliseconds(pp__until(deadline)));
    if (count == 0 && pp__until(deadline) == 0)
        return -ETIMEDOUT;
    return count < 0 && !pp__wait_goes_on() ? -EINTR : 0;
}

/* A process that ends at once has begun all the same. */
static int await_begin(pp_process *process, uint32_t timeout)
{
    uint64_t deadline = pp__now() + (timeout ? timeout : DEFAULT_START_TIMEOUT) * PP__MILLISECOND;
    for (;;) {
        int got = take_in(process);
        if (got != 0)
            return got < 0 ? got : 0;
        if (process->ended)
            return pp__fail(process->orphaned ? -EPIPE : -ENOEXEC, "the process %s", process->message);
        if (sleep_for(process, deadline) == -ETIMEDOUT)
            return pp__fail(-ETIMEDOUT, "the process has not begun for %llu ms",
                            (unsigned long long)(timeout ? timeout : DEFAULT_START_TIMEOUT));
    }
}

static int begin(pp_process *process, const pp_process_options *options, int segment)
{
    process->connection = pp__launcher_connect(process->launcher);
    if (process->connection < 0)
        return process->connection;
    int error = launch(process, options->stack_size, segment);
    return error ? error : await_begin(process, options->start_timeout);
}

static int signal_by_pidfd(const pp_process *process, int number)
{
    return process->pidfd < 0 ? -EPIPE : (int)PP_SYS(syscall)(SYS_pidfd_send_signal, process->pidfd, number, NULL, 0);
}

/* The connection's end kills it if it still runs, unless it outlives that: then it has to be asked for. By its pidfd in
 * any case: a process that has just begun still holds its parent's end of the connection, and if that parent has died
 * what is asked there nobody reads. */
static void kill_at_last(pp_process *process)
{
    if (process->connection < 0 || process->ended)
        return;
    pp__launcher_kill(process->connection, SERIAL);
    signal_by_pidfd(process, SIGKILL);
}

static void destroy(pp_process *process)
{
    pp__process_exit_leave(process);
    kill_at_last(process);
    pp__launcher_disconnect(process->connection);
    pp__fd_close(process->pidfd);
    pp_launcher_unref(process->launcher);
    pp__segment_unmap(process->side, process->size);
    pp__backtrace_free(process->end.backtrace);
    pthread_mutex_destroy(&process->lock);
    free(process);
}

static pp_process *make(const pp_process_options *options)
{
    pp_process *made = PP_SYS(calloc)(1, sizeof *made);
    if (!made)
        return NULL;
    made->references = 1;
    made->owner = pp__owner_token();
    made->connection = made->pidfd = -1;
    made->daemon = options->daemon != 0;
    made->outlives = !made->daemon && pp__owner_kin() == PP__KIN_FREE;
    made->end =
        (pp_error){.worker = -1, .status = -1, .tries = 1, .message = made->message, .function = made->function};
    pthread_mutex_init(&made->lock, NULL);
    give_name(made, options->name);
    return made;
}

static int start(pp_process *process, pp_process_function *function, const void *arg, size_t size,
                 const pp_process_options *options)
{
    int error = get_launcher(process, options);
    if (error)
        return error;
    int segment = open_segment(process, function, arg, size);
    if (segment < 0)
        return segment;
    error = begin(process, options, segment);
    pp__fd_close(segment);
    if (!error && !pp__process_exit_enter(process))
        error = pp__fail(-ESHUTDOWN, "the program exits");
    return error;
}

int pp_process_start(pp_process_function *function, const void *arg, size_t size, const pp_process_options *options,
                     pp_process **process)
{
    PP__NO_CANCELLATION();
    static const pp_process_options defaults;
    if (!options)
        options = &defaults;
    int error = check(function, arg, size, options, process);
    if (!error)
        error = pp__owner_enter();
    if (!error)
        error = pp__process_exit_prepare();
    if (error)
        return error;
    pp_process *made = make(options);
    if (!made)
        return pp__fail(-ENOMEM, "no memory for a process");
    error = start(made, function, arg, size, options);
    if (error)
        destroy(made);
    else
        *process = made;
    return error;
}

static bool is_own(const pp_process *process)
{
    return process->owner == pp__owner_token();
}

/* 0, or what a function says that was called without a process, or in a forked child. */
static int check_handle(const pp_process *process, const char *caller)
{
    if (!process)
        return pp__fail(-EINVAL, "%s: no process", caller);
    return is_own(process) ? 0 : pp__owner_refuse();
}

int pp__process_sentinel(const pp_process *process)
{
    return process->pidfd >= 0 ? process->pidfd : process->connection;
}

pp_process *pp_process_ref(pp_process *process)
{
    if (process && is_own(process))
        atomic_fetch_add_explicit(&process->references, 1, memory_order_relaxed);
    return process;
}

bool pp__process_try_ref(pp_process *process)
{
    return pp__try_ref(&process->references);
}

/* Each publishes what its thread did with the process to the one that frees it: it pairs with itself in another thread.
 */
void pp_process_unref(pp_process *process)
{
    PP__NO_CANCELLATION();
    if (process && is_own(process) && atomic_fetch_sub_explicit(&process->references, 1, memory_order_acq_rel) == 1)
        destroy(process);
}

int pp_process_close(pp_process *process)
{
    int error = check_handle(process, "pp_process_close"), alive = error ? error : pp_process_is_alive(process);
    if (alive < 0)
        return alive;
    if (alive)
        return pp__fail(-EBUSY, "%s (pid %d) runs", process->name, (int)process->pid);
    pp_process_unref(process);
    return 0;
}

/* --------------------------------------------------------------------------------------------- asking */

pid_t pp_process_pid(const pp_process *process)
{
    int error = check_handle(process, "pp_process_pid");
    return error ? error : process->pid;
}

const char *pp_process_name(const pp_process *process)
{
    return process ? process->name : "";
}

int pp_process_fd(const pp_process *process)
{
    int error = check_handle(process, "pp_process_fd");
    return error ? error : pp__process_sentinel(process);
}

int pp_process_is_alive(pp_process *process)
{
    PP__NO_CANCELLATION();
    int error = check_handle(process, "pp_process_is_alive");
    return error ? error : look(process) == RUNS;
}

int pp_process_join(pp_process *process, int timeout)
{
    PP__NO_CANCELLATION();
    uint64_t deadline = pp__deadline(timeout);
    int error = check_handle(process, "pp_process_join");
    while (!error && look(process) == RUNS) {
        error = pp__until(deadline) == 0 ? -ETIMEDOUT : sleep_for(process, deadline);
        if (error && look(process) == RUNS)
            return pp__fail(error, "%s (pid %d) runs: %s", process->name, (int)process->pid, pp__strerror(-error));
    }
    return error == -ETIMEDOUT || error == -EINTR ? 0 : error;
}

/* Of one that is over: waits for the zygote to tell how it ended, which it does at once, unless that can't be read. One
 * that is stopped goes on when a word comes: this one harms none. */
static enum progress hear_end(pp_process *process, int *failed)
{
    uint64_t deadline = pp__deadline(END_WAIT_MS);
    enum progress progress = look_and_tell(process, failed);
    if (progress == OVER)
        pp__launcher_terminate(process->connection, SERIAL);
    while (progress == OVER && !*failed && pp__until(deadline) > 0) {
        sleep_for(process, deadline);
        progress = look_and_tell(process, failed);
    }
    return progress;
}

int pp_process_error(pp_process *process, pp_error *error)
{
    PP__NO_CANCELLATION();
    int failed = check_handle(process, "pp_process_error");
    if (failed || !error)
        return failed ? failed : pp__fail(-EINVAL, "pp_process_error: no place for the error");
    enum progress progress = hear_end(process, &failed);
    if (progress == OVER && failed)
        return pp__fail(failed, "%s (pid %d) has ended, and how can't be read: %s", process->name, (int)process->pid,
                        pp__strerror(-failed));
    if (progress != ENDED)
        return pp__fail(-EBUSY, "%s (pid %d) %s", process->name, (int)process->pid,
                        progress == RUNS ? "runs" : "has ended, and it has not been told how");
    *error = process->end; /* which nobody changes any more */
    return 0;
}

int pp_process_exit_code(pp_process *process, int *code)
{
    pp_error end;
    if (!code)
        return pp__fail(-EINVAL, "pp_process_exit_code: no place for the code");
    int error = check_handle(process, "pp_process_exit_code");
    if (!error)
        error = pp_process_error(process, &end);
    if (error)
        return error;
    if (!process->seen)
        return pp__fail(-ENODATA, "%s (pid %d) %s", process->name, (int)process->pid, end.message);
    *code = end.signal ? -end.signal : end.status;
    return 0;
}

/* ------------------------------------------------------------------------------------------ signalling */

/* By its parent, which knows whether the number is still its own; by its pidfd where that one may not read it. */
static int signal_by(pp_process *process, int (*ask)(int connection, uint64_t serial), int number, const char *caller)
{
    PP__NO_CANCELLATION();
    int error = check_handle(process, caller);
    if (error || look(process) != RUNS)
        return error;
    error = ask(process->connection, SERIAL);
    if (error == -EPIPE || (!error && (number == SIGKILL || pp__launcher_is_gone(process->launcher)))) {
        signal_by_pidfd(process, number);  /* as in kill_at_last */
        signal_by_pidfd(process, SIGCONT); /* which a stopped one needs */
        return 0;
    }
    return error ? pp__fail_errno(-error, "asking for the end of %s", process->name) : 0;
}

int pp_process_terminate(pp_process *process)
{
    return signal_by(process, pp__launcher_terminate, SIGTERM, "pp_process_terminate");
}

int pp_process_kill(pp_process *process)
{
    return signal_by(process, pp__launcher_kill, SIGKILL, "pp_process_kill");
}
