/* SPDX-License-Identifier: MIT */
/*
 * Any call fails: a plan on the board says which call of pp__sys fails in which kind of process, the n-th time that it
 * is made there or from then on. A scenario runs in a process of its own, the owner, once for each plan. It must end,
 * with everything done or a public function's error that says why, and leave no descriptor, mapping or process behind;
 * what it could not have is tried again when nothing fails any more.
 */
#ifndef PP_TESTS_POOL_ANY_CALL_KIT_H
#define PP_TESTS_POOL_ANY_CALL_KIT_H

#include "call_kit.h"
#include "memfd_kit.h"

#include "base/seam.h"

#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum call {
#define ENTRY(name) CALL_##name,
    PP__SYSTEM_CALLS(ENTRY)
#undef ENTRY
        CALLS
};

static const char *const names[] = {
#define ENTRY(name) #name,
    PP__SYSTEM_CALLS(ENTRY)
#undef ENTRY
};

/* With what they fail once, and from the n-th time on; 0: they don't, as the wrappers below or these lines tell. */
static const int errors[CALLS][2] = {
    [CALL_malloc] = {ENOMEM, ENOMEM},
    [CALL_calloc] = {ENOMEM, ENOMEM},
    [CALL_realloc] = {ENOMEM, ENOMEM},
    [CALL_strdup] = {ENOMEM, ENOMEM},
    [CALL_mmap] = {ENOMEM, ENOMEM},
    [CALL_mremap] = {ENOMEM, ENOMEM},
    [CALL_mprotect] = {ENOMEM, ENOMEM},
    [CALL_madvise] = {ENOMEM, EINVAL},
    [CALL_memfd_create] = {EMFILE, ENOSYS},
    [CALL_ftruncate] = {EINTR, EFBIG},
    [CALL_posix_fallocate] = {EINTR, ENOSPC},
    [CALL_fallocate] = {EOPNOTSUPP, ENOSPC},
    [CALL_open] = {EMFILE, EACCES},
    [CALL_fopen] = {EMFILE, ENOENT},
    [CALL_opendir] = {EMFILE, ENOENT},
    [CALL_read] = {EINTR, EIO},
    [CALL_pread] = {EINTR, EIO},
    [CALL_write] = {EINTR, EAGAIN},
    [CALL_pwrite] = {EACCES, EACCES},
    [CALL_stat] = {ENOMEM, ENOENT},
    [CALL_lstat] = {ENOMEM, EACCES},
    [CALL_fstat] = {0, 0}, /* its descriptor is open: what a peer sent that can't be looked at is garbage */
    [CALL_fstatfs] = {ENOMEM, ENOSYS},
    [CALL_fstatvfs] = {ENOMEM, ENOSYS},
    [CALL_access] = {EACCES, ENOENT},
    [CALL_readlink] = {ENOENT, EACCES},
    [CALL_realpath] = {ENOMEM, EACCES},
    [CALL_fcntl] = {EMFILE, ENFILE},
    [CALL_ioctl] = {ENOTTY, ENOTTY},
    [CALL_dup2] = {EBUSY, EINTR},
    [CALL_dup3] = {EBUSY, EINTR},
    [CALL_close_range] = {ENOSYS, EPERM},
    [CALL_eventfd] = {EMFILE, ENFILE},
    [CALL_signalfd] = {EMFILE, ENFILE},
    [CALL_timerfd_create] = {EMFILE, ENFILE},
    [CALL_timerfd_settime] = {0, 0}, /* its descriptor and its time are good */
    [CALL_epoll_create1] = {EMFILE, ENFILE},
    [CALL_epoll_ctl] = {ENOMEM, ENOSPC},
    [CALL_epoll_wait] = {EINTR, 0}, /* no signal comes for ever */
    [CALL_epoll_pwait] = {EINTR, 0},
    [CALL_poll] = {EINTR, ENOMEM},
    [CALL_ppoll] = {EINTR, ENOMEM},
    [CALL_socket] = {EMFILE, ENFILE},
    [CALL_socketpair] = {EMFILE, ENFILE},
    [CALL_bind] = {ENOMEM, EACCES},
    [CALL_listen] = {ENOMEM, EACCES},
    [CALL_accept4] = {EMFILE, ENFILE},
    [CALL_connect] = {ECONNREFUSED, EAGAIN},
    [CALL_getsockname] = {ENOBUFS, ENOBUFS},
    [CALL_getsockopt] = {ENOPROTOOPT, ENOPROTOOPT},
    [CALL_sendmsg] = {ENOBUFS, ENOBUFS},
    [CALL_recvmsg] = {EINTR, ENOMEM},
    [CALL_recv] = {0, 0}, /* a look at what is there, before the image knows that it is one */
    [CALL_fork] = {EAGAIN, ENOMEM},
    [CALL_clone] = {EAGAIN, ENOMEM},
    [CALL_execv] = {ENOMEM, EACCES},
    [CALL_execve] = {ENOMEM, EACCES},
    [CALL_execvp] = {ENOMEM, ENOENT},
    [CALL_waitid] = {0, 0}, /* it does not sleep, and says truly who is there */
    [CALL_waitpid] = {EINTR, EINTR},
    [CALL_kill] = {0, 0}, /* likewise */
    [CALL_prctl] = {EPERM, EPERM},
    [CALL_syscall] = {EINTR, ENOSYS},
    [CALL_process_vm_readv] = {EPERM, ENOSYS},
    [CALL_chdir] = {EACCES, ENOENT},
    [CALL_setenv] = {ENOMEM, ENOMEM},
    [CALL_getrandom] = {EINTR, ENOSYS},
    [CALL_setpriority] = {EACCES, EACCES},
    [CALL_sched_getcpu] = {ENOSYS, ENOSYS},
    [CALL_sched_getaffinity] = {EINVAL, EINVAL},
    [CALL_sched_setaffinity] = {EINVAL, EINVAL},
    [CALL_pthread_create] = {EAGAIN, EAGAIN},
    [CALL_pthread_mutex_init] = {ENOMEM, ENOMEM},
    [CALL_atexit] = {ENOMEM, ENOMEM},
    [CALL_on_exit] = {ENOMEM, ENOMEM},
    [CALL_at_quick_exit] = {ENOMEM, ENOMEM},
    [CALL_dlopen] = {ENOMEM, ENOMEM},
    [CALL_dlsym] = {ENOMEM, ENOMEM},
    [CALL_dlinfo] = {ENOMEM, ENOMEM},
};

