/* SPDX-License-Identifier: MIT */
/* What a task has printed is out whichever way it ends, and nothing of the owner's is: neither what lay in its streams
 * nor what its exit handlers do. */
#include "call_kit.h"

enum { HANDLERS };

/* ----------------------------------------------------------------------------------- standard output */

/* The test's own standard output becomes a pipe; the end to read from, which never blocks. */
static int pipe_stdout(void)
{
    int ends[2];
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    CHECK_INT(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    CHECK_INT(setvbuf(stdout, NULL, _IOFBF, BUFSIZ), 0);
    close(ends[1]);
    CHECK_INT(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    return ends[0];
}

/* What lies in the pipe now. */
static const char *in_pipe(int end)
{
    static char text[65536];
    ssize_t got = read(end, text, sizeof text - 1);
    text[got > 0 ? got : 0] = 0;
    return text;
}

/* How to leave a task. */
enum leaving { BY_RETURN, BY_EXIT, BY_QUICK_EXIT, BY_FLUSH };

struct print {
    enum leaving leaving;
    int status;
    char text[32];
};

static int task_print(pp_task *task, const void *arg, size_t size)
{
    struct print print;
    (void)task;
    CHECK_INT(size, sizeof print);
    memcpy(&print, arg, sizeof print);
    printf("%s", print.text);
    if (print.leaving == BY_EXIT)
        exit(print.status);
    if (print.leaving == BY_QUICK_EXIT)
        quick_exit(print.status);
    if (print.leaving == BY_FLUSH)
        fflush(NULL);
    return 0;
}

static pp_future *submit_print(pp_pool *pool, enum leaving leaving, int status, const char *text)
{
    struct print print = {.leaving = leaving, .status = status};
    snprintf(print.text, sizeof print.text, "%s", text);
    return submit(pool, task_print, &print, sizeof print);
}

BOTH(what_a_task_printed_is_out_when_its_result_is_there)
{
    int end = pipe_stdout();
    pp_pool *pool = kit_pool(method, 1);
    for (int i = 0; i < 20; i++) {
        char text[32];
        snprintf(text, sizeof text, "no newline %d", i);
        expect_end(submit_print(pool, BY_RETURN, 0, text), 0);
        CHECK_STR(in_pipe(end), text);
    }
    pp_pool_destroy(pool);
    CHECK_STR(in_pipe(end), "");
}

/* Whichever way a worker leaves, with its streams flushed or not. */
BOTH(what_the_owner_had_not_flushed_is_written_once)
{
    char *file_text = NULL;
    size_t file_size = 0;
    int end = pipe_stdout(), other = memfd_create("other", 0);
    FILE *stream = fdopen(other, "w+");
    CHECK(stream != NULL);
    printf("the owner's ");
    fprintf(stream, "text");
    pp_pool *pool = kit_pool(method, 2);
    expect_end(submit_print(pool, BY_FLUSH, 0, "1;"), 0);
    expect_end(submit_print(pool, BY_EXIT, 5, "2;"), -EOWNERDEAD);
    expect_end(submit_print(pool, BY_QUICK_EXIT, 5, "3;"), -EOWNERDEAD);
    expect_end(submit(pool, crash, NULL, 0), -EOWNERDEAD);
    expect_end(submit_print(pool, BY_RETURN, 0, "4;"), 0);
    pp_pool_destroy(pool);
    CHECK_STR(in_pipe(end), "1;2;3;4;");
    printf("text");
    fflush(NULL);
    CHECK_STR(in_pipe(end), "the owner's text");
    rewind(stream);
    CHECK(getdelim(&file_text, &file_size, 0, stream) > 0);
    CHECK_STR(file_text, "text");
    free(file_text);
    fclose(stream);
}

/* ----------------------------------------------------------------------------------- exit handlers */

static void count_handler(void)
{
    if (fcntl(BOARD_FD, F_GETFD) >= 0)
        add(HANDLERS);
}

static void count_on_exit(int status, void *data)
{
    (void)status, (void)data;
    count_handler();
}

/* In a fresh image as in the owner. */
__attribute__((constructor)) static void register_handlers(void)
{
    if (atexit(count_handler) != 0 || at_quick_exit(count_handler) != 0 || on_exit(count_on_exit, NULL) != 0)
        abort();
}

static void expect_status(pp_future *future, int status)
{
    const pp_error *error;
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL);
    CHECK_INT(error->kind, PP_ERROR_CRASH);
    CHECK_INT(error->status, status);
    CHECK_INT(error->signal, 0);
    pp_future_unref(future);
}

BOTH(a_task_that_exits_runs_no_handler_of_the_owners_and_loses_no_text)
{
    board_make();
    int end = pipe_stdout();
    register_handlers();
    pp_pool *pool = kit_pool(method, 1);
    expect_usable(pool);
    expect_status(submit_print(pool, BY_EXIT, 3, "exit"), 3);
    CHECK_STR(in_pipe(end), "exit");
    expect_status(submit_print(pool, BY_QUICK_EXIT, 4, "quick"), 4);
    CHECK_STR(in_pipe(end), "quick");
    expect_status(submit_print(pool, BY_EXIT, 0, "zero"), 0);
    CHECK_STR(in_pipe(end), "zero");
    expect_usable(pool);
    pp_pool_destroy(pool);
    CHECK_INT(read_word(HANDLERS), 0);
}
