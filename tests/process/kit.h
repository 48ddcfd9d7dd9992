/* SPDX-License-Identifier: MIT */
/*
 * For tests of the process floor: launchers of either method, and children that run a function of the test program.
 * Included once by each program.
 */
#ifndef PP_TESTS_PROCESS_KIT_H
#define PP_TESTS_PROCESS_KIT_H

#include "base/error.h"
#include "base/fd.h"
#include "helpers.h"
#include "process/become.h"
#include "process/child.h"
#include "process/launcher.h"
#include "process/zygote.h"
#include "procpool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* A test that runs under each method. */
#define TEST_BOTH_WITHIN(name, seconds)                                                                                \
    static void name(pp_start_method method);                                                                          \
    TEST_WITHIN(name##_under_fork, seconds)                                                                            \
    {                                                                                                                  \
        name(PP_START_FORK);                                                                                           \
    }                                                                                                                  \
    TEST_WITHIN(name##_under_forkserver, seconds)                                                                      \
    {                                                                                                                  \
        name(PP_START_FORKSERVER);                                                                                     \
    }                                                                                                                  \
    TEST_WITHIN(name##_under_spawn, seconds)                                                                           \
    {                                                                                                                  \
        name(PP_START_SPAWN);                                                                                          \
    }                                                                                                                  \
    static void name(pp_start_method method)
#define TEST_BOTH(name) TEST_BOTH_WITHIN(name, HARNESS_SECONDS)

/* What a child runs: the descriptors of its plan, and the bytes given with it. Returning is pp__child_exit(0). */
typedef void kit_body(const int *fds, size_t count, const void *data, size_t size, int shared_images);

struct kit_order {
    int64_t body; /* from kit_entry on: executables lie at different addresses */
    unsigned char data[PP__PLAN_MAX - 8];
};

static _Noreturn void kit_entry(const void *data, size_t size, const int *fds, size_t count, int shared_images)
{
    struct kit_order order;
    memset(&order, 0, sizeof order);
    memcpy(&order, data, size < sizeof order ? size : sizeof order);
    kit_body *body = (kit_body *)((uintptr_t)kit_entry + (uintptr_t)order.body);
    body(fds, count, order.data, size - 8, shared_images);
    pp__child_exit(0);
}

/* The pool floor's, which this floor's tests do without. */
void pp__child_entry(const void *data, size_t size, const int *fds, size_t count, int shared_images);
__attribute__((weak)) void pp__child_entry(const void *data, size_t size, const int *fds, size_t count,
                                           int shared_images)
{
    kit_entry(data, size, fds, count, shared_images);
}

__attribute__((constructor)) static void kit_take_over(void)
{
    pp__child_run = kit_entry;
}

/* Launchers that a test leaves to its process's end: remembered, so that no leak checker minds. */
static pp_launcher *kit_kept[1024];

static inline pp_launcher *kit_keep(pp_launcher *launcher)
{
    static atomic_uint count;
    kit_kept[count++ % 1024] = launcher;
    return launcher;
}

static inline pp_launcher *kit_launcher(pp_start_method method)
{
    pp_launcher *launcher = NULL;
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = method}, &launcher));
    CHECK_INT(pp__launcher_method(launcher), method);
    return kit_keep(launcher);
}

static inline void kit_start_with(int connection, uint64_t serial, kit_body *body, const void *data, size_t size,
                                  const int *fds, size_t count)
{
    struct pp__plan plan = {.serial = serial, .stack_size = 1 << 20, .name = "pp-child", .size = (uint32_t)size + 8};
    struct kit_order order = {.body = (int64_t)((uintptr_t)body - (uintptr_t)kit_entry)};
    memcpy(order.data, data, size);
    memcpy(plan.data, &order, size + 8);
    CHECK_OK(pp__launcher_start(connection, &plan, fds, count));
}

static inline void kit_start(int connection, uint64_t serial, kit_body *body)
{
    kit_start_with(connection, serial, body, "", 0, NULL, 0);
}

/* The next report, awaited. */
static inline struct pp__report kit_report(int connection)
{
    struct pp__report report;
    int got;
    struct pollfd watched = {.fd = connection, .events = POLLIN};
    while ((got = pp__launcher_report(connection, &report)) == 0)
        CHECK(poll(&watched, 1, 5000 * (int)harness_scale()) == 1);
    CHECK_INT(got, 1);
    return report;
}

/* Its child's pid. */
static inline pid_t kit_started(int connection, uint64_t serial)
{
    struct pp__report report = kit_report(connection);
    CHECK_INT(report.type, PP__REPORT_STARTED);
    CHECK_INT(report.serial, serial);
    CHECK(report.pid > 0);
    return report.pid;
}

static inline void kit_ended(int connection, uint64_t serial, int code, int status)
{
    struct pp__report report = kit_report(connection);
    CHECK_INT(report.type, PP__REPORT_ENDED);
    CHECK_INT(report.serial, serial);
    CHECK_INT(report.code, code);
    CHECK_INT(report.status, status);
}

static inline void kit_gone(int connection)
{
    struct pp__report report;
    int got;
    struct pollfd watched = {.fd = connection, .events = POLLIN};
    while ((got = pp__launcher_report(connection, &report)) >= 0)
        CHECK(poll(&watched, 1, 5000 * (int)harness_scale()) == 1);
    CHECK_INT(got, -EPIPE);
}

/* Starts a child that runs the body, with its socket's other end in *talk, and returns its pid. */
static inline pid_t kit_talker(int connection, uint64_t serial, kit_body *body, const void *data, size_t size,
                               int *talk)
{
    int pair[2];
    CHECK_OK(pp__fd_socketpair(pair));
    kit_start_with(connection, serial, body, data, size, &pair[1], 1);
    pp__fd_close(pair[1]);
    *talk = pair[0];
    return kit_started(connection, serial);
}

/* What a talker said: one message, with a NUL behind it; its size, 0 if it is gone. */
static inline size_t kit_hear(int talk, void *message, size_t room)
{
    struct pollfd watched = {.fd = talk, .events = POLLIN};
    CHECK_INT(poll(&watched, 1, 5000 * (int)harness_scale()), 1);
    ssize_t size = recv(talk, message, room - 1, 0);
    if (size < 0)
        size = 0;
    ((char *)message)[size] = '\0';
    return (size_t)size;
}

static inline int kit_hear_int(int talk)
{
    char room[64];
    CHECK_INT(kit_hear(talk, room, sizeof room), sizeof(int));
    int value;
    memcpy(&value, room, sizeof value);
    return value;
}

static inline void kit_say(int talk, const void *message, size_t size)
{
    CHECK_INT(send(talk, message, size, MSG_NOSIGNAL), size);
}

static inline void kit_say_int(int talk, int value)
{
    kit_say(talk, &value, sizeof value);
}

static inline void kit_sleep_for_ever(void)
{
    for (;;)
        pause();
}

static inline void kit_body_sleep(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)fds, (void)count, (void)data, (void)size, (void)shared;
    kit_sleep_for_ever();
}

/* Says its pid, then sleeps. */
static inline void kit_body_say_and_sleep(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)data, (void)size, (void)shared;
    kit_say_int(fds[0], getpid());
    kit_sleep_for_ever();
}

#endif