/* ---------------------------------------------------------------------------------------------- the plan */

/* Who makes a call. A newborn has not got its name yet: helpers, forks of the owner and images; a fork of the zygote
 * counts as that until it has its own. */
enum kind { OWNER, NEWBORN, ZYGOTE, WORKER, KINDS };
#define ONLY_OWNER (1u << OWNER)
#define OTHERS (1u << NEWBORN | 1u << ZYGOTE | 1u << WORKER)
#define ALL (ONLY_OWNER | OTHERS)
static const char *const kinds[] = {"owner", "newborn", "zygote", "worker"};

struct plan {
    pid_t owner;
    enum kind kind;
    enum call call;
    uint32_t n;
    bool on;             /* all from the n-th on fail */
    _Atomic bool armed;  /* stored after the rest, and loaded before it */
    _Atomic bool failed; /* a call did */
    _Atomic uint32_t counts[KINDS][CALLS];
    _Atomic bool done;    /* the owner has given everything up, and waits */
    _Atomic bool seen;    /* what it has left was looked at */
    _Atomic bool strayed; /* an image, which is to be a zygote or a worker, went on as the program */
    char step[64];        /* what the owner does, for the message of one that hangs */
};

static struct plan *plan;

static enum kind kind_of_caller(void)
{
    char name[16] = "";
    if (getpid() == plan->owner)
        return OWNER;
    prctl(PR_GET_NAME, name);
    if (strcmp(name, "pp-zygote") == 0)
        return ZYGOTE;
    return strncmp(name, "test_", 5) == 0 || strcmp(name, "exe") == 0 ? NEWBORN : WORKER;
}

