/* SPDX-License-Identifier: MIT */
/*
 * The owner's handle to a zygote, and the words that it says to it. Nothing here blocks but pp_launcher_create; all
 * functions may be called from any thread, and each message is one send.
 */
#include "process/launcher.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "process/birth.h"
#include "process/image.h"
#include "process/owner.h"
#include "process/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONNECT_WAIT_MS 1000

struct pp_launcher {
    _Atomic uint32_t references;
    uint32_t owner; /* pp__owner_token() of the process that made it */
    pp_start_method method;
    pp_starter starter;       /* zeros: none */
    struct pp__zygote zygote; /* none for inline: descriptors are -1 */
    struct pp__cgroup groups[PP__CGROUP_VERSIONS];
};

/* ---------------------------------------------------------------------------------------------- options */

/* What the environment asks for, if it does. */
static int override_method(pp_start_method *method)
{
    static const struct {
        const char *name;
        pp_start_method method;
    } names[] = {{"fork", PP_START_FORK},
                 {"forkserver", PP_START_FORKSERVER},
                 {"spawn", PP_START_SPAWN},
                 {"inline", PP_START_INLINE}};
    const char *asked = secure_getenv("PROCPOOL_START");
    if (!asked || !*asked)
        return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(asked, names[i].name) == 0) {
            *method = names[i].method;
            return 0;
        }
    }
    return pp__fail(
        -EINVAL, "PROCPOOL_START is \"%.64s\" in the environment: fork, forkserver, spawn and inline are known", asked);
}

static int check_inherit(const pp_launcher_options *options)
{
    if (options->inherit_fd_count > PP__INHERIT_MAX)
        return pp__fail(-EINVAL, "%zu descriptors to inherit: at most %d", options->inherit_fd_count, PP__INHERIT_MAX);
    if (options->inherit_fd_count > 0 && !options->inherit_fds)
        return pp__fail(-EINVAL, "inherit_fds is NULL and inherit_fd_count is %zu", options->inherit_fd_count);
    for (size_t i = 0; i < options->inherit_fd_count; i++)
        if (fcntl(options->inherit_fds[i], F_GETFD) < 0)
            return pp__fail(-EBADF, "inherit_fds[%zu] is %d, which is not open", i, options->inherit_fds[i]);
    return 0;
}

static int check_options(const pp_launcher_options *options)
{
    if ((unsigned)options->start_method > PP_START_INLINE)
        return pp__fail(-EINVAL, "start_method %d is unknown", (int)options->start_method);
    int error = pp__check_switch("close_fds", options->close_fds);
    if (!error)
        error = pp__check_switch("no_spare", options->no_spare);
    if (!error)
        error = pp__check_reserved(options->reserved, sizeof options->reserved / sizeof *options->reserved);
    return error ? error : check_inherit(options);
}

static int choose_method(const pp_launcher_options *options, pp_start_method *method)
{
    *method = options->start_method;
    if (*method == PP_START_DEFAULT && (options->command || options->starter))
        *method = PP_START_SPAWN;
    else if (*method == PP_START_DEFAULT)
        *method = pp__worker_main_was_called() ? PP_START_FORKSERVER : PP_START_FORK;
    if (options->preload && options->preload[0] && *method != PP_START_FORKSERVER)
        return pp__fail(-EINVAL,
                        "preload is for PP_START_FORKSERVER only; under fork, workers have what the owner has");
    if (options->command && (*method != PP_START_SPAWN || !options->command[0]))
        return pp__fail(-EINVAL, "command is for PP_START_SPAWN only, and needs a word");
    if (options->starter && (*method != PP_START_SPAWN || options->command || !options->starter->start))
        return pp__fail(-EINVAL, "starter is for PP_START_SPAWN without a command only, and needs a start function");
    int error = override_method(method);
    if (error)
        return error;
    if ((*method == PP_START_FORKSERVER || *method == PP_START_SPAWN) && !pp__worker_main_was_called())
        return pp__fail(
            -ENOSYS,
            "the start method %s needs a call of pp_worker_main() first thing in main(), and no raised privileges",
            *method == PP_START_SPAWN ? "spawn" : "forkserver");
    return 0;
}

/* ----------------------------------------------------------------------------------------------- the handle */

static int make_zygote(pp_start_method method, const pp_launcher_options *options, struct pp__zygote *zygote)
{
    switch (method) {
    case PP_START_FORK:
        return pp__birth_fork(options, zygote);
    case PP_START_FORKSERVER:
        return pp__birth_image(options, false, zygote);
    case PP_START_SPAWN:
        return pp__birth_image(options, true, zygote);
    default:
        *zygote = (struct pp__zygote){.control = -1, .pidfd = -1};
        return 0;
    }
}

