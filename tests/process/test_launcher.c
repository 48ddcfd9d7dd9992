/* SPDX-License-Identifier: MIT */
/* A launcher and its children's lives: starting, ending, killing, being told. */
#include "kit.h"

static void body_exit(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)fds, (void)count, (void)size, (void)shared;
    int status;
    memcpy(&status, data, sizeof status);
    exit(status);
}

static void body_signal(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)fds, (void)count, (void)size, (void)shared;
    int number;
    memcpy(&number, data, sizeof number);
    raise(number);
    kit_sleep_for_ever();
}

TEST_BOTH(a_child_that_returns_is_told_started_then_ended_with_status_0)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    int status = 0;
    kit_start_with(connection, 1, body_exit, &status, sizeof status, NULL, 0);
    kit_started(connection, 1);
    kit_ended(connection, 1, CLD_EXITED, 0);
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}

TEST_BOTH(ends_are_told_with_the_status_or_the_signal)
{
    static const struct {
        kit_body *body;
        int value, code;
    } ends[] = {{body_exit, 7, CLD_EXITED},
                {body_signal, SIGKILL, CLD_KILLED},
                {body_signal, SIGSEGV, CLD_KILLED},
                {body_signal, SIGTERM, CLD_KILLED},
                {body_exit, 255, CLD_EXITED}};
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher));
    for (uint64_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        kit_start_with(connection, i, ends[i].body, &ends[i].value, sizeof(int), NULL, 0);
        kit_started(connection, i);
        kit_ended(connection, i, ends[i].code, ends[i].value);
    }
    pp__launcher_disconnect(connection);
    pp_launcher_unref(launcher);
}
