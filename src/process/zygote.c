/* SPDX-License-Identifier: MIT */
/*
 * The zygote's loop. One thread, one epoll set: the control socket, the owner's pidfd, a signalfd for SIGCHLD, and a
 * socket for each connection. Called by birth.c (in a fork of the owner) and image.c (in a fresh image).
 *
 * What it owes an owner that does not read is kept in the records of the children, at most one INVITED, STARTED and
 * ENDED each, and sent when the socket has room (records.c); so it never blocks and never grows beyond RECORDS_MAX
 * (records.c) for each connection.
 */
#include "process/zygote.h"

#include "base/affinity.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "process/begin.h"
#include "process/identity.h"
#include "process/loop.h"
#include "process/pid.h"
#include "process/records.h"
#include "process/sanitizer.h"
#include "process/score.h"
#include "process/spare.h"
#include "process/spawn.h"
#include "process/toll.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWNER_LOOK_MS 100
#define REST_MS 5 /* of quiet: a spare that is made then takes no processor from what a start is for */
#define STACK_DEFAULT (8u << 20)

static struct {
    struct pp__zygote_setup setup;
    pid_t pid;
    int epoll;
    int score; /* its own (score.h); -1: it is opened for the next fork */
    struct pp__source control, owner, deaths;
    void *stack; /* for the next child; never touched here, so each finds it untouched */
    size_t stack_size;
    bool may_leave; /* its processor: no mask is set that could be lost, nor a filter that kills for it */
    bool in_a_row;  /* the last start came within a rest behind the end of a worker that had left */
    bool all_left;  /* and no worker is there any more, since one that has left, too */
    uint64_t left_at;
    unsigned owner_processor; /* that of the last start, then */
} zygote;

/* -------------------------------------------------------------------------------------------- small things */

static bool owner_is_gone_by_look(const struct pp__zygote_setup *setup)
{
    if (PP_SYS(kill)(setup->owner_pid, 0) != 0 && errno == ESRCH)
        return true;
    return setup->owner_start != 0 && pp__process_start(setup->owner_pid) != setup->owner_start;
}