static int create(const pp_launcher_options *options, bool for_pools, pp_launcher **launcher)
{
    pp_start_method method;
    int error = check_options(options);
    if (error == 0)
        error = choose_method(options, &method);
    if (error == 0 && method != PP_START_INLINE && pp__owner_kin() == PP__KIN_NONE)
        error = pp__fail(-EPERM, "%s is a daemon, which may start no processes", program_invocation_short_name);
    if (error)
        return error;
    pp_launcher *made = PP_SYS(calloc)(1, sizeof *made);
    if (!made)
        return pp__fail(-ENOMEM, "no memory for a launcher");
    made->references = 1;
    made->owner = pp__owner_token();
    made->method = method;
    if (options->starter && method == PP_START_SPAWN)
        made->starter = *options->starter;
    if (for_pools && method != PP_START_INLINE)
        pp__cgroup_find_own("pids", made->groups); /* here, as no pool is to wait for it */
    error = make_zygote(method, options, &made->zygote);
    if (error) {
        free(made);
        return error;
    }
    *launcher = made;
    return 0;
}

static int create_uncancelled(const pp_launcher_options *options, bool for_pools, pp_launcher **launcher)
{
    int error = pp__owner_enter();
    if (error)
        return error;
    int state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    error = create(options, for_pools, launcher);
    pthread_setcancelstate(state, NULL);
    return error;
}

int pp_launcher_create(const pp_launcher_options *options, pp_launcher **launcher)
{
    static const pp_launcher_options defaults;
    if (!launcher)
        return pp__fail(-EINVAL, "pp_launcher_create: launcher is NULL");
    return create_uncancelled(options ? options : &defaults, true, launcher);
}

int pp__launcher_create_for_process(const pp_launcher_options *options, pp_launcher **launcher)
{
    return create_uncancelled(options, false, launcher);
}

pp_launcher *pp_launcher_ref(pp_launcher *launcher)
{
    if (launcher && launcher->owner == pp__owner_token())
        atomic_fetch_add_explicit(&launcher->references, 1, memory_order_relaxed);
    return launcher;
}

/* In a forked child the sockets are still the owner's. */
void pp_launcher_unref(pp_launcher *launcher)
{
    if (!launcher || launcher->owner != pp__owner_token())
        return;
    /* Each publishes what its thread did with the launcher to the one that frees it: it pairs with itself in another
     * thread. */
    if (atomic_fetch_sub_explicit(&launcher->references, 1, memory_order_acq_rel) != 1)
        return;
    pp__launcher_disconnect(launcher->zygote.control);
    pp__fd_close(launcher->zygote.pidfd);
    free(launcher);
}

pp_start_method pp__launcher_method(const pp_launcher *launcher)
{
    return launcher->method;
}

const struct pp__cgroup *pp__launcher_groups(const pp_launcher *launcher)
{
    return launcher->groups;
}

void pp__launcher_find_groups(const pp_launcher *launcher, struct pp__cgroup groups[PP__CGROUP_VERSIONS])
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/cgroup", (int)launcher->zygote.pid);
    pp__cgroup_find(path, "/proc/self/mountinfo", "pids", groups);
}

const pp_starter *pp__launcher_starter(const pp_launcher *launcher)
{
    return launcher->starter.start ? &launcher->starter : NULL;
}

/* ------------------------------------------------------------------------------------------------- epitaph */

bool pp__launcher_is_gone(const pp_launcher *launcher)
{
    if (launcher->zygote.pidfd >= 0) {
        struct pollfd watched = {.fd = launcher->zygote.pidfd, .events = POLLIN};
        return pp__fd_look(&watched, 1) == 1;
    }
    struct pollfd watched = {.fd = launcher->zygote.control, .events = POLLRDHUP};
    return launcher->zygote.control >= 0 && pp__fd_look(&watched, 1) == 1;
}

/* What newer kernels (6.15) keep for a pidfd after the process was reaped, which is all that who is not its parent can
 * learn. */
struct pidfd_info {
    uint64_t mask, cgroup;
    uint32_t pid, tgid, ppid, ids[8];
    int32_t exit_code;
};
_Static_assert(sizeof(struct pidfd_info) == 64, "the kernel's first version of the struct");
#define INFO_EXIT (UINT64_C(1) << 3)
#define GET_INFO _IOWR(0xff, 11, struct pidfd_info)

bool pp__pidfd_exit_code(int pidfd, int *code)
{
    struct pidfd_info info = {.mask = INFO_EXIT};
    if (pidfd < 0 || PP_SYS(ioctl)(pidfd, GET_INFO, &info) != 0 || !(info.mask & INFO_EXIT))
        return false;
    *code = info.exit_code;
    return true;
}

const char *pp__launcher_epitaph(pp_launcher *launcher, char *text, size_t size)
{
    int pid = (int)launcher->zygote.pid, code;
    if (size > 0)
        text[0] = '\0';
    if (!pp__launcher_is_gone(launcher))
        return text;
    if (!pp__pidfd_exit_code(launcher->zygote.pidfd, &code))
        snprintf(text, size, "the process that starts workers (pid %d) is gone", pid);
    else if (WIFSIGNALED(code))
        snprintf(text, size, "the process that starts workers (pid %d) was killed by signal %d", pid, WTERMSIG(code));
    else
        snprintf(text, size, "the process that starts workers (pid %d) exited with status %d", pid, WEXITSTATUS(code));
    return text;
}

