/* SPDX-License-Identifier: MIT */
/*
 * The zygote's loop. One thread, one epoll set: the control socket, the owner's pidfd, a signalfd for SIGCHLD, and a
 * socket for each connection. Called by birth.c (in a fork of the owner) and image.c (in a fresh image).
 *
 * What it owes an owner that does not read is kept in the records of the children, at most one INVITED, STARTED and ENDED each,
 * and sent when the socket has room; so it never blocks and never grows beyond RECORDS_MAX records a connection.
 */
#include "process/zygote.h"

#include "base/fd.h"
#include "base/list.h"
#include "base/seam.h"
#include "process/begin.h"
#include "process/identity.h"
#include "process/launcher.h"
#include "process/loop.h"
#include "process/memory.h"
#include "process/sanitizer.h"
#include "process/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORDS_MAX 4096
#define OWNER_LOOK_MS 100
#define STACK_DEFAULT (8u << 20)
#define STACK_MAX (UINT64_C(1) << 40)

struct connection {
    struct pp__source source; /* first: the one is the other */
    struct pp__link link;
    struct pp__link records;
    size_t count;
    bool waits_for_room;
};

enum { OWES_STARTED = 1, OWES_FAILED = 2, OWES_ENDED = 4, OWES_INVITED = 8 };

/* A child, until it is reaped and its end is told. */
struct record {
    struct pp__link link;          /* in its connection's list, or in `zygote.forsaken` */
    struct connection *connection; /* NULL: nobody wants to know */
    uint64_t serial;
    pid_t pid; /* 0: reaped, or never there */
    pid_t told_pid;
    unsigned owes;
    int error, code, status;
    bool killed;                 /* as somebody asked */
    uint64_t kills_before;       /* for want of memory, where its start left the count */
    struct pp__spawned *spawned; /* NULL: a fork of ours */
};

static struct {
    struct pp__zygote_setup setup;
    pid_t pid;
    int epoll;
    struct pp__source control, owner, deaths;
    struct pp__link connections;
    struct pp__link forsaken; /* children whose connection is gone */
    /* Where the kernel counts kills for want of memory in the zygote's control group, which is that of its children; "": not looked for yet. */
    char counter[PP__COUNTER_PATH_MAX];
    uint64_t kills_told;    /* the count up to which each kill is known to be somebody's */
    uint64_t machine_kills; /* on the whole machine, when it was looked for */
    void *stack;            /* for the next child; never touched here, so each finds it untouched */
    size_t stack_size;
} zygote;

/* -------------------------------------------------------------------------------------------- small things */

void pp__signals_block(uint64_t *before)
{
    uint64_t all = ~UINT64_C(0);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, before, sizeof all);
}

void pp__signals_set(uint64_t mask)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
}

int pp__pidfd_open(pid_t pid)
{
    if (PP_ON_VALGRIND) {
        errno = ENOSYS; /* which is what it would say, with a warning on the user's terminal */
        return -1;
    }
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* The fields behind the name are counted from the third on: 0 is the state, 17 the number of threads, 19 the start. */
static uint64_t field(const char *fields, int number)
{
    for (; fields && number > 0; number--)
        fields = strchr(fields + 1, ' ');
    return fields ? strtoull(fields + 1, NULL, 10) : 0;
}

/* A zombie is gone, unless it is only the first thread of a process whose others go on. */
uint64_t pp__process_start(pid_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    text[size > 0 ? size : 0] = '\0';
    const char *fields = strrchr(text, ')'); /* the end of a name with anything in it */
    if (!fields || fields[1] != ' ')
        return 0;
    fields++;
    if ((fields[1] == 'Z' || fields[1] == 'X') && field(fields, 17) <= 1)
        return 0;
    return field(fields, 19);
}

static bool owner_is_gone_by_look(const struct pp__zygote_setup *setup)
{
    if (kill(setup->owner_pid, 0) != 0 && errno == ESRCH)
        return true;
    return setup->owner_start != 0 && pp__process_start(setup->owner_pid) != setup->owner_start;
}

bool pp__zygote_abandoned(const struct pp__zygote_setup *setup)
{
    struct pollfd watched[2] = {{.fd = setup->control, .events = POLLRDHUP}, {.fd = setup->owner, .events = POLLIN}};
    poll(watched, 2, 0);
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

/* ---------------------------------------------------------------------------------------------- becoming one */

void pp__signals_default(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int i = 1; i <= 64; i++)
        sigaction(i, &action, NULL); /* KILL, STOP and libc's own two refuse */
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
}

static bool inherits(const struct pp__zygote_setup *setup, int fd)
{
    for (size_t i = 0; i < setup->inherit_count; i++)
        if (setup->inherit[i] == fd)
            return true;
    return false;
}

/* 0 is /dev/null; 1 and 2 are if they were closed, so that no file of ours or the task's is taken for them. */
static void standard_descriptors(const struct pp__zygote_setup *setup)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return;
    for (int fd = 0; fd <= 2; fd++) {
        bool open_already = fcntl(fd, F_GETFD) >= 0 && fd != null;
        if ((fd != 0 && open_already) || (open_already && inherits(setup, fd)))
            continue;
        if (fd == null)
            fcntl(fd, F_SETFD, 0);
        else
            dup2(null, fd);
    }
    if (null > 2)
        close(null);
}

