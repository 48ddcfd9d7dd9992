/* SPDX-License-Identifier: MIT */
/*
 * The zygote's side of children that are fresh images. The zygote starts them, and not the owner, since all that makes
 * a worker harmless to its host hangs on the parent: SIGCHLD and wait stay out of the owner, a number is killed only by
 * who has not reaped it yet, and PDEATHSIG is towards a process of one thread. It is a fresh image itself, so its fork
 * for an exec costs little, and its /proc/self/exe is the owner's executable, even if that was replaced or removed
 * since.
 *
 * The plan travels on a line, a seqpacket pair, whose one end the worker has. Under spawn the image inherits it, with
 * the plan already in it, and finds its number in the environment (PP__MARKER). Where a command starts the worker,
 * descriptors may be closed on the way and the worker may be anybody's child. The environment then has an invitation, a
 * name and a token. The name is an abstract socket's: nothing of it lies in a file system, and it is gone with the
 * zygote. Who connects must be of our user (SO_PEERCRED) and know the token of a child that nobody has joined as; the
 * connection is then the line, and the plan is sent on it.
 *
 * Such a worker is tied to the line: the kernel kills it when our end goes (join.c), whoever its parent is, unless it
 * is to outlive us. We learn of its end by a pidfd where it is not the process that was started.
 */
#include "process/spawn.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/seam.h"
#include "process/become.h"
#include "process/birth.h"
#include "process/launcher.h"
#include "process/loop.h"
#include "process/pid.h"
#include "process/sanitizer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

/* Connections that have not said yet who they are; one more costs the oldest. */
#define GUESTS_MAX 64

enum state {
    INVITED, /* nobody has the plan */
    PLANNED, /* somebody was sent it */
    JOINED,  /* and has taken it */
    REFUSED, /* it was to be killed before that: nobody can join any more */
    OVER     /* its end was told */
};

struct pp__spawned {
    struct pp__source line;  /* fd -1: none */
    struct pp__source ender; /* pidfd of a worker that is not `child`; fd -1: none */
    struct pp__link link;    /* in `children` */
    void *record;
    enum state state;
    bool by_command; /* or by the owner: it comes by invitation */
    pid_t child;     /* what was started; 0: reaped, or nothing was */
    pid_t worker;    /* who was sent the plan */
    int failure;     /* errno of the exec */
    struct pp__wire_plan message;
    int fds[PP__PLAN_FDS]; /* the plan's, until it is sent */
    size_t count;
};

struct guest {
    struct pp__source source;
    struct pp__link link;
    pid_t pid;
};

static struct pp__link children = {&children, &children};
static struct pp__link guests = {&guests, &guests};
static struct pp__source listener = {.fd = -1};
static char name[sizeof((struct sockaddr_un *)0)->sun_path]; /* without the NUL before it */

/* ------------------------------------------------------------------------------------------ small things */

/* False: it can't be watched, and is closed. */
static bool watch(struct pp__source *source, int fd, void (*ready)(struct pp__source *, uint32_t))
{
    *source = (struct pp__source){.ready = ready, .fd = fd};
    if (pp__zygote_watch(source, EPOLL_CTL_ADD, EPOLLIN | EPOLLRDHUP))
        return true;
    pp__fd_close(fd);
    source->fd = -1;
    return false;
}

/* Closing is not enough to end the watch: a child that was forked and has not become its image yet has a copy. */
static void unwatch(struct pp__source *source)
{
    if (source->fd < 0)
        return;
    pp__zygote_watch(source, EPOLL_CTL_DEL, 0);
    pp__fd_close(source->fd);
    source->fd = -1;
}

static void forget_descriptors(struct pp__spawned *s)
{
    while (s->count > 0)
        pp__fd_close(s->fds[--s->count]);
}

/* The record's owner may free `s` in here. */
static void tell_end(struct pp__spawned *s, int code, int status)
{
    s->state = OVER;
    unwatch(&s->ender);
    unwatch(&s->line);
    forget_descriptors(s);
    if (s->child > 0)
        PP_SYS(kill)(-s->child, SIGKILL); /* not reaped: the number is its own */
    pp__zygote_ended(s->record, code, status);
}

static struct pp__spawned *owner_of_line(struct pp__source *line)
{
    return pp__container(line, struct pp__spawned, line);
}

static bool is_stranger(const struct pp__spawned *s)
{
    return s->by_command && (s->state == PLANNED || s->state == JOINED) && s->worker != s->child;
}

/* ---------------------------------------------------------------------------------------------- the end */

