/* SPDX-License-Identifier: MIT */
/*
 * The fresh image: pp_worker_main in a program that was started once more, as the parent of workers or as a worker
 * (join.c). Runs in main's thread, before anything else; all signals are blocked since the helper's fork.
 */
#include "process/image.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "process/become.h"
#include "process/join.h"
#include "process/owner.h"
#include "process/zygote.h"
#include "procpool.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define LOOK_US 50000

static bool called;
static struct pp__zygote_setup setup; /* for the timer's handler */
static union {
    struct pp__wire_hello hello;
    char room[sizeof(struct pp__wire_hello) + PP__PRELOAD_SIZE_MAX];
} first;

bool pp__worker_main_was_called(void)
{
    return called;
}

/* ------------------------------------------------------------------------------------------------- the marker */

static int parse_marker(const char *marker, char nonce[PP__NONCE_SIZE])
{
    char *rest;
    errno = 0;
    long fd = strtol(marker, &rest, 10);
    if (errno || rest == marker || *rest != ':' || fd < 3 || fd > INT32_MAX)
        return -1;
    if (strlen(rest + 1) != PP__NONCE_SIZE)
        return -1;
    memcpy(nonce, rest + 1, PP__NONCE_SIZE);
    return (int)fd;
}

static bool is_seqpacket(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    return PP_SYS(getsockopt)(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

/* The first message is looked at, and taken only if it is for us: the descriptor may be anybody's. Its type; 0: it is
 * not. */
static uint32_t look_for_message(int fd, const char *nonce)
{
    struct pp__wire_marked peeked;
    if (!is_seqpacket(fd))
        return 0;
    ssize_t size = PP_SYS(recv)(fd, &peeked, sizeof peeked, MSG_PEEK | MSG_DONTWAIT);
    return size == sizeof peeked && memcmp(peeked.nonce, nonce, PP__NONCE_SIZE) == 0 ? peeked.type : 0;
}

/* Whether `count` texts end within `size` bytes, and nothing is left over. */
static bool texts_are_sound(const char *texts, size_t size, uint32_t count)
{
    for (; count > 0; count--) {
        const char *end = memchr(texts, 0, size);
        if (!end)
            return false;
        size -= (size_t)(end + 1 - texts);
        texts = end + 1;
    }
    return size == 0;
}

static bool hello_is_sound(ssize_t size)
{
    const struct pp__wire_hello *hello = &first.hello;
    return size >= (ssize_t)sizeof *hello && (size_t)size - sizeof *hello == hello->text_size &&
           hello->inherit_count <= PP__INHERIT_MAX && hello->preload_count <= PP__PRELOAD_SIZE_MAX &&
           hello->command_count <= PP__PRELOAD_SIZE_MAX &&
           texts_are_sound(first.room + sizeof *hello, hello->text_size, hello->preload_count + hello->command_count);
}

static int take_hello(int socket)
{
    int owner = -1;
    size_t count = 1;
    ssize_t size = pp__fd_receive(socket, &first, sizeof first, &owner, &count, MSG_DONTWAIT);
    if (!hello_is_sound(size))
        return -EPROTO;
    setup = (struct pp__zygote_setup){.control = socket,
                                      .owner = count == 1 ? owner : -1,
                                      .owner_pid = first.hello.owner_pid,
                                      .owner_start = first.hello.owner_start,
                                      .close_all = true,
                                      .spawn = first.hello.spawn != 0,
                                      .spares = first.hello.spares != 0,
                                      .invites = first.hello.invites != 0,
                                      .inherit_count = first.hello.inherit_count};
    memcpy(setup.inherit, first.hello.inherit, sizeof setup.inherit);
    return 0;
}

/* ------------------------------------------------------------------------------------------------- preloading */

/* A module's constructor may take its time, or all time: the owner's end must end us there too. */
static void look_for_owner(int signal)
{
    (void)signal;
    int error = errno;
    if (pp__zygote_abandoned(&setup))
        _exit(0);
    errno = error;
}

static void watch_owner(bool on)
{
    struct itimerval timer = {0};
    if (on)
        timer.it_interval.tv_usec = timer.it_value.tv_usec = LOOK_US;
    struct sigaction action = {.sa_handler = on ? look_for_owner : SIG_DFL, .sa_flags = SA_RESTART};
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    if (on)
        sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &timer, NULL);
    sigprocmask(on ? SIG_UNBLOCK : SIG_BLOCK, &alarm, NULL);
    if (!on)
        sigaction(SIGALRM, &action, NULL);
}

/* dlopen gives no errno: that of the file, if it can't be read, is the best there is. */
static int preload_error(const char *path, const char *text)
{
    if (strchr(path, '/') && PP_SYS(access)(path, R_OK) != 0)
        return -errno;
    return strstr(text, "No such file") ? -ENOENT : -ELIBBAD;
}

static void preload(void)
{
    const char *path = first.room + sizeof first.hello;
    for (uint32_t i = 0; i < first.hello.preload_count; i++, path += strlen(path) + 1) {
        pp__zygote_say(&setup, 0, false, "");
        if (PP_SYS(dlopen)(path, RTLD_NOW | RTLD_LOCAL))
            continue;
        const char *reason = dlerror();
        char text[400];
        snprintf(text, sizeof text, "preload of %.300s", reason ? reason : path);
        pp__zygote_say(&setup, preload_error(path, text), true, text);
        _exit(1);
    }
}

/* Its words, behind the paths to preload; stays as long as the zygote. */
static char **find_command(void)
{
    char *word = first.room + sizeof first.hello;
    uint32_t count = first.hello.command_count;
    char **words = count > 0 ? PP_SYS(calloc)((size_t)count + 1, sizeof *words) : NULL;
    if (count > 0 && !words)
        _exit(127);
    for (uint32_t i = 0; i < first.hello.preload_count; i++)
        word += strlen(word) + 1;
    for (uint32_t i = 0; i < count; i++, word += strlen(word) + 1)
        words[i] = word;
    return words;
}

static _Noreturn void be_zygote(void)
{
    setup.command = find_command();
    pp__signals_block(NULL);
    pp__zygote_become(&setup);
    if (first.hello.preload_count > 0) {
        watch_owner(true);
        preload();
        watch_owner(false);
        pp__zygote_become(&setup); /* whatever constructors did to dispositions, descriptors and stdio */
    }
    pp__zygote_run(&setup);
}

int pp_worker_main(void)
{
    char nonce[PP__NONCE_SIZE];
    called = !getauxval(
        AT_SECURE); /* no image of such a program would believe its marker: each would go on as the program */
    const char *marker = secure_getenv(PP__MARKER);
    if (!marker) {
        pp__join_if_invited();
        return 0;
    }
    int fd = parse_marker(marker, nonce);
    unsetenv(PP__MARKER);
    uint32_t type = fd < 0 ? 0 : look_for_message(fd, nonce);
    if (type != PP__WIRE_HELLO && type != PP__WIRE_PLAN)
        return pp__fail(-EPROTO, PP__MARKER " is in the environment, but nobody answers at descriptor %d", fd);
    int socket = pp__fd_adopt(fd, "the control socket");
    if (socket < 0)
        _exit(127); /* this is a second copy of the program: it must not go on as the first */
    if (type == PP__WIRE_PLAN)
        pp__join(socket);
    if (take_hello(socket) != 0)
        _exit(127);
    be_zygote();
}