static void close_descriptors(const struct pp__zygote_setup *setup)
{
    int keep[PP__INHERIT_MAX + 2] = {setup->control, setup->owner};
    size_t own = setup->owner < 0 ? 1 : 2;
    pp__fd_close_inherited(keep, own);
    if (!setup->close_all)
        return;
    memcpy(keep + own, setup->inherit, setup->inherit_count * sizeof *keep);
    pp__fd_close_from(3, keep, own + setup->inherit_count);
}

/* glibc's walk over all streams: exported for ever, declared no more. */
__attribute__((weak)) FILE *_IO_iter_begin(void);
__attribute__((weak)) FILE *_IO_iter_end(void);
__attribute__((weak)) FILE *_IO_iter_next(FILE *stream);

/* What the owner had not flushed is the owner's to flush, whatever stream a task flushes. */
void pp__stdio_purge(void)
{
    __fpurge(stdin);
    __fpurge(stdout);
    __fpurge(stderr);
    clearerr_unlocked(stdin);
    if (!_IO_iter_begin || !_IO_iter_end || !_IO_iter_next)
        return;
    for (FILE *stream = _IO_iter_begin(); stream != _IO_iter_end(); stream = _IO_iter_next(stream))
        if (__fpending(stream) > 0)
            __fpurge(stream);
}

void pp__zygote_become(const struct pp__zygote_setup *setup)
{
    setpgid(0, 0);
    prctl(PR_SET_NAME, "pp-zygote");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    close_descriptors(setup);
    standard_descriptors(setup);
    pp__signals_default();
    pp__stdio_purge();
}

/* -------------------------------------------------------------------------------------------------- records */

static struct record *find_serial(struct connection *connection, uint64_t serial)
{
    for (struct pp__link *l = connection->records.next; l != &connection->records; l = l->next) {
        struct record *record = pp__container(l, struct record, link);
        if (record->serial == serial)
            return record;
    }
    return NULL;
}

static struct record *find_pid_in(struct pp__link *list, pid_t pid)
{
    for (struct pp__link *l = list->next; l != list; l = l->next) {
        struct record *record = pp__container(l, struct record, link);
        if (record->pid == pid)
            return record;
    }
    return NULL;
}

static struct record *find_pid(pid_t pid)
{
    for (struct pp__link *l = zygote.connections.next; l != &zygote.connections; l = l->next) {
        struct record *record = find_pid_in(&pp__container(l, struct connection, link)->records, pid);
        if (record)
            return record;
    }
    return find_pid_in(&zygote.forsaken, pid);
}

static void free_record(struct record *record)
{
    if (record->connection)
        record->connection->count--;
    pp__list_remove(&record->link);
    pp__spawn_free(record->spawned);
    free(record);
}

/* Nothing more can come of it. */
static bool is_done(const struct record *record)
{
    return record->pid == 0 && (!record->spawned || pp__spawn_is_over(record->spawned));
}