/* Whether this call is one that fails; errno is set then. */
static bool fails(enum call call)
{
    if (!plan || !atomic_load(&plan->armed))
        return false;
    enum kind kind = kind_of_caller();
    uint32_t n = atomic_fetch_add(&plan->counts[kind][call], 1) + 1;
    if (plan->n == 0 || call != plan->call || kind != plan->kind || (plan->on ? n < plan->n : n != plan->n))
        return false;
    atomic_store(&plan->failed, true);
    errno = errors[call][plan->on];
    return true;
}

/* --------------------------------------------------------------------------------------------- the calls */

#define FAILING(type, failure, name, parameters, arguments)                                                            \
    static type failing_##name parameters                                                                              \
    {                                                                                                                  \
        return fails(CALL_##name) ? failure : name arguments;                                                          \
    }

FAILING(void *, NULL, malloc, (size_t size), (size))
FAILING(void *, NULL, calloc, (size_t count, size_t size), (count, size))
FAILING(void *, NULL, realloc, (void *memory, size_t size), (memory, size))
FAILING(char *, NULL, strdup, (const char *text), (text))
FAILING(void *, MAP_FAILED, mmap, (void *at, size_t size, int protection, int flags, int fd, off_t offset),
        (at, size, protection, flags, fd, offset))
FAILING(int, -1, mprotect, (void *at, size_t size, int protection), (at, size, protection))
FAILING(int, -1, madvise, (void *at, size_t size, int advice), (at, size, advice))
FAILING(int, -1, memfd_create, (const char *name, unsigned flags), (name, flags))
FAILING(int, -1, ftruncate, (int fd, off_t size), (fd, size))
FAILING(int, errno, posix_fallocate, (int fd, off_t from, off_t size), (fd, from, size))
FAILING(int, -1, fallocate, (int fd, int mode, off_t from, off_t size), (fd, mode, from, size))
FAILING(FILE *, NULL, fopen, (const char *path, const char *mode), (path, mode))
FAILING(DIR *, NULL, opendir, (const char *path), (path))
FAILING(ssize_t, -1, read, (int fd, void *data, size_t size), (fd, data, size))
FAILING(ssize_t, -1, pread, (int fd, void *data, size_t size, off_t from), (fd, data, size, from))
FAILING(ssize_t, -1, write, (int fd, const void *data, size_t size), (fd, data, size))
FAILING(ssize_t, -1, pwrite, (int fd, const void *data, size_t size, off_t to), (fd, data, size, to))
FAILING(int, -1, stat, (const char *path, struct stat *status), (path, status))
FAILING(int, -1, lstat, (const char *path, struct stat *status), (path, status))
FAILING(int, -1, fstat, (int fd, struct stat *status), (fd, status))
FAILING(int, -1, fstatfs, (int fd, struct statfs *status), (fd, status))
FAILING(int, -1, fstatvfs, (int fd, struct statvfs *status), (fd, status))
FAILING(int, -1, access, (const char *path, int mode), (path, mode))
FAILING(ssize_t, -1, readlink, (const char *path, char *target, size_t size), (path, target, size))
FAILING(char *, NULL, realpath, (const char *path, char *real), (path, real))
FAILING(int, -1, dup2, (int fd, int to), (fd, to))
FAILING(int, -1, dup3, (int fd, int to, int flags), (fd, to, flags))
FAILING(int, -1, close_range, (unsigned from, unsigned to, int flags), (from, to, flags))
FAILING(int, -1, eventfd, (unsigned count, int flags), (count, flags))
FAILING(int, -1, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags))
FAILING(int, -1, timerfd_create, (clockid_t id, int flags), (id, flags))
FAILING(int, -1, epoll_create1, (int flags), (flags))
FAILING(int, -1, epoll_wait, (int set, struct epoll_event *events, int most, int timeout), (set, events, most, timeout))
FAILING(int, -1, epoll_pwait, (int set, struct epoll_event *events, int most, int timeout, const sigset_t *mask),
        (set, events, most, timeout, mask))
