/* SPDX-License-Identifier: MIT */
/*
 * Workers that the program starts by functions of its own, where memory runs out, at every step.
 *
 * needs: seams
 */
#include "call_kit.h"
#include "want_kit.h"

#include <spawn.h>

__attribute__((constructor)) static void make_scarce(void)
{
    real = pp__sys;
    pp__sys.malloc = failing_malloc;
    pp__sys.calloc = failing_calloc;
    pp__sys.memfd_create = failing_memfd_create;
}

static _Atomic int starts, stops;

static int start_image(void *context, const char *invitation, int number)
{
    char text[200], path[4096];
    char *words[] = {"starter", NULL}, *environment[] = {text, NULL};
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t pid;
    (void)context, (void)number;
    snprintf(text, sizeof text, "PROCPOOL_INVITATION=%s", invitation);
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attributes, &none);
    int error = posix_spawn(&pid, test_program(path), NULL, &attributes, words, environment);
    posix_spawnattr_destroy(&attributes);
    atomic_fetch_add(&starts, error == 0);
    return -error;
}

static void count_stop(void *context, const char *invitation, int number)
{
    (void)context, (void)invitation, (void)number;
    atomic_fetch_add(&stops, 1);
}

TEST_WITHIN(in_want_of_memory_a_worker_is_started_later_and_stopped_once, 60)
{
    const pp_starter starter = {.start = start_image, .stop = count_stop};
    pp_launcher *launcher = NULL;
    signal(SIGCHLD, SIG_IGN);
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.starter = &starter}, &launcher));
    for (long n = 1, failed = true; failed; n++) {
        pp_pool *pool = NULL;
        pp_future *future = NULL;
        const pp_error *error = NULL;
        CHECK_OK(pp_pool_create(&(pp_pool_options){.launcher = launcher, .max_workers = 1}, &pool));
        arm(n);
        int code = pp_submit(pool, echo, "12345", 5, &future);
        if (code == 0)
            CHECK_OK(pp_future_error(future, -1, &error));
        failed = disarm();
        CHECK(code == 0 || code == -ENOMEM);
        CHECK(!error || error->kind == PP_ERROR_TRAVEL);
        pp_future_unref(future);
        pp_pool_destroy(pool);
    }
    CHECK_INT(stops, starts);
    pp_launcher_unref(launcher);
}