/* The child is not reaped yet, so both numbers are its own. It may have left its group. */
static void kill_child(struct record *record)
{
    if (record->spawned)
        pp__spawn_kill(record->spawned);
    if (record->pid <= 0)
        return;
    record->killed = true;
    kill(-record->pid, SIGKILL);
    kill(record->pid, SIGKILL);
}

static void kill_all_in(struct pp__link *list)
{
    for (struct pp__link *l = list->next; l != list; l = l->next)
        kill_child(pp__container(l, struct record, link));
}

static _Noreturn void leave(void)
{
    for (struct pp__link *l = zygote.connections.next; l != &zygote.connections; l = l->next)
        kill_all_in(&pp__container(l, struct connection, link)->records);
    kill_all_in(&zygote.forsaken);
    _exit(0);
}

/* -------------------------------------------------------------------------------------------------- reports */

static int send_report(struct connection *connection, const struct record *record, uint32_t type)
{
    struct pp__report report = {.type = type, .serial = record->serial};
    if (type == PP__REPORT_FAILED)
        report.error = record->error;
    else
        report.pid = record->told_pid;
    if (type == PP__REPORT_ENDED) {
        report.code = record->code;
        report.status = record->status;
        report.error = record->error;
    }
    if (type == PP__REPORT_INVITED)
        pp__spawn_invitation(record->spawned, report.invitation);
    return pp__fd_send(connection->source.fd, &report, sizeof report, NULL, 0);
}

/* Pays what is owed for one child, in order. 0, or the error of the one that could not be sent. */
static int pay(struct connection *connection, struct record *record)
{
    static const struct {
        unsigned owed;
        uint32_t type;
    } debts[] = {{OWES_FAILED, PP__REPORT_FAILED},
                 {OWES_INVITED, PP__REPORT_INVITED},
                 {OWES_STARTED, PP__REPORT_STARTED},
                 {OWES_ENDED, PP__REPORT_ENDED}};
    for (size_t i = 0; i < sizeof debts / sizeof *debts; i++) {
        if (!(record->owes & debts[i].owed))
            continue;
        int error = send_report(connection, record, debts[i].type);
        if (error)
            return error;
        record->owes &= ~debts[i].owed;
    }
    return 0;
}

void pp__zygote_watch(struct pp__source *source, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (PP_SYS(epoll_ctl)(zygote.epoll, operation, source->fd, &event) != 0 && operation != EPOLL_CTL_DEL)
        leave();
}

static void wait_for_room(struct connection *connection, bool wait)
{
    if (connection->waits_for_room == wait)
        return;
    connection->waits_for_room = wait;
    pp__zygote_watch(&connection->source, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP | (wait ? (uint32_t)EPOLLOUT : 0));
}

/* A peer that is gone shows as a hangup, so other errors than "full" are left to that. */
static void pay_all(struct connection *connection)
{
    for (struct pp__link *l = connection->records.next, *next; l != &connection->records; l = next) {
        struct record *record = pp__container(l, struct record, link);
        next = l->next;
        if (pay(connection, record) != 0) {
            wait_for_room(connection, true);
            return;
        }
        if (is_done(record))
            free_record(record);
    }
    wait_for_room(connection, false);
}

/* While the socket is full, order is kept by sending nothing but from pay_all. */
static void owe(struct record *record, unsigned what)
{
    record->owes |= what;
    if (record->connection && !record->connection->waits_for_room)
        pay_all(record->connection);
}

/* ----------------------------------------------------------------------------------------------- connections */

/* A stopped zygote would see nothing: whatever comes by these sockets, a pool's requests and the owner's end above all, raises SIGCONT, which
 * continues us though it is blocked. */
static void go_on_by(int socket)
{
    int flags = fcntl(socket, F_GETFL);
    fcntl(socket, F_SETOWN, zygote.pid);
    fcntl(socket, F_SETSIG, SIGCONT);
    if (flags >= 0)
        fcntl(socket, F_SETFL, flags | O_ASYNC);
}