bool pp__zygote_abandoned(const struct pp__zygote_setup *setup)
{
    struct pollfd watched[2] = {{.fd = setup->control, .events = POLLRDHUP}, {.fd = setup->owner, .events = POLLIN}};
    pp__fd_look(watched, 2);
    return (watched[0].revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0 || watched[1].revents != 0;
}

void pp__zygote_say(const struct pp__zygote_setup *setup, int error, bool done, const char *text)
{
    struct pp__wire_ready ready = {.error = error, .pid = getpid(), .done = done};
    snprintf(ready.text, sizeof ready.text, "%s", text);
    int self = pp__pidfd_open(getpid());
    if (pp__fd_send(setup->control, &ready, sizeof ready, &self, self >= 0) != 0)
        _exit(1); /* the owner would wait for nothing */
    if (self >= 0)
        close(self);
}

static void hear_out(struct pp__connection *connection);

/* What outlives us is left to who adopts orphans. */
static _Noreturn void leave(void)
{
    pp__connections_visit(hear_out);
    pp__records_kill_all();
    pp__spare_kill();
    _exit(0);
}

bool pp__zygote_watch(struct pp__source *source, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return PP_SYS(epoll_ctl)(zygote.epoll, operation, source->fd, &event) == 0;
}

/* ----------------------------------------------------------------------------------------------- connections */

/* A stopped zygote would see nothing: whatever comes by these sockets, a pool's requests and the owner's end above all,
 * raises SIGCONT, which continues us though it is blocked. */
static void go_on_by(int socket)
{
    int flags = PP_SYS(fcntl)(socket, F_GETFL);
    PP_SYS(fcntl)(socket, F_SETOWN, zygote.pid);
    PP_SYS(fcntl)(socket, F_SETSIG, SIGCONT);
    if (flags >= 0)
        PP_SYS(fcntl)(socket, F_SETFL, flags | O_ASYNC);
}

/* The task's stack, with a page below it that faults. Kept for the next child of the same size. */
static int prepare_stack(uint64_t wanted)
{
    if (wanted > PP__STACK_MAX)
        return ENOMEM;
#ifdef PP_TSAN
    return 0;
#else
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = ((wanted ? (size_t)wanted : STACK_DEFAULT) + page - 1) / page * page;
    if (zygote.stack && zygote.stack_size == size)
        return 0;
    char *memory = PP_SYS(mmap)(NULL, size + page, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED)
        return ENOMEM;
    if (PP_SYS(mprotect)(memory, page, PROT_NONE) != 0) {
        munmap(memory, size + page);
        return ENOMEM;
    }
    if (zygote.stack)
        munmap((char *)zygote.stack - page, zygote.stack_size + page);
    zygote.stack = memory + page;
    zygote.stack_size = size;
    return 0;
#endif
}

int pp__zygote_stack(uint64_t wanted, void **stack, size_t *size)
{
    int error = prepare_stack(wanted);
    *stack = zygote.stack;
    *size = zygote.stack_size;
    return error;
}

/*
 * As long as both share their memory, each page that one of them writes to is copied for it, and both wait for each
 * other in the kernel: what can be done before the fork, or once by the zygote, is not left to one of them.
 * The higher score is the zygote's, too, for as long as the fork takes.
 */
pid_t pp__zygote_fork(void)
{
    struct pp__score score;
    if (zygote.score < 0)
        zygote.score = pp__score_open();
    pp__score_raise(zygote.score, &score);
    pid_t pid = PP_SYS(fork)();
    if (pid < 0)
        pid = -errno;
    if (pid != 0)
        pp__score_lower(zygote.score, &score);
    if (pid > 0)
        setpgid(pid, pid); /* the child does so too: whoever comes first */
    return pid;
}

static pid_t fork_child(const struct pp__plan *plan, const int *fds, size_t count)
{
    PP_FAULT("zygote.start.before");
    pid_t pid = pp__zygote_fork();
    if (pid == 0)
        pp__child_begin(&(struct pp__beginning){.setup = &zygote.setup,
                                                .plan = plan,
                                                .fds = fds,
                                                .count = count,
                                                .zygote = zygote.pid,
                                                .line = -1,
                                                .stack = zygote.stack,
                                                .stack_size = zygote.stack_size});
    PP_FAULT("zygote.start.forked");
    return pid;
}

static void fail_start(struct pp__connection *connection, uint64_t serial, int error)
{
    struct pp__child_record *record = pp__record_create(connection, serial);
    if (!record)
        return;
    record->error = error;
    pp__record_owe(record, PP__OWES_FAILED);
}

/* It has started when it has taken its plan. */
static void spawn_child(struct pp__child_record *record, const struct pp__plan *plan, const int *fds, size_t count)
{
    record->error = pp__spawn_start(&zygote.setup, plan, fds, count, record, &record->spawned, &record->pid);
    record->told_pid = record->pid;
    if (record->error) {
        pp__record_owe(record, PP__OWES_FAILED); /* which frees the record as soon as it is told */
        return;
    }
    record->kills_before = pp__toll_count();
    if (zygote.setup.invites)
        pp__record_owe(record, PP__OWES_INVITED);
}

void pp__zygote_joined(void *joined, pid_t worker)
{
    struct pp__child_record *record = joined;
    record->told_pid = worker;
    if (record->watched)
        record->pidfd = pp__spawn_pidfd(record->spawned);
    pp__record_owe(record, PP__OWES_STARTED);
}

void pp__zygote_ended(void *ended, int code, int status)
{
    struct pp__child_record *record = ended;
    record->code = code;
    record->status = status;
    if (record->connection)
        pp__record_owe(record, PP__OWES_ENDED);
    else if (pp__record_is_done(record))
        pp__record_free(record);
}

static bool plan_is_sound(const struct pp__plan *plan)
{
    return plan->size <= PP__PLAN_MAX && memchr(plan->name, 0, sizeof plan->name) != NULL;
}

static void handle_start(struct pp__connection *connection, const void *message, const int *fds, size_t count)
{
    const struct pp__wire_start *start = message;
    const struct pp__plan *plan = &start->plan;
    if (!plan_is_sound(plan) || pp__record_find(connection, plan->serial)) {
        pp__connection_drop(connection);
        return;
    }
    int error = prepare_stack(plan->stack_size);
    if (error) {
        fail_start(connection, plan->serial, error);
        return;
    }
    struct pp__child_record *record = pp__record_create(connection, plan->serial);
    if (!record)
        return;
    record->watched = plan->watched != 0;
    record->outlives = plan->outlives != 0;
    if (zygote.setup.spawn) {
        spawn_child(record, plan, fds, count);
        return;
    }
    zygote.all_left = false;
    zygote.owner_processor = start->processor;
    zygote.in_a_row = pp__now() - zygote.left_at < REST_MS * PP__MILLISECOND;
    record->kills_before = pp__toll_count();
    pid_t pid = pp__spare_take(plan, fds, count);
    if (pid == 0)
        pid = fork_child(plan, fds, count);
    record->error = pid < 0 ? -pid : 0;
    record->pid = pid > 0 ? pid : 0;
    record->told_pid = record->pid;
    if (pid > 0 && record->watched)
        record->pidfd = pp__fd_adopt(pp__pidfd_open(pid), "a pidfd");
    pp__record_owe(record, pid > 0 ? PP__OWES_STARTED : PP__OWES_FAILED);
}

static void handle_kill(struct pp__connection *connection, const void *message, const int *fds, size_t count)
{
    (void)fds;
    (void)count;
    struct pp__child_record *record = pp__record_find(connection, ((const struct pp__wire_kill *)message)->serial);
    if (!record)
        return;
    pp__record_kill(record);
    if (record->spawned)
        pp__spawn_settle(record->spawned);
}

/* SIGTERM, which a stopped child takes too. Its group is its own affair, until it has ended. */
static void handle_terminate(struct pp__connection *connection, const void *message, const int *fds, size_t count)
{
    (void)fds;
    (void)count;
    struct pp__child_record *record = pp__record_find(connection, ((const struct pp__wire_kill *)message)->serial);
    if (record && record->spawned)
        pp__spawn_terminate(record->spawned);
    if (!record || record->pid <= 0)
        return;
    PP_SYS(kill)(record->pid, SIGTERM);
    PP_SYS(kill)(record->pid, SIGCONT);
}

/* What may come on a connection. Anything else costs the connection. */
static const struct {
    uint32_t type;
    size_t size;
    size_t fds_max;
    void (*handle)(struct pp__connection *connection, const void *message, const int *fds, size_t count);
} requests[] = {
    {PP__WIRE_START, sizeof(struct pp__wire_start), PP__PLAN_FDS, handle_start},
    {PP__WIRE_KILL, sizeof(struct pp__wire_kill), 0, handle_kill},
    {PP__WIRE_TERMINATE, sizeof(struct pp__wire_kill), 0, handle_terminate},
};

union request {
    uint32_t type;
    struct pp__wire_start start;
    struct pp__wire_kill kill;
};

static void handle_request(struct pp__connection *connection, const union request *request, size_t size, const int *fds,
                           size_t count)
{
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        if (requests[i].type == request->type && requests[i].size == size && count <= requests[i].fds_max) {
            requests[i].handle(connection, request, fds, count);
            return;
        }
    }
    pp__connection_drop(connection);
}