void pp__launcher_describe_end(int code, int status, char *text, size_t size)
{
    const char *unjoined = code & PP__END_UNJOINED
                               ? " without having joined the pool: its program has to call pp_worker_main() first, or "
                                 "pp_worker_attach()"
                               : "";
    code &= ~PP__END_UNJOINED;
    if (code == PP__END_EXEC)
        snprintf(text, size, "could not run its program: %s", pp__strerror(status));
    else if (code == PP__END_UNKNOWN)
        snprintf(text, size, "ended in an unknown way%s", unjoined);
    else if (code == CLD_EXITED)
        snprintf(text, size, "exited with status %d%s", status, unjoined);
    else
        snprintf(text, size, "was killed by signal %d (%s)%s%s", status, strsignal(status),
                 code == CLD_DUMPED ? ", core dumped" : "", unjoined);
}

/* ---------------------------------------------------------------------------------------------- connections */

static int fail_gone(pp_launcher *launcher)
{
    char text[128];
    pp__launcher_epitaph(launcher, text, sizeof text);
    return pp__fail(-EPIPE, "%s", *text ? text : "the process that starts workers does not answer");
}

/* The zygote reads at once whatever comes; only one that is stopped lets its socket fill. */
static int send_connect(pp_launcher *launcher, int end)
{
    struct pp__wire_connect message = {.type = PP__WIRE_CONNECT};
    for (int waited = 0;; waited += 10) {
        int error = pp__fd_send(launcher->zygote.control, &message, sizeof message, &end, 1);
        if (error == -EPIPE)
            return fail_gone(launcher);
        if (error != -EAGAIN)
            return error ? pp__fail_errno(-error, "a connection to the process that starts workers") : 0;
        if (waited >= CONNECT_WAIT_MS)
            return pp__fail(-EAGAIN, "the process that starts workers (pid %d) does not read",
                            (int)launcher->zygote.pid);
        struct pollfd watched = {.fd = launcher->zygote.control, .events = POLLOUT};
        PP_SYS(poll)(&watched, 1, 10);
    }
}

int pp__launcher_connect(pp_launcher *launcher)
{
    int pair[2], state;
    if (launcher->owner != pp__owner_token())
        return pp__owner_refuse();
    if (pp__launcher_is_gone(launcher))
        return fail_gone(launcher); /* a child that it has just forked may still have its end of the socket */
    int error = pp__fd_socketpair(pair);
    if (error)
        return error;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    error = send_connect(launcher, pair[1]);
    pthread_setcancelstate(state, NULL);
    pp__fd_close(pair[1]);
    if (error == 0)
        return pair[0];
    pp__fd_close(pair[0]);
    return error;
}

void pp__launcher_disconnect(int connection)
{
    if (connection < 0)
        return;
    shutdown(connection, SHUT_RDWR);
    pp__fd_close(connection);
}

int pp__launcher_start(int connection, const struct pp__plan *plan, const int *fds, size_t count)
{
    struct pp__wire_start message = {
        .type = PP__WIRE_START, .processor = (uint32_t)PP_SYS(sched_getcpu)(), .plan = *plan};
    return pp__fd_send(connection, &message, sizeof message, fds, count);
}

int pp__launcher_kill(int connection, uint64_t serial)
{
    struct pp__wire_kill message = {.type = PP__WIRE_KILL, .serial = serial};
    return pp__fd_send(connection, &message, sizeof message, NULL, 0);
}

int pp__launcher_terminate(int connection, uint64_t serial)
{
    struct pp__wire_kill message = {.type = PP__WIRE_TERMINATE, .serial = serial};
    return pp__fd_send(connection, &message, sizeof message, NULL, 0);
}

/* A zygote that died with our words unread shows as an end (a reset, in fact) once, before what it said itself: look
 * again. */
static int take_report(int connection, struct pp__report *report, int *fd, size_t *count)
{
    struct pp__report got;
    size_t room = count ? *count : 0;
    ssize_t size = pp__fd_receive(connection, &got, sizeof got, fd, count, MSG_DONTWAIT);
    if (size == 0 && count)
        *count = room;
    if (size == 0)
        size = pp__fd_receive(connection, &got, sizeof got, fd, count, MSG_DONTWAIT);
    if (size == -EAGAIN)
        return 0;
    if (size == -EMFILE || size == -ENFILE || size == -ENOMEM)
        return (int)size;
    if (size != sizeof got)
        return -EPIPE;
    *report = got;
    return 1;
}

int pp__launcher_report(int connection, struct pp__report *report)
{
    int got = take_report(connection, report, NULL, NULL);
    return got < 0 ? -EPIPE : got;
}

int pp__launcher_report_of_watched(int connection, struct pp__report *report, int *pidfd)
{
    size_t count = 1;
    int got = take_report(connection, report, pidfd, &count);
    if (got != 1 || count == 0)
        *pidfd = -1;
    return got;
}