static void drop(struct connection *connection)
{
    while (!pp__list_empty(&connection->records)) {
        struct record *record = pp__container(connection->records.next, struct record, link);
        kill_child(record);
        pp__list_remove(&record->link);
        record->connection = NULL;
        if (record->pid != 0) {
            pp__list_insert(&zygote.forsaken, &record->link);
            continue;
        }
        pp__list_init(&record->link);
        free_record(record);
    }
    pp__zygote_watch(&connection->source, EPOLL_CTL_DEL, 0);
    pp__fd_close(connection->source.fd);
    pp__list_remove(&connection->link);
    free(connection);
}

/* The task's stack, with a page below it that faults. Kept for the next child of the same size. */
static int prepare_stack(uint64_t wanted)
{
    if (wanted > STACK_MAX)
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
    if (mprotect(memory, page, PROT_NONE) != 0) {
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

static pid_t fork_child(const struct pp__plan *plan, const int *fds, size_t count)
{
    PP_FAULT("zygote.start.before");
    pid_t pid = PP_SYS(fork)();
    if (pid == 0)
        pp__child_begin(&(struct pp__beginning){.setup = &zygote.setup,
                                                .plan = plan,
                                                .fds = fds,
                                                .count = count,
                                                .zygote = zygote.pid,
                                                .line = -1,
                                                .stack = zygote.stack,
                                                .stack_size = zygote.stack_size});
    if (pid > 0)
        setpgid(pid, pid); /* the child does so too: whoever comes first */
    PP_FAULT("zygote.start.forked");
    return pid;
}

/* A record that can't be had can't wait: its failure is told now or costs the connection. */
static struct record *new_record(struct connection *connection, uint64_t serial)
{
    struct record *record = connection->count < RECORDS_MAX ? PP_SYS(calloc)(1, sizeof *record) : NULL;
    if (record) {
        *record = (struct record){.connection = connection, .serial = serial};
        pp__list_insert(&connection->records, &record->link);
        connection->count++;
        return record;
    }
    struct record failed = {.serial = serial, .error = ENOMEM};
    if (connection->waits_for_room || send_report(connection, &failed, PP__REPORT_FAILED) != 0)
        drop(connection);
    return NULL;
}

static void fail_start(struct connection *connection, uint64_t serial, int error)
{
    struct record *record = new_record(connection, serial);
    if (!record)
        return;
    record->error = error;
    owe(record, OWES_FAILED);
}

static uint64_t count_kills(void)
{
    if (!zygote.counter[0]) {
        pp__memory_counter(zygote.pid, zygote.counter);
        zygote.machine_kills = pp__memory_kills(PP__COUNTER_OF_MACHINE);
    }
    return pp__memory_kills(zygote.counter);
}

/* It has started when it has taken its plan. */
static void spawn_child(struct record *record, const struct pp__plan *plan, const int *fds, size_t count)
{
    record->error = pp__spawn_start(&zygote.setup, plan, fds, count, record, &record->spawned, &record->pid);
    record->told_pid = record->pid;
    if (record->error)
        owe(record, OWES_FAILED);
    else
        record->kills_before = count_kills();
    if (!record->error && zygote.setup.invites)
        owe(record, OWES_INVITED);
}

void pp__zygote_joined(void *joined, pid_t worker)
{
    struct record *record = joined;
    record->told_pid = worker;
    owe(record, OWES_STARTED);
}

void pp__zygote_ended(void *ended, int code, int status)
{
    struct record *record = ended;
    record->code = code;
    record->status = status;
    if (record->connection)
        owe(record, OWES_ENDED);
    else if (is_done(record))
        free_record(record);
}

static bool plan_is_sound(const struct pp__plan *plan)
{
    return plan->size <= PP__PLAN_MAX && memchr(plan->name, 0, sizeof plan->name) != NULL;
}

static void handle_start(struct connection *connection, const void *message, const int *fds, size_t count)
{
    const struct pp__plan *plan = &((const struct pp__wire_start *)message)->plan;
    if (!plan_is_sound(plan) || find_serial(connection, plan->serial)) {
        drop(connection);
        return;
    }
    int error = prepare_stack(plan->stack_size);
    if (error) {
        fail_start(connection, plan->serial, error);
        return;
    }
    struct record *record = new_record(connection, plan->serial);
    if (!record)
        return;
    if (zygote.setup.spawn) {
        spawn_child(record, plan, fds, count);
        return;
    }
    pid_t pid = fork_child(plan, fds, count);
    record->error = pid < 0 ? errno : 0;
    record->pid = pid > 0 ? pid : 0;
    record->told_pid = record->pid;
    owe(record, pid > 0 ? OWES_STARTED : OWES_FAILED);
    if (pid > 0)
        record->kills_before = count_kills(); /* while the child begins: its start does not wait for this */
}

static void handle_kill(struct connection *connection, const void *message, const int *fds, size_t count)
{
    (void)fds;
    (void)count;
    struct record *record = find_serial(connection, ((const struct pp__wire_kill *)message)->serial);
    if (!record)
        return;
    kill_child(record);
    if (record->spawned)
        pp__spawn_settle(record->spawned);
}

/* SIGTERM, which a stopped child takes too. Its group is its own affair, until it has ended. */
static void handle_terminate(struct connection *connection, const void *message, const int *fds, size_t count)
{
    (void)fds;
    (void)count;
    struct record *record = find_serial(connection, ((const struct pp__wire_kill *)message)->serial);
    if (record && record->spawned)
        pp__spawn_terminate(record->spawned);
    if (!record || record->pid <= 0)
        return;
    kill(record->pid, SIGTERM);
    kill(record->pid, SIGCONT);
}

/* What may come on a connection. Anything else costs the connection. */
static const struct {
    uint32_t type;
    size_t size;
    size_t fds_max;
    void (*handle)(struct connection *connection, const void *message, const int *fds, size_t count);
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

static void handle_request(struct connection *connection, const union request *request, size_t size, const int *fds,
                           size_t count)
{
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        if (requests[i].type == request->type && requests[i].size == size && count <= requests[i].fds_max) {
            requests[i].handle(connection, request, fds, count);
            return;
        }
    }
    drop(connection);
}

/* The descriptors of a start were lost for want of room in our table; its bytes have come all the same. */
static void handle_lost_descriptors(struct connection *connection, const union request *request)
{
    if (request->type == PP__WIRE_START)
        fail_start(connection, request->start.plan.serial, EMFILE);
}

static void connection_ready(struct pp__source *source, uint32_t events)
{
    struct connection *connection = (struct connection *)source;
    if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) {
        drop(connection);
        return;
    }
    if (events & EPOLLOUT)
        pay_all(connection);
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
        drop(connection);
    for (size_t i = 0; size >= 0 && i < count; i++)
        pp__fd_close(fds[i]); /* a message of no bytes looks like an end, and can bring some too */
}

static bool is_seqpacket(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

static void connect_to(int fd)
{
    struct connection *connection = is_seqpacket(fd) ? PP_SYS(calloc)(1, sizeof *connection) : NULL;
    if (!connection) {
        pp__fd_close(fd); /* which the owner sees as an end */
        return;
    }
    connection->source = (struct pp__source){.ready = connection_ready, .fd = fd};
    pp__list_init(&connection->records);
    pp__list_insert(&zygote.connections, &connection->link);
    go_on_by(fd);
    pp__zygote_watch(&connection->source, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
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

/* Its end may have been told before, or come later: pay_all frees what is done. */
static void bury_spawned(struct record *record, const siginfo_t *seen)
{
    struct connection *connection = record->connection;
    bool over = pp__spawn_is_over(record->spawned);
    if (!over)
        pp__spawn_reaped(record->spawned, seen->si_code, seen->si_status);
    else if (!connection)
        free_record(record);
    else if (!connection->waits_for_room)
        pay_all(connection);
}

/*
 * Whether memory ran out for a child that ended by a SIGKILL which nobody here has asked for; it is a zombie still. Each kill that was counted
 * explains one end. Of a child that is in another group by now it is not known what was counted there before: some kill there and some
 * kill on the machine have to do. (Of a zombie's group of version 1 the kernel says nothing: then it is taken to be this one.)
 */
static bool lacked_memory(const struct record *record)
{
    char counter[PP__COUNTER_PATH_MAX];
    uint64_t before = record->kills_before > zygote.kills_told ? record->kills_before : zygote.kills_told;
    if (!pp__memory_forgets_zombies(zygote.counter)) {
        pp__memory_counter(record->pid, counter);
        if (strcmp(counter, zygote.counter) != 0)
            return pp__memory_kills(counter) > 0 && pp__memory_kills(PP__COUNTER_OF_MACHINE) > zygote.machine_kills;
    }
    if (pp__memory_kills(zygote.counter) <= before)
        return false;
    zygote.kills_told = before + 1;
    return true;
}

/*
 * One dead child: its group is killed while its number, which is the group's, can't be another's. Orphans of children come here
 * too, since the zygote is a subreaper; they are only reaped.
 */
static void bury(const siginfo_t *seen)
{
    struct record *record = find_pid(seen->si_pid);
    PP_FAULT("zygote.reap");
    bool goes_on = record && record->spawned && pp__spawn_goes_on(record->spawned, seen->si_code, seen->si_status);
    if (record && !goes_on)
        kill(-seen->si_pid, SIGKILL);
    if (record && !goes_on && seen->si_status == SIGKILL && seen->si_code == CLD_KILLED && !record->killed &&
        lacked_memory(record))
        record->error = ENOMEM;
    siginfo_t end;
    waitid(P_PID, (id_t)seen->si_pid, &end, WEXITED | WNOHANG);
    if (!record) {
        pp__spawn_reaped_stranger(seen->si_pid, seen->si_code, seen->si_status);
        return;
    }
    record->pid = 0;
    if (record->spawned)
        bury_spawned(record, seen);
    else
        pp__zygote_ended(record, seen->si_code, seen->si_status);
}

static void deaths_ready(struct pp__source *source, uint32_t events)
{
    (void)events;
    struct signalfd_siginfo ignored;
    while (read(source->fd, &ignored, sizeof ignored) > 0) {
    }
    for (;;) {
        siginfo_t seen = {.si_pid = 0};
        if (waitid(P_ALL, 0, &seen, WEXITED | WNOHANG | WNOWAIT) != 0 || seen.si_pid == 0)
            return;
        bury(&seen);
    }
}

/* -------------------------------------------------------------------------------------------------- the loop */

static void open_source(struct pp__source *source, int fd, void (*ready)(struct pp__source *, uint32_t))
{
    *source = (struct pp__source){.ready = ready, .fd = fd};
    if (fd < 0)
        leave();
    pp__zygote_watch(source, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP);
}

static int open_deaths(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    return pp__fd_adopt(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), "a signalfd");
}

static void open_sources(void)
{
    zygote.epoll = pp__fd_adopt(PP_SYS(epoll_create1)(EPOLL_CLOEXEC), "an epoll set");
    if (zygote.epoll < 0)
        leave();
    open_source(&zygote.deaths, open_deaths(), deaths_ready);
    open_source(&zygote.control, zygote.setup.control, control_ready);
    go_on_by(zygote.setup.control);
    if (zygote.setup.owner >= 0)
        open_source(&zygote.owner, zygote.setup.owner, owner_ready);
}

static void open_invitations(void)
{
    int error = pp__spawn_open(&zygote.setup);
    if (!error)
        return;
    pp__zygote_say(&zygote.setup, error, true, "a socket for workers that come by invitation");
    _exit(1);
}

/* One event at a time: what one handler frees, no other event of the same batch can name. */
void pp__zygote_run(const struct pp__zygote_setup *setup)
{
    zygote.setup = *setup;
    zygote.pid = getpid();
    zygote.stack = NULL;
    zygote.counter[0] = '\0'; /* a worker that makes pools of its own has its zygote's */
    zygote.kills_told = 0;
    pp__list_init(&zygote.connections);
    pp__list_init(&zygote.forsaken);
    pp__module_note_birth();
    open_sources();
    open_invitations();
    pp__zygote_say(setup, 0, true, "");
    for (;;) {
        struct epoll_event event;
        int count = epoll_wait(zygote.epoll, &event, 1, setup->owner >= 0 ? -1 : OWNER_LOOK_MS);
        if (setup->owner < 0 && owner_is_gone_by_look(setup))
            leave();
        if (count == 1) {
            struct pp__source *source = event.data.ptr;
            source->ready(source, event.events);
        }
    }
}
