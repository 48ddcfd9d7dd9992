/* SPDX-License-Identifier: MIT */
/*
 * A fresh image becomes a worker: it takes its plan from its line, says so, and goes on as a fork of the zygote does
 * (child.c). Called by pp_worker_main (image.c), or by the program itself through pp_worker_attach; in the process's
 * only thread.
 *
 * An image whose parent is the zygote follows that by PDEATHSIG. Any other is tied to its line: the other end is in the
 * zygote alone, and when it goes, the kernel sends what the line was set to send when something happens there, SIGKILL,
 * which reaches processes that are stopped or deaf as well. Nothing else ever happens there: the zygote sends nothing
 * behind the plan. One that outlives the zygote keeps the line all the same, for the zygote to see its end.
 */
#include "process/join.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "process/become.h"
#include "process/begin.h"
#include "process/owner.h"
#include "procpool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MS 10000

/* What the new worker needs as long as it begins. */
static struct pp__zygote_setup setup;
static struct pp__wire_plan message;
static int fds[PP__PLAN_FDS];

/* ------------------------------------------------------------------------------------------ becoming one */

static bool tie(int line)
{
    int flags = PP_SYS(fcntl)(line, F_GETFL);
    if (flags < 0 || PP_SYS(fcntl)(line, F_SETOWN, getpid()) != 0 || PP_SYS(fcntl)(line, F_SETSIG, SIGKILL) != 0 ||
        PP_SYS(fcntl)(line, F_SETFL, flags | O_ASYNC) != 0)
        return false;
    /* An end that went before the last step has sent nothing; it is seen here. */
    struct pollfd watched = {.fd = line, .events = POLLIN | POLLRDHUP};
    return pp__fd_look(&watched, 1) == 0;
}

static bool say_joined(int line)
{
    struct pp__wire_joined word = {.type = PP__WIRE_JOINED};
    return pp__fd_send(line, &word, sizeof word, NULL, 0) == 0;
}

static _Noreturn void become(int line, size_t count)
{
    struct pp__beginning beginning = {.setup = &setup,
                                      .plan = &message.plan,
                                      .fds = fds,
                                      .count = count,
                                      .zygote = message.zygote,
                                      .image = true,
                                      .line = message.tied ? line : -1};
    setup = (struct pp__zygote_setup){.close_all = message.close_all, .inherit_count = message.inherit_count};
    memcpy(setup.inherit, message.inherit, sizeof setup.inherit);
    pp__signals_block(NULL);
    if (pp__zygote_stack(message.plan.stack_size, &beginning.stack, &beginning.stack_size) != 0)
        _exit(127);
    /* It held for what was to become this; off before it is told that this has begun. */
    if (message.plan.outlives)
        PP_SYS(prctl)(PR_SET_PDEATHSIG, 0);
    if ((message.tied && !message.plan.outlives && !tie(line)) || !say_joined(line))
        _exit(127);
    pp__signals_default();
    pp__child_begin(&beginning);
}

/* 0: there is a sound plan, with *count descriptors. */
static int take_plan(int line, int flags, size_t *count)
{
    *count = PP__PLAN_FDS;
    ssize_t size = pp__fd_receive(line, &message, sizeof message, fds, count, flags);
    if (size < 0)
        return (int)size;
    if (size == 0)
        return -ECONNREFUSED;
    if (size != sizeof message || message.type != PP__WIRE_PLAN || message.size != sizeof message ||
        message.inherit_count > PP__INHERIT_MAX || message.plan.size > PP__PLAN_MAX || message.error > 0)
        return -EPROTO;
    return message.error;
}

void pp__join(int line)
{
    size_t count;
    if (take_plan(line, MSG_DONTWAIT, &count) != 0)
        _exit(127);
    become(line, count);
}

/* -------------------------------------------------------------------------------------------- invitations */