/* The descriptors of a start were lost for want of room in our table; its bytes have come all the same. */
static void handle_lost_descriptors(struct pp__connection *connection, const union request *request)
{
    if (request->type == PP__WIRE_START)
        fail_start(connection, request->start.plan.serial, EMFILE);
}

/* What its owner has asked for before its end: of that, the ends of children are still owed, as some go on without it.
 */
static void hear_out(struct pp__connection *connection)
{
    ssize_t size;
    do {
        union request request = {0};
        int fds[PP__FD_SEND_MAX];
        size_t count = PP__FD_SEND_MAX;
        size = pp__fd_receive(connection->source.fd, &request, sizeof request, fds, &count, MSG_DONTWAIT);
        for (size_t i = 0; size >= 0 && i < count; i++)
            pp__fd_close(fds[i]);
        if (size == sizeof request.kill && request.type == PP__WIRE_KILL)
            handle_kill(connection, &request, NULL, 0);
        else if (size == sizeof request.kill && request.type == PP__WIRE_TERMINATE)
            handle_terminate(connection, &request, NULL, 0);
    } while (size > 0 || size == -EMFILE || size == -EMSGSIZE);
}

static void connection_ready(struct pp__source *source, uint32_t events)
{
    struct pp__connection *connection = (struct pp__connection *)source;
    if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) {
        hear_out(connection);
        pp__connection_drop(connection);
        return;
    }
    if (events & EPOLLOUT)
        pp__connection_pay(connection);
    if (!(events & EPOLLIN))
        return;
    union request request = {0};
    int fds[PP__FD_SEND_MAX];
    size_t count = PP__FD_SEND_MAX;
    ssize_t size = pp__fd_receive(source->fd, &request, sizeof request, fds, &count, MSG_DONTWAIT);
    if (size > 0)
        handle_request(connection, &request, (size_t)size, fds, count);
    else if (size == -EMFILE)
        handle_lost_descriptors(connection, &request);
    else if (size != -EAGAIN)
        pp__connection_drop(connection);
    for (size_t i = 0; size >= 0 && i < count; i++)
        pp__fd_close(fds[i]); /* a message of no bytes looks like an end, and can bring some too */
}

