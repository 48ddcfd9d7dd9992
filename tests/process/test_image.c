/* SPDX-License-Identifier: MIT */
/* The forkserver's image: what is preloaded, and what is not taken for one. */
#include "kit.h"
#include "process/sanitizer.h"
#include "process/wire.h"

static int create(const char *const *preload)
{
    pp_launcher *launcher;
    int error =
        pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_FORKSERVER, .preload = preload}, &launcher);
    if (error == 0)
        pp_launcher_unref(launcher);
    return error;
}

static void body_is_loaded(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)data, (void)size, (void)shared;
    char line[4096];
    int loaded = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    while (fgets(line, sizeof line, maps))
        loaded |= strstr(line, "libprocess_preload.so") != NULL;
    sigset_t mask;
    struct sigaction action;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    sigaction(SIGALRM, NULL, &action);
    kit_say_int(fds[0], loaded + 10 * sigismember(&mask, SIGALRM) + 100 * (action.sa_handler != SIG_DFL));
}

TEST(preloaded_modules_are_there_before_the_first_call)
{
    pp_launcher *launcher;
    const char *const preload[] = {PP_TEST_PLUGINS "/libprocess_preload.so", "libm.so.6", NULL};
    CHECK_OK(
        pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_FORKSERVER, .preload = preload}, &launcher));
    kit_keep(launcher);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher)), talk;
    kit_talker(connection, 1, body_is_loaded, "", 0, &talk);
    CHECK_INT(kit_hear_int(talk), 1);
}

TEST(a_preload_that_cannot_be_opened_fails_the_launcher_with_the_loaders_words)
{
    CHECK_INT(create((const char *[]){"/nowhere/lib.so", NULL}), -ENOENT);
    CHECK_HAS(pp_last_error(), "/nowhere/lib.so");
    CHECK_INT(create((const char *[]){"libm.so.6", "libnosuchthing.so.9", NULL}), -ENOENT);
    CHECK_HAS(pp_last_error(), "libnosuchthing.so.9");
    CHECK_INT(create((const char *[]){PP_TEST_SOURCE "/LICENSE", NULL}), -ELIBBAD);
    CHECK_HAS(pp_last_error(), "LICENSE");
    CHECK_INT(create((const char *[]){PP_TEST_PLUGINS "/libprocess_undefined.so", NULL}), -ELIBBAD);
    CHECK_HAS(pp_last_error(), "pp_test_no_such_symbol");
    CHECK_INT(create((const char *[]){PP_TEST_PLUGINS "/libprocess_exits.so", NULL}), -EAGAIN);
    CHECK_INT(create((const char *[]){NULL}), 0);
}

TEST(too_long_a_list_to_preload_is_E2BIG)
{
    static char path[4096];
    static const char *list[40];
    memset(path, 'a', sizeof path - 1);
    for (int i = 0; i < 39; i++)
        list[i] = path;
    CHECK_INT(create(list), -E2BIG);
    CHECK_HAS(pp_last_error(), "65536");
}

TEST_WITHIN(a_preload_that_never_ends_is_given_up_after_ten_seconds, 30)
{
    if (PP_ON_VALGRIND)
        LEFT_OUT("valgrind is given more time");
    CHECK_INT(create((const char *[]){PP_TEST_PLUGINS "/libprocess_hangs.so", NULL}), -EAGAIN);
    CHECK_HAS(pp_last_error(), "10 s");
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 2);
}

TEST(a_preload_that_never_ends_ends_with_the_owner)
{
    pid_t pid = fork();
    if (pid == 0) {
        create((const char *[]){PP_TEST_PLUGINS "/libprocess_hangs.so", NULL});
        _exit(0);
    }
    wait_until(count_descendants_named(getppid(), "pp-zygote") == 1, 5);
    kill(pid, SIGKILL);
    CHECK_INT(waitpid(pid, NULL, 0), pid);
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 2);
}

/* ------------------------------------------------------------------------------------------ markers */

static void check_marker_is_refused(const char *marker)
{
    setenv(PP__MARKER, marker, 1);
    CHECK_INT(pp_worker_main(), -EPROTO);
    CHECK_HAS(pp_last_error(), PP__MARKER);
    CHECK(!getenv(PP__MARKER));
}

#define NONCE "0123456789abcdef0123456789abcdef"

TEST(a_stale_or_forged_marker_is_refused_and_the_program_goes_on)
{
    char marker[64];
    int pair[2], pipes[2], stream[2];
    static const char *const wrong[] = {"",
                                        "x",
                                        "3",
                                        "3:",
                                        ":" NONCE,
                                        "-1:" NONCE,
                                        "0:" NONCE,
                                        "700:" NONCE,
                                        "99999999999999999999:" NONCE,
                                        "3:" NONCE "0",
                                        "3 :" NONCE,
                                        "2:" NONCE};
    double begun = test_seconds();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check_marker_is_refused(wrong[i]);
    CHECK_INT(pipe(pipes), 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    const int fds[] = {pipes[0], stream[0], pair[0]};
    for (int i = 0; i < 3; i++) { /* what is none of ours, or says nothing */
        snprintf(marker, sizeof marker, "%d:" NONCE, fds[i]);
        check_marker_is_refused(marker);
    }
    struct pp__wire_hello hello = {.type = PP__WIRE_HELLO};
    memset(hello.nonce, 'f', sizeof hello.nonce);
    kit_say(pair[1], &hello, sizeof hello);
    check_marker_is_refused(marker); /* another one's hello, which is left to it */
    CHECK_INT(recv(pair[0], &hello, sizeof hello, MSG_DONTWAIT), sizeof hello);
    kit_say(pair[1], NONCE, sizeof NONCE);
    check_marker_is_refused(marker);
    close(pair[1]);
    CHECK_INT(recv(pair[0], &hello, sizeof hello, MSG_DONTWAIT), sizeof NONCE);
    check_marker_is_refused(marker); /* nobody is there */
    CHECK(test_seconds() - begun < 5 * harness_scale());
    CHECK_INT(create(NULL), 0);
}

TEST(a_stale_marker_in_the_owners_environment_does_not_reach_the_image)
{
    setenv(PP__MARKER, "3:" NONCE, 1);
    CHECK_INT(create(NULL), 0);
}

/* A hello that is for us, but damaged: this image is no program, so it ends. */
TEST(an_image_with_a_damaged_hello_ends)
{
    for (int how = 0; how < 4; how++) {
        struct {
            struct pp__wire_hello hello;
            char texts[8];
        } message = {.hello = {.type = PP__WIRE_HELLO}, .texts = "abcdefg"};
        size_t size = sizeof message;
        message.hello.text_size = 8;
        message.hello.preload_count = 1;
        memcpy(message.hello.nonce, NONCE, PP__NONCE_SIZE);
        switch (how) {
        case 0:
            message.hello.text_size = 9;
            break;
        case 1:
            message.hello.preload_count = 2;
            break;
        case 2:
            message.hello.inherit_count = PP__INHERIT_MAX + 1;
            break;
        case 3:
            message.texts[7] = 'x';
            break;
        }
        int pair[2], status;
        char marker[64];
        CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        kit_say(pair[1], &message, size);
        snprintf(marker, sizeof marker, "%d:" NONCE, pair[0]);
        setenv(PP__MARKER, marker, 1);
        pid_t pid = fork();
        if (pid == 0) {
            pp_worker_main();
            _exit(0);
        }
        CHECK_INT(waitpid(pid, &status, 0), pid);
        CHECK(WIFEXITED(status));
        CHECK_INT(WEXITSTATUS(status), 127);
        close(pair[0]);
        close(pair[1]);
    }
}