/* Whoever was sent the plan has given it up. If that is not the process that was started, nobody else will tell. */
static void line_is_gone(struct pp__spawned *s)
{
    bool stranger = is_stranger(s);
    unwatch(&s->line);
    if (stranger && s->state == PLANNED)
        tell_end(s, PP__END_UNKNOWN | PP__END_UNJOINED, 0);
    else if (stranger && s->state == JOINED && s->ender.fd < 0)
        tell_end(s, PP__END_UNKNOWN, 0);
}

/*
 * That the word has come proves that the pidfd is the worker's: who connected was alive when its number was asked for,
 * or nobody would have had the other end of the line to speak on.
 */
static void take_word(struct pp__spawned *s, const struct pp__wire_joined *word)
{
    if (word->error) {
        s->failure = s->state == (s->by_command ? INVITED : PLANNED) ? word->error : s->failure;
        return;
    }
    if (s->state != PLANNED)
        return;
    s->state = JOINED;
    if (!s->message.tied)
        unwatch(&s->line);
    pp__zygote_joined(s->record, s->worker);
}

static void line_ready(struct pp__source *source, uint32_t events)
{
    struct pp__spawned *s = owner_of_line(source);
    struct pp__wire_joined word;
    ssize_t size = pp__fd_receive(source->fd, &word, sizeof word, NULL, NULL, MSG_DONTWAIT);
    if (size == sizeof word && word.type == PP__WIRE_JOINED)
        take_word(s, &word);
    else if (size >= 0 || size == -EMSGSIZE || (size == -EAGAIN && (events & (EPOLLHUP | EPOLLERR))))
        line_is_gone(s); /* else there is no memory to receive it now: it is still there, though its end may be gone */
}

/* What the dead have said comes first. */
static void hear_out(struct pp__spawned *s)
{
    struct pp__wire_joined word;
    while (s->line.fd >= 0 && pp__fd_receive(s->line.fd, &word, sizeof word, NULL, NULL, MSG_DONTWAIT) == sizeof word)
        if (word.type == PP__WIRE_JOINED)
            take_word(s, &word);
}

/* It is ours to reap if its parent has ended, else newer kernels tell. By the pidfd: its number may be another child's
 * by now. */
static int how_it_ended(int pidfd, int *status)
{
    siginfo_t end = {.si_pid = 0};
    int code;
    *status = 0;
    if (PP_SYS(waitid)(P_PIDFD, (id_t)pidfd, &end, WEXITED | WNOHANG) == 0 && end.si_pid != 0) {
        *status = end.si_status;
        return end.si_code;
    }
    if (!pp__pidfd_exit_code(pidfd, &code))
        return PP__END_UNKNOWN;
    *status = WIFSIGNALED(code) ? WTERMSIG(code) : WEXITSTATUS(code);
    return WIFSIGNALED(code) ? CLD_KILLED : CLD_EXITED;
}

static void ender_ready(struct pp__source *source, uint32_t events)
{
    (void)events;
    struct pp__spawned *s = pp__container(source, struct pp__spawned, ender);
    int status, code = how_it_ended(source->fd, &status);
    hear_out(s);
    tell_end(s, code | (s->state == JOINED ? 0 : PP__END_UNJOINED), status);
}

/* A command that has ended well may have handed its order on: its worker can still come. */
static bool may_still_come(const struct pp__spawned *s, bool stranger, int code, int status)
{
    return s->by_command && code == CLD_EXITED && status == 0 && (s->state == INVITED || stranger);
}

/* Its worker may have joined before, though we come to read that after this. */
bool pp__spawn_goes_on(struct pp__spawned *s, int code, int status)
{
    hear_out(s);
    bool stranger = is_stranger(s);
    return (stranger && s->state == JOINED) || may_still_come(s, stranger, code, status);
}

void pp__spawn_reaped(struct pp__spawned *s, int code, int status)
{
    hear_out(s);
    bool stranger = is_stranger(s);
    s->child = 0;
    if (s->state == OVER || (stranger && s->state == JOINED))
        return;
    if (s->failure)
        tell_end(s, PP__END_EXEC, s->failure);
    else if (s->state == JOINED)
        tell_end(s, code, status);
    else if (!may_still_come(s, stranger, code, status))
        tell_end(s, code | PP__END_UNJOINED, status);
}

void pp__spawn_reaped_stranger(pid_t pid, int code, int status)
{
    for (struct pp__link *l = children.next; l != &children; l = l->next) {
        struct pp__spawned *s = pp__container(l, struct pp__spawned, link);
        if (s->state != JOINED || s->worker != pid)
            continue;
        tell_end(s, code, status);
        return;
    }
}