FAILING(int, -1, poll, (struct pollfd * fds, nfds_t count, int timeout), (fds, count, timeout))
FAILING(int, -1, ppoll, (struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
        (fds, count, timeout, mask))
FAILING(int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol))
FAILING(int, -1, socketpair, (int domain, int type, int protocol, int pair[2]), (domain, type, protocol, pair))
FAILING(int, -1, bind, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))
FAILING(int, -1, listen, (int fd, int most), (fd, most))
FAILING(int, -1, accept4, (int fd, struct sockaddr *address, socklen_t *size, int flags), (fd, address, size, flags))
FAILING(int, -1, connect, (int fd, const struct sockaddr *address, socklen_t size), (fd, address, size))
FAILING(int, -1, getsockname, (int fd, struct sockaddr *address, socklen_t *size), (fd, address, size))
FAILING(ssize_t, -1, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
FAILING(ssize_t, -1, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
FAILING(pid_t, -1, fork, (void), ())
FAILING(int, -1, execv, (const char *path, char *const words[]), (path, words))
FAILING(int, -1, execve, (const char *path, char *const words[], char *const environment[]), (path, words, environment))
FAILING(int, -1, execvp, (const char *path, char *const words[]), (path, words))
FAILING(pid_t, -1, waitpid, (pid_t pid, int *status, int flags), (pid, status, flags))
FAILING(ssize_t, -1, process_vm_readv,
        (pid_t pid, const struct iovec *here, unsigned long here_count, const struct iovec *there,
         unsigned long there_count, unsigned long flags),
        (pid, here, here_count, there, there_count, flags))
FAILING(int, -1, chdir, (const char *path), (path))
FAILING(int, -1, setenv, (const char *name, const char *value, int replace), (name, value, replace))
FAILING(ssize_t, -1, getrandom, (void *data, size_t size, unsigned flags), (data, size, flags))
FAILING(int, -1, setpriority, (__priority_which_t which, id_t who, int priority), (which, who, priority))
FAILING(int, -1, sched_getcpu, (void), ())
FAILING(int, -1, sched_getaffinity, (pid_t pid, size_t size, cpu_set_t *set), (pid, size, set))
FAILING(int, -1, sched_setaffinity, (pid_t pid, size_t size, const cpu_set_t *set), (pid, size, set))
FAILING(int, errno, pthread_create,
        (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument),
        (thread, attributes, run, argument))
FAILING(int, errno, pthread_mutex_init, (pthread_mutex_t * mutex, const pthread_mutexattr_t *attributes),
        (mutex, attributes))
FAILING(int, -1, atexit, (void (*handler)(void)), (handler))
FAILING(int, -1, on_exit, (void (*handler)(int, void *), void *argument), (handler, argument))
FAILING(int, -1, at_quick_exit, (void (*handler)(void)), (handler))
FAILING(void *, NULL, dlopen, (const char *path, int flags), (path, flags))
FAILING(void *, NULL, dlsym, (void *handle, const char *name), (handle, name))
FAILING(int, -1, dlinfo, (void *handle, int what, void *to), (handle, what, to))

/* What follows the named parameters, as far as anybody passes some. */
#define TAKE(count, last)                                                                                              \
    long more[6] = {0};                                                                                                \
    va_list arguments;                                                                                                 \
    va_start(arguments, last);                                                                                         \
    for (int i = 0; i < (count); i++)                                                                                  \
        more[i] = va_arg(arguments, long);                                                                             \
    va_end(arguments)

static int failing_open(const char *path, int flags, ...)
{
    return fails(CALL_open) ? -1 : open(path, flags); // NOLINT: the library makes no files
}

/* Copies and seals; the rest asks for what is so in any case. */
static int failing_fcntl(int fd, int command, ...)
{
    TAKE(1, command);
    bool may = command == F_DUPFD_CLOEXEC || command == F_ADD_SEALS || command == F_SETLKW;
    if (may && fails(CALL_fcntl)) {
        errno = command == F_ADD_SEALS ? EBUSY : command == F_SETLKW ? ENOLCK : errno;
        return -1;
    }
    return fcntl(fd, command, more[0]);
}

static void *failing_mremap(void *at, size_t size, size_t wanted, int flags, ...)
{
    TAKE(1, flags);
    return fails(CALL_mremap) ? MAP_FAILED : mremap(at, size, wanted, flags, (void *)more[0]);
}

static int failing_ioctl(int fd, unsigned long request, ...)
{
    TAKE(1, request);
    return fails(CALL_ioctl) ? -1 : ioctl(fd, request, more[0]);
}

static int failing_prctl(int option, ...)
{
    TAKE(4, option);
    return fails(CALL_prctl) ? -1 : prctl(option, more[0], more[1], more[2], more[3]);
}

/* Sleeps that end at once, and kernels without pidfds; a thread's signal is a question that is answered truly. */
static long failing_syscall(long number, ...)
{
    TAKE(number == SYS_futex ? 6 : 4, number);
    if (number == SYS_futex && fails(CALL_syscall)) {
        errno = plan->on ? EAGAIN : EINTR;
        return -1;
    }
    if (number == SYS_pidfd_open && fails(CALL_syscall)) {
        errno = plan->on ? ENOSYS : EMFILE;
        return -1;
    }
    return syscall(number, more[0], more[1], more[2], more[3], more[4], more[5]);
}

static int failing_clone(int (*run)(void *), void *stack, int flags, void *argument, ...)
{
    return fails(CALL_clone) ? -1 : clone(run, stack, flags, argument);
}

/* What a later kernel knows of a peer; the others are of sockets that are there. */
static int failing_getsockopt(int fd, int level, int option, void *value, socklen_t *size)
{
    bool may = option != SO_TYPE && option != SO_LINGER && option != SO_PEERCRED;
    return may && fails(CALL_getsockopt) ? -1 : getsockopt(fd, level, option, value, size);
}

/* Only what is added needs memory, and is counted. */
static int failing_epoll_ctl(int set, int operation, int fd, struct epoll_event *event)
{
    return operation == EPOLL_CTL_ADD && fails(CALL_epoll_ctl) ? -1 : epoll_ctl(set, operation, fd, event);
}

/* In every process, images included: they have the board if their parent gave it to them. */
__attribute__((constructor)) static void put_hooks(void)
{
#define failing_timerfd_settime timerfd_settime
#define failing_recv recv
#define failing_waitid waitid
#define failing_kill kill
#define ENTRY(name) pp__sys.name = failing_##name;
    PP__SYSTEM_CALLS(ENTRY)
#undef ENTRY
    if (getenv("PP_TEST_PLAN") && fcntl(BOARD_FD, F_GETFD) >= 0)
        plan = (struct plan *)word(0);
}

/* ------------------------------------------------------------------------------------------- in the owner */

static void disarm(void)
{
    atomic_store(&plan->armed, false);
}

static char untold[256]; /* the text of a failure that is none of the scenario's */

/* For the message of a scenario that does not end; a public function that fails has to leave another text than this. */
static void begin_step(const char *what)
{
    snprintf(plan->step, sizeof plan->step, "%s", what);
    CHECK_INT(pp_future_state(NULL), -EINVAL);
    snprintf(untold, sizeof untold, "%s", pp_last_error());
}

static int check_told(const char *what, int code)
{
    if (code < 0 && (!*pp_last_error() || strcmp(pp_last_error(), untold) == 0))
        harness_fail(__FILE__, __LINE__, "%s: %d (%s) without a text", what, code, strerror(-code));
    if (code < 0 && getenv("PP_TEST_TELL"))
        fprintf(stderr, "%s: %d (%s): %s\n", what, code, strerror(-code), pp_last_error());
    return code;
}

/* Calls a public function: what it returned. A failure is told in words. */
#define TRY(call) (begin_step(#call), check_told(#call, (int)(call)))

/* Of a function that waits: what a signal interrupts is called again, and what can't come while calls fail comes when
 * none does any more. */
#define TRY_LONG(call)                                                                                                 \
    ({                                                                                                                 \
        int long_code;                                                                                                 \
        int timeout = plan->on ? 100 : -1;                                                                             \
        while ((long_code = TRY(call)) == -EINTR || (long_code == -ETIMEDOUT && timeout >= 0))                         \
            if (long_code == -ETIMEDOUT) {                                                                             \
                timeout = -1;                                                                                          \
                disarm();                                                                                              \
            }                                                                                                          \
        long_code;                                                                                                     \
    })

/* Of one that may be called again where it had no memory, or was not told in time. */
#define TRY_AGAIN(call)                                                                                                \
    ({                                                                                                                 \
        int first_code = TRY(call);                                                                                    \
        bool again = first_code == -ENOMEM || first_code == -EBUSY;                                                    \
        if (again)                                                                                                     \
            disarm();                                                                                                  \
        again ? TRY(call) : first_code;                                                                                \
    })

/* Waits for it; whether it has a result, or else an error that nobody but the failing call is to blame for. */
static bool await(pp_future *future)
{
    const pp_error *error;
    CHECK_INT(TRY_LONG(pp_future_wait(future, timeout)), 0);
    CHECK_INT(TRY(pp_future_error(future, 0, &error)), 0);
    if (!error)
        return true;
    CHECK(*error->message);
    if (getenv("PP_TEST_TELL"))
        fprintf(stderr, "a call: kind %d, code %d: %s\n", error->kind, error->task_code, error->message);
    if (error->kind != PP_ERROR_TRAVEL && error->kind != PP_ERROR_BROKEN)
        harness_fail(__FILE__, __LINE__, "a call ended with kind %d: %s", error->kind, error->message);
    return false;
}

/* ------------------------------------------------------------------------------------------------ the runs */

struct leftovers {
    int fds, mappings;
};

static struct leftovers count_leftovers(void)
{
    return (struct leftovers){.fds = count_fds(), .mappings = kit_memfd_mappings()};
}

/* Threads of the library that end by themselves may hold something a moment longer. */
static void check_leftovers(struct leftovers before)
{
    begin_step("leftovers");
    for (int i = 0;; i++, test_sleep_ms(1)) {
        struct leftovers now = count_leftovers();
        if (now.fds == before.fds && now.mappings == before.mappings)
            return;
        if (i == 2000)
            harness_fail(__FILE__, __LINE__, "left behind: descriptors %d, mappings %d", now.fds - before.fds,
                         now.mappings - before.mappings);
    }
}

static _Noreturn void own(void (*scenario)(pp_start_method), pp_start_method method)
{
    plan->owner = getpid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct leftovers before = count_leftovers();
    atomic_store(&plan->armed, true);
    scenario(method);
    disarm();
    check_leftovers(before);
    atomic_store(&plan->done, true);
    while (!atomic_load(&plan->seen))
        test_sleep_ms(1);
    exit(0);
}

struct watched {
    pid_t owner;
    int status;
    bool ended;
};

/* The test is the subreaper of what the owner leaves. How many processes there are, the owner included. */
static int reap(struct watched *watched)
{
    char path[64], text[4096];
    int status, count = 0;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
        if (pid != watched->owner)
            continue;
        watched->status = status;
        watched->ended = true;
    }
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pid == 0; /* a kernel that does not tell: some */
    ssize_t size = read(fd, text, sizeof text);
    for (ssize_t i = 0; i < size; i++)
        count += text[i] == ' ';
    close(fd);
    return count;
}

/* Until all are gone. NULL, or what does not come to pass. */
static const char *wait_for_all(struct watched *watched)
{
    double end = test_seconds() + 20 * harness_scale(); /* one wait of the library's for a zygote is of 10 s */
    bool last = false;                                  /* nobody is waited for but who is left over */
    for (int count; (count = reap(watched)) > 0; usleep(1000)) {
        bool done = atomic_load(&plan->done);
        if (!last && (done || watched->ended)) {
            last = true;
            end = test_seconds() + 2 * harness_scale();
        }
        if (done && count == 1)
            atomic_store(&plan->seen, true);
        if (test_seconds() > end)
            return last ? "leaves processes behind" : "does not end";
    }
    return NULL;
}

/* One run. NULL, or what was wrong. */
static const char *run(void (*scenario)(pp_start_method), pp_start_method method)
{
    atomic_store(&plan->failed, false);
    atomic_store(&plan->done, false);
    atomic_store(&plan->seen, false);
    atomic_store(&plan->strayed, false);
    memset(plan->counts, 0, sizeof plan->counts);
    fflush(NULL);
    struct watched watched = {.owner = fork()};
    CHECK_OK(watched.owner);
    if (watched.owner == 0)
        own(scenario, method);
    const char *wrong = wait_for_all(&watched);
    if (!watched.ended)
        kill(watched.owner, SIGKILL);
    if (wrong)
        until(reap(&watched) == 0);
    if (atomic_load(&plan->strayed))
        return "a fresh image went on as the program itself";
    return wrong                         ? wrong
           : WIFSIGNALED(watched.status) ? strsignal(WTERMSIG(watched.status))
           : watched.status != 0         ? "a check failed"
                                         : NULL;
}

/* One run under a plan. False: nothing failed, so there are fewer than n such calls. */
static bool run_with(void (*scenario)(pp_start_method), pp_start_method method, uint32_t n, bool on, unsigned *bad)
{
    char name[64];
    plan->n = n;
    plan->on = on;
    snprintf(name, sizeof name, "%s:%s:%u:%s", names[plan->call], kinds[plan->kind], n, on ? "on" : "once");
    double begin = test_seconds();
    const char *wrong = run(scenario, method);
    if (wrong)
        fprintf(stderr, "^ %s (%s): %s, in %s\n", name, strerror(errors[plan->call][on]), wrong, plan->step);
    else if (getenv("PP_TEST_TELL"))
        fprintf(stderr, "^ %s, %.3f s\n", name, test_seconds() - begin);
    *bad += wrong != NULL;
    return atomic_load(&plan->failed);
}

/* All n with PP_TEST_SLOW=1, and some more for runs that make more calls than the first has; else 1, 6, 36 and so on.
 */
static uint32_t next(uint32_t n)
{
    return getenv("PP_TEST_SLOW") ? n + 1 : 6 * n;
}

static uint32_t last(uint32_t count)
{
    return getenv("PP_TEST_SLOW") ? 2 * count : count;
}

static bool is_wanted(enum kind kind, enum call call)
{
    const char *only = getenv("PP_TEST_CALL");
    char name[64];
    snprintf(name, sizeof name, "%s:%s", names[call], kinds[kind]);
    return errors[call][0] && (!only || strcmp(only, name) == 0 || strcmp(only, names[call]) == 0);
}

/*
 * Each call that the scenario makes fails in each of these kinds of processes. PP_TEST_CALL=open:worker leaves the rest
 * out, PP_TEST_TELL shows what came of each.
 */
static void sweep(void (*scenario)(pp_start_method), pp_start_method method, unsigned of)
{
    uint32_t counts[KINDS][CALLS];
    unsigned bad = 0;
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind names processes after itself");
    if (plan) {
        atomic_store(&plan->strayed, true);
        _exit(1);
    }
    setenv("PP_TEST_PLAN", "1", 1);
    board_make();
    plan = (struct plan *)word(0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    plan->n = 0;
    const char *wrong = run(scenario, method);
    if (wrong)
        harness_fail(__FILE__, __LINE__, "where nothing fails: %s", wrong);
    memcpy(counts, plan->counts, sizeof counts);
    for (int kind = 0; kind < KINDS; kind++)
        for (int call = 0; call < CALLS; call++) {
            uint32_t most = counts[kind][call];
            if (!(of >> kind & 1) || most == 0 || !is_wanted(kind, call))
                continue;
            plan->kind = kind;
            plan->call = call;
            for (uint32_t n = 1; n <= last(most) && run_with(scenario, method, n, false, &bad); n = next(n))
                ;
            for (uint32_t n = 1; errors[call][true] && n <= most && run_with(scenario, method, n, true, &bad);
                 n = next(next(next(n))))
                ;
        }
    CHECK_INT(bad, 0);
}

#endif