static bool is_seqpacket(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    return PP_SYS(getsockopt)(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

static void connect_to(int fd)
{
    struct pp__connection *connection = is_seqpacket(fd) ? pp__connection_create(fd, connection_ready) : NULL;
    if (!connection) {
        pp__fd_close(fd); /* which the owner sees as an end */
        return;
    }
    go_on_by(fd);
    if (!pp__zygote_watch(&connection->source, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP))
        pp__connection_drop(connection);
}

/* ---------------------------------------------------------------------------------------------- other sources */

static void control_ready(struct pp__source *source, uint32_t events)
{
    if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
        leave();
    struct pp__wire_connect message = {0};
    int fds[PP__FD_SEND_MAX];
    size_t count = PP__FD_SEND_MAX;
    ssize_t size = pp__fd_receive(source->fd, &message, sizeof message, fds, &count, MSG_DONTWAIT);
    if (size == 0)
        leave();
    if (size < 0)
        return;
    if (size == sizeof message && message.type == PP__WIRE_CONNECT && count == 1) {
        connect_to(fds[0]);
        return;
    }
    for (size_t i = 0; i < count; i++)
        pp__fd_close(fds[i]);
}

static void owner_ready(struct pp__source *source, uint32_t events)
{
    (void)source;
    (void)events;
    leave();
}

/* Its end may have been told before, or come later: pp__connection_pay frees what is done. */
static void bury_spawned(struct pp__child_record *record, const siginfo_t *seen)
{
    struct pp__connection *connection = record->connection;
    bool over = pp__spawn_is_over(record->spawned);
    if (!over)
        pp__spawn_reaped(record->spawned, seen->si_code, seen->si_status);
    else if (!connection)
        pp__record_free(record);
    else if (!connection->waits_for_room)
        pp__connection_pay(connection);
}

/* Nobody waits for it; but a kill that explains its end must explain no other one's. */
static bool bury_spare(const siginfo_t *seen)
{
    struct pp__child_record record = {.pid = seen->si_pid};
    siginfo_t end;
    if (!pp__spare_is(seen->si_pid, &record.kills_before))
        return false;
    if (seen->si_status == SIGKILL && seen->si_code == CLD_KILLED)
        pp__toll_explains(record.pid, record.kills_before);
    PP_SYS(waitid)(P_PID, (id_t)seen->si_pid, &end, WEXITED | WNOHANG);
    pp__spare_ended();
    return true;
}

static bool is_any(pid_t pid)
{
    (void)pid;
    return true;
}

/* Its record has no pid any more. */
static void note_leave(void)
{
    zygote.left_at = pp__now();
    zygote.all_left = zygote.in_a_row && zygote.may_leave && !pp__records_some(is_any);
}

/*
 * One dead child: its group is killed while its number, which is the group's, can't be another's. Orphans of children
 * come here too, since the zygote is a subreaper; they are only reaped.
 */
static void bury(const siginfo_t *seen)
{
    struct pp__child_record *record = pp__record_find_pid(seen->si_pid);
    PP_FAULT("zygote.reap");
    bool goes_on = record && record->spawned && pp__spawn_goes_on(record->spawned, seen->si_code, seen->si_status);
    if (record && !goes_on)
        PP_SYS(kill)(-seen->si_pid, SIGKILL);
    if (record && !goes_on && seen->si_status == SIGKILL && seen->si_code == CLD_KILLED && !record->killed &&
        pp__toll_explains(record->pid, record->kills_before))
        record->error = ENOMEM;
    siginfo_t end;
    PP_SYS(waitid)(P_PID, (id_t)seen->si_pid, &end, WEXITED | WNOHANG);
    if (!record) {
        pp__spawn_reaped_stranger(seen->si_pid, seen->si_code, seen->si_status);
        return;
    }
    record->pid = 0;
    if (seen->si_code == CLD_EXITED && seen->si_status == 0)
        note_leave();
    if (record->spawned)
        bury_spawned(record, seen);
    else
        pp__zygote_ended(record, seen->si_code, seen->si_status);
}

static void deaths_ready(struct pp__source *source, uint32_t events)
{
    (void)events;
    struct signalfd_siginfo ignored; /* signals of one number gather; another one makes this ready again */
    ssize_t size = PP_SYS(read)(source->fd, &ignored, sizeof ignored);
    (void)size; /* what has ended is asked for below in any case */
    for (;;) {
        siginfo_t seen = {.si_pid = 0};
        if (PP_SYS(waitid)(P_ALL, 0, &seen, WEXITED | WNOHANG | WNOWAIT) != 0 || seen.si_pid == 0)
            return;
        if (!bury_spare(&seen))
            bury(&seen);
    }
}

/* -------------------------------------------------------------------------------------------------- the loop */

/* Before it has said that it is ready: its owner learns why it never will be. */
static _Noreturn void give_up(int error, const char *what)
{
    char text[128];
    snprintf(text, sizeof text, "the process that starts workers has no %s: %s", what, pp__strerror(-error));
    pp__zygote_say(&zygote.setup, error, true, text);
    _exit(1);
}

/* One that is deaf on one of these is worse than none. */
static void open_source(struct pp__source *source, int fd, void (*ready)(struct pp__source *, uint32_t))
{
    *source = (struct pp__source){.ready = ready, .fd = fd};
    if (fd < 0)
        give_up(fd, "descriptor to watch");
    if (!pp__zygote_watch(source, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP))
        give_up(-errno, "epoll set");
}

static int open_deaths(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    return pp__fd_adopt(PP_SYS(signalfd)(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), "a signalfd");
}

static void open_sources(void)
{
    zygote.epoll = pp__fd_adopt(PP_SYS(epoll_create1)(EPOLL_CLOEXEC), "an epoll set");
    if (zygote.epoll < 0)
        give_up(zygote.epoll, "epoll set");
    open_source(&zygote.deaths, open_deaths(), deaths_ready);
    open_source(&zygote.control, zygote.setup.control, control_ready);
    go_on_by(zygote.setup.control);
    if (zygote.setup.owner >= 0)
        open_source(&zygote.owner, zygote.setup.owner, owner_ready);
}

static void open_invitations(void)
{
    int error = pp__spawn_open(&zygote.setup);
    if (error)
        give_up(error, "socket for workers that come by invitation");
}

static void take_exits(void)
{
    int error = pp__child_take_exits();
    if (error)
        give_up(error, "handlers of exit");
}

/* Starts in a row find these files open; while there are none nothing is kept from being unmounted. */
static void close_files(void)
{
    pp__toll_close();
    pp__fd_close(zygote.score);
    zygote.score = -1;
}

/* A mask of all processors that there are is none, or says no more. */
static bool may_leave(void)
{
    cpu_set_t mine;
    return prctl(PR_GET_SECCOMP) == 0 && PP_SYS(sched_getaffinity)(0, sizeof mine, &mine) == 0 &&
           CPU_COUNT(&mine) >= sysconf(_SC_NPROCESSORS_ONLN);
}

/* Whether the next one is to be forked as soon as nothing else is to be done. */
static bool is_next_due(void)
{
    return zygote.all_left && pp__spare_is_wanted(&zygote.setup);
}

/*
 * Where starts follow each other in a row, the next one is to find a process forked ahead, too. It is made while the
 * owner ends one pool and makes the next, and so on another processor than that; where there is none it would be in the
 * way.
 */
static void make_next(void)
{
    cpu_set_t before;
    zygote.all_left = false;
    if (!pp__affinity_leave(zygote.owner_processor, &before))
        return;
    pp__spare_make(&zygote.setup, zygote.pid, pp__toll_count(), &before);
    pp__affinity_restore(&before);
}

/* Nothing was asked for a while, and no death is waiting to be looked at. */
static void rest(void)
{
    pp__toll_settle();
    if (pp__spare_is_wanted(&zygote.setup))
        pp__spare_make(&zygote.setup, zygote.pid, pp__toll_count(), NULL);
    else
        pp__spare_rest();
    close_files();
}

static int patience(void)
{
    if (is_next_due())
        return 0;
    if (pp__spare_is_wanted(&zygote.setup) || pp__spare_is_cold() || pp__toll_is_open() || zygote.score >= 0)
        return REST_MS;
    return zygote.setup.owner >= 0 ? pp__toll_patience() : OWNER_LOOK_MS;
}

/* One event at a time: what one handler frees, no other event of the same batch can name. */
void pp__zygote_run(const struct pp__zygote_setup *setup)
{
    zygote.setup = *setup;
    zygote.pid = getpid();
    zygote.stack = NULL;
    pp__toll_init(); /* a worker that makes pools of its own has its zygote's */
    zygote.score = -1;
    zygote.in_a_row = zygote.all_left = false;
    zygote.left_at = 0;
    zygote.may_leave = may_leave();
    pp__records_init();
    pp__spare_init();
    pp__module_note_birth();
    take_exits();
    open_sources();
    open_invitations();
    pp__zygote_say(setup, 0, true, "");
    for (;;) {
        struct epoll_event event;
        int count = PP_SYS(epoll_wait)(zygote.epoll, &event, 1, patience());
        if (setup->owner < 0 && owner_is_gone_by_look(setup))
            leave();
        if (count == 0 && is_next_due())
            make_next();
        else if (count == 0)
            rest();
        if (count == 1) {
            struct pp__source *source = event.data.ptr;
            source->ready(source, event.events);
        }
    }
}