void pp__spawn_kill(struct pp__spawned *s)
{
    if (s->ender.fd >= 0)
        PP_SYS(syscall)(SYS_pidfd_send_signal, s->ender.fd, SIGKILL, NULL, 0);
    if (s->state >= REFUSED)
        return;
    unwatch(&s->line); /* which kills who is tied to it */
    if (s->state != JOINED)
        s->state = REFUSED;
    forget_descriptors(s);
}

void pp__spawn_terminate(const struct pp__spawned *s)
{
    if (s->ender.fd < 0)
        return;
    PP_SYS(syscall)(SYS_pidfd_send_signal, s->ender.fd, SIGTERM, NULL, 0);
    PP_SYS(syscall)(SYS_pidfd_send_signal, s->ender.fd, SIGCONT, NULL, 0);
}

void pp__spawn_settle(struct pp__spawned *s)
{
    bool somebody = is_stranger(s) ? s->ender.fd >= 0 : s->child > 0;
    if (s->state == OVER || somebody)
        return;
    tell_end(s, CLD_KILLED | (s->state == JOINED ? 0 : PP__END_UNJOINED), SIGKILL);
}

bool pp__spawn_has_joined(const struct pp__spawned *s)
{
    return s->state == JOINED;
}

/* One that is not ours to reap is known by its ender alone. */
int pp__spawn_pidfd(const struct pp__spawned *s)
{
    if (is_stranger(s))
        return pp__fd_copy(s->ender.fd, "a pidfd");
    return pp__fd_adopt(pp__pidfd_open(s->worker), "a pidfd");
}

bool pp__spawn_is_over(const struct pp__spawned *s)
{
    return s->state == OVER;
}

void pp__spawn_free(struct pp__spawned *s)
{
    if (!s)
        return;
    unwatch(&s->ender);
    unwatch(&s->line);
    forget_descriptors(s);
    pp__list_remove(&s->link);
    free(s);
}

/* ---------------------------------------------------------------------------------------------- the plan */

static int send_plan(struct pp__spawned *s)
{
    int error = pp__fd_send(s->line.fd, &s->message, sizeof s->message, s->fds, s->count);
    if (error)
        return error;
    s->state = PLANNED;
    forget_descriptors(s);
    return 0;
}

static void make_message(struct pp__spawned *s, const struct pp__zygote_setup *setup, const struct pp__plan *plan)
{
    s->message = (struct pp__wire_plan){.type = PP__WIRE_PLAN,
                                        .size = sizeof s->message,
                                        .tied = s->by_command,
                                        .close_all = !s->by_command,
                                        .zygote = s->by_command ? 0 : getpid(),
                                        .inherit_count = (uint32_t)setup->inherit_count,
                                        .plan = *plan};
    for (size_t i = 0; i < setup->inherit_count; i++)
        s->message.inherit[i] = setup->inherit[i];
    pp__nonce_make(s->message.nonce);
}

/* ----------------------------------------------------------------------------------------------- guests */

static void see_off(struct guest *guest)
{
    unwatch(&guest->source);
    pp__list_remove(&guest->link);
    free(guest);
}

static void refuse(struct guest *guest, int error)
{
    struct pp__wire_plan no = {.type = PP__WIRE_PLAN, .size = sizeof no, .error = error};
    pp__fd_send(guest->source.fd, &no, sizeof no, NULL, 0);
    see_off(guest);
}

static struct pp__spawned *find_invitation(const char nonce[PP__NONCE_SIZE])
{
    for (struct pp__link *l = children.next; l != &children; l = l->next) {
        struct pp__spawned *s = pp__container(l, struct pp__spawned, link);
        if (s->by_command && memcmp(s->message.nonce, nonce, PP__NONCE_SIZE) == 0)
            return s;
    }
    return NULL;
}

static int open_ender(int line, pid_t pid)
{
    int pidfd;
    socklen_t size = sizeof pidfd;
    if (PP_SYS(getsockopt)(line, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) != 0)
        pidfd = pp__pidfd_open(pid);
    return pidfd < 0 ? -1 : pp__fd_adopt(pidfd, "a pidfd");
}