/* "name:nonce" */
static int parse(const char *invitation, struct sockaddr_un *address, socklen_t *size, char nonce[PP__NONCE_SIZE])
{
    const char *end = strchr(invitation, ':');
    size_t length = end ? (size_t)(end - invitation) : 0;
    if (length == 0 || length > sizeof address->sun_path - 1 || strlen(end + 1) != PP__NONCE_SIZE)
        return pp__fail(-EINVAL, "\"%.64s\" is no invitation", invitation);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path + 1, invitation, length);
    *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    memcpy(nonce, end + 1, PP__NONCE_SIZE);
    return 0;
}

/* Names of abstract sockets are for anybody to take: who listens must be of our user too. */
static bool is_our_users(int line)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof peer;
    return PP_SYS(getsockopt)(line, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

static int fail_refused(int error)
{
    switch (error) {
    case -EACCES:
        return pp__fail(error, "nobody is invited with this token, or not any more");
    case -EALREADY:
        return pp__fail(error, "another process has followed the invitation");
    case -EPROTO:
        return pp__fail(error, "the pool that invites has another build of the library");
    case -ETIMEDOUT:
        return pp__fail(error, "the pool that invites does not answer");
    case -ECONNREFUSED:
        return pp__fail(error, "the pool that has invited is gone, or of another user");
    default:
        return pp__fail_errno(-error, "the plan of a worker");
    }
}

static int knock(int line, const char nonce[PP__NONCE_SIZE])
{
    struct pp__wire_knock word = {.type = PP__WIRE_KNOCK, .plan_size = sizeof message};
    memcpy(word.nonce, nonce, PP__NONCE_SIZE);
    int error = pp__fd_send(line, &word, sizeof word, NULL, 0);
    return error == -EPIPE ? -ECONNREFUSED : error;
}

/* Any signal may come meanwhile. */
static int await_answer(int line)
{
    uint64_t deadline = pp__deadline(ANSWER_MS);
    struct pollfd watched = {.fd = line, .events = POLLIN};
    while (PP_SYS(poll)(&watched, 1, pp__to_milliseconds(pp__until(deadline))) <= 0)
        if (pp__until(deadline) == 0)
            return -ETIMEDOUT;
    return 0;
}

static int follow(int line, const char nonce[PP__NONCE_SIZE])
{
    size_t count;
    int error = is_our_users(line) ? knock(line, nonce) : -EACCES;
    if (!error)
        error = await_answer(line);
    if (!error)
        error = take_plan(line, MSG_DONTWAIT, &count);
    if (!error)
        become(line, count);
    return fail_refused(error);
}

static int attach(const char *invitation)
{
    struct sockaddr_un address;
    socklen_t size;
    char nonce[PP__NONCE_SIZE];
    int error = parse(invitation, &address, &size, nonce);
    if (error)
        return error;
    int line = pp__fd_adopt(PP_SYS(socket)(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "a socket");
    if (line < 0)
        return line;
    error = PP_SYS(connect)(line, (struct sockaddr *)&address, size) == 0 ? follow(line, nonce) : fail_refused(-errno);
    pp__fd_close(line);
    return error;
}

int pp_worker_attach(const char *invitation)
{
    char copy[sizeof((struct sockaddr_un *)0)->sun_path + PP__NONCE_SIZE + 1];
    const char *given = invitation ? invitation : secure_getenv(PP__INVITATION);
    if (!given)
        return pp__fail(-ENOENT, "no " PP__INVITATION " is in the environment");
    if (strlen(given) >= sizeof copy)
        return pp__fail(-EINVAL, "an invitation has at most %zu bytes", sizeof copy - 1);
    strcpy(copy, given);
    if (!invitation)
        unsetenv(PP__INVITATION); /* what this process starts was not invited */
    return attach(copy);
}

/* A copy of a program that was started to be a worker must not go on as the program. */
void pp__join_if_invited(void)
{
    if (!secure_getenv(PP__INVITATION))
        return;
    pp_worker_attach(NULL);
    _exit(127);
}