/* The connection becomes the line of the child that it joins as. */
static void seat(struct guest *guest, struct pp__spawned *s)
{
    pid_t pid = guest->pid;
    int fd = guest->source.fd;
    unwatch(&s->line);
    unwatch(&s->ender);
    s->line = (struct pp__source){.ready = line_ready, .fd = fd};
    pp__zygote_watch(&s->line, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP);
    guest->source.fd = -1;
    see_off(guest);
    s->worker = pid;
    if (pid != s->child) {
        int ender = open_ender(fd, pid);
        if (ender >= 0)
            watch(&s->ender, ender, ender_ready);
    }
    bool deaf_to_kills = pid != s->child && s->ender.fd < 0 && s->message.plan.outlives;
    if (deaf_to_kills || send_plan(s) != 0)
        line_is_gone(s);
}

static void guest_ready(struct pp__source *source, uint32_t events)
{
    (void)events;
    struct guest *guest = pp__container(source, struct guest, source);
    struct pp__wire_knock knock = {0};
    ssize_t size = pp__fd_receive(source->fd, &knock, sizeof knock, NULL, NULL, MSG_DONTWAIT);
    if (size == -EAGAIN)
        return;
    if (size <= 0) {
        see_off(guest);
        return;
    }
    if (size != sizeof knock || knock.type != PP__WIRE_KNOCK || knock.plan_size != sizeof(struct pp__wire_plan)) {
        refuse(guest, -EPROTO);
        return;
    }
    struct pp__spawned *s = find_invitation(knock.nonce);
    if (s && s->state == INVITED)
        seat(guest, s);
    else
        refuse(guest, s && s->state < REFUSED ? -EALREADY : -EACCES);
}

static size_t count_guests(void)
{
    size_t count = 0;
    for (struct pp__link *l = guests.next; l != &guests; l = l->next)
        count++;
    return count;
}

static void welcome(int fd)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof peer;
    struct guest *guest = NULL;
    if (PP_SYS(getsockopt)(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid() &&
        peer.pid > 0) /* 0: one in a namespace of processes from which we could not tell its end */
        guest = PP_SYS(calloc)(1, sizeof *guest);
    if (!guest) {
        pp__fd_close(fd);
        return;
    }
    guest->pid = peer.pid;
    pp__list_insert(&guests, &guest->link);
    if (!watch(&guest->source, fd, guest_ready))
        see_off(guest);
    else if (count_guests() > GUESTS_MAX)
        see_off(pp__container(guests.next, struct guest, link));
}

static void listener_ready(struct pp__source *source, uint32_t events)
{
    (void)events;
    int fd = pp__fd_adopt(PP_SYS(accept4)(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), "a connection");
    if (fd >= 0) {
        welcome(fd);
        return;
    }
    /* Out of descriptors, who waits would make the loop turn for nothing. */
    if (fd != -EAGAIN && !pp__list_empty(&guests))
        see_off(pp__container(guests.next, struct guest, link));
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* The kernel finds a name that nobody has. */
static int listen_somewhere(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof address;
    int fd = pp__fd_adopt(PP_SYS(socket)(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "a socket");
    if (fd < 0)
        return fd;
    if (PP_SYS(bind)(fd, (struct sockaddr *)&address, sizeof address.sun_family) == 0 &&
        PP_SYS(listen)(fd, GUESTS_MAX) == 0 && PP_SYS(getsockname)(fd, (struct sockaddr *)&address, &size) == 0) {
        memcpy(name, address.sun_path + 1, size - offsetof(struct sockaddr_un, sun_path) - 1);
        return fd;
    }
    int error = -errno;
    pp__fd_close(fd);
    return error;
}

int pp__spawn_open(const struct pp__zygote_setup *setup)
{
    if (!setup->spawn || (!setup->command && !setup->invites))
        return 0;
    int fd = listen_somewhere();
    if (fd < 0)
        return fd;
    return watch(&listener, fd, listener_ready) ? 0 : -ENOMEM;
}

/* ------------------------------------------------------------------------------------------- the new image */

/* Where the executable lies, if it lies there still: that tells more in a list of processes. */
static void find_executable(char path[PATH_MAX], pid_t zygote)
{
    struct stat ours, there;
    pp__birth_executable(path);
    if (PP_ON_VALGRIND)
        return;
    ssize_t size = PP_SYS(readlink)("/proc/self/exe", path, PATH_MAX - 1);
    path[size > 0 ? size : 0] = '\0';
    if (PP_SYS(stat)("/proc/self/exe", &ours) != 0 || PP_SYS(stat)(path, &there) != 0 || ours.st_ino != there.st_ino ||
        ours.st_dev != there.st_dev)
        snprintf(path, PATH_MAX, "/proc/%d/exe", (int)zygote);
}

void pp__spawn_invitation(const struct pp__spawned *s, char text[PP__INVITATION_MAX])
{
    static_assert(sizeof name + PP__NONCE_SIZE + 2 <= PP__INVITATION_MAX, "an invitation fits");
    snprintf(text, PP__INVITATION_MAX, "%s:%.*s", name, PP__NONCE_SIZE, s->message.nonce);
}

static void exec_command(const struct pp__spawned *s, char *const *command, pid_t zygote)
{
    char path[PATH_MAX], text[PP__INVITATION_MAX];
    size_t count = 0;
    while (command[count])
        count++;
    char *words[count + 1];
    find_executable(path, zygote);
    for (size_t i = 0; i <= count; i++)
        words[i] = command[i] && strcmp(command[i], "{}") == 0 ? path : command[i];
    pp__spawn_invitation(s, text);
    if (PP_SYS(setenv)(PP__INVITATION, text, 1) == 0 && words[0])
        PP_SYS(execvp)(words[0], words);
}

static void exec_self(const struct pp__spawned *s, int line)
{
    char path[PATH_MAX], text[16 + PP__NONCE_SIZE];
    char *words[] = {program_invocation_name, NULL};
    fcntl(line, F_SETFD, 0);
    snprintf(text, sizeof text, "%d:%.*s", line, PP__NONCE_SIZE, s->message.nonce);
    if (PP_SYS(setenv)(PP__MARKER, text, 1) == 0) /* without it the image would go on as the program itself */
        PP_SYS(execv)(pp__birth_executable(path), words);
}

/* In the fork, which has one thread and is nobody's worker yet. */
static _Noreturn void become_image(const struct pp__spawned *s, const struct pp__zygote_setup *setup, pid_t zygote,
                                   int line)
{
    setpgid(0, 0);
    /* Stays over the exec; one of a program with privileges clears it. */
    if (PP_SYS(prctl)(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != zygote)
        _exit(127);
    pp__signals_set(0);
    PP_FAULT("spawn.exec.before");
    if (setup->command)
        exec_command(s, setup->command, zygote);
    else
        exec_self(s, line);
    struct pp__wire_joined failed = {.type = PP__WIRE_JOINED, .error = errno};
    pp__fd_send(line, &failed, sizeof failed, NULL, 0);
    _exit(127);
}

static int start(struct pp__spawned *s, const struct pp__zygote_setup *setup, int line)
{
    pid_t zygote = getpid();
    int error = s->by_command ? 0 : send_plan(s);
    if (error)
        return -error;
    PP_FAULT("zygote.start.before");
    pid_t pid = PP_SYS(fork)();
    if (pid == 0)
        become_image(s, setup, zygote, line);
    if (pid < 0)
        return errno;
    setpgid(pid, pid); /* the child does so too: whoever comes first */
    PP_FAULT("zygote.start.forked");
    s->child = s->worker = pid;
    return 0;
}

static int start_on_line(struct pp__spawned *s, const struct pp__zygote_setup *setup)
{
    int pair[2];
    int error = -pp__fd_socketpair(pair);
    if (error)
        return error;
    error = watch(&s->line, pair[0], line_ready) ? start(s, setup, pair[1]) : ENOMEM;
    pp__fd_close(pair[1]);
    return error;
}

/* Descriptors of a plan that can't be sent at once are kept under numbers of our own: the caller closes its own. */
static int keep_descriptors(struct pp__spawned *s, const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int fd = pp__fd_adopt(PP_SYS(fcntl)(fds[i], F_DUPFD_CLOEXEC, 0), "a copy of a descriptor");
        if (fd < 0)
            return -fd;
        s->fds[s->count++] = fd;
    }
    return 0;
}

int pp__spawn_start(const struct pp__zygote_setup *setup, const struct pp__plan *plan, const int *fds, size_t count,
                    void *record, struct pp__spawned **spawned, pid_t *child)
{
    struct pp__spawned *s = PP_SYS(calloc)(1, sizeof *s);
    if (!s)
        return ENOMEM;
    s->record = record;
    s->by_command = setup->command || setup->invites;
    s->line.fd = s->ender.fd = -1;
    pp__list_insert(&children, &s->link);
    make_message(s, setup, plan);
    int error = keep_descriptors(s, fds, count);
    if (!error && !setup->invites)
        error = start_on_line(s, setup);
    if (error) {
        pp__spawn_free(s);
        return error;
    }
    *spawned = s;
    *child = s->child;
    return 0;
}
