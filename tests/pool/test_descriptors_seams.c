/* SPDX-License-Identifier: MIT */
/*
 * Descriptors and buffers on their way where a worker dies at any step, and where memory, numbers or the kernel's
 * patience run out.
 *
 * needs: seams
 */
#include "processes_kit.h"
#include "want_kit.h"

#include <stdarg.h>

static bool twice; /* a number above the floor is wished for only: the next try is to fail too */

static int scarce_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    int argument = va_arg(arguments, int);
    va_end(arguments);
    bool again = twice;
    twice = false;
    if (command == F_DUPFD_CLOEXEC && (again || fails(EMFILE))) {
        twice = !again;
        errno = EMFILE;
        return -1;
    }
    return real.fcntl(fd, command, argument);
}

/* More are on their way than one user may have. */
static ssize_t impatient_sendmsg(int socket, const struct msghdr *message, int flags)
{
    return message->msg_controllen > 0 && fails(ETOOMANYREFS) ? -1 : real.sendmsg(socket, message, flags);
}

static int failing_fallocate(int fd, off_t at, off_t size)
{
    return fails(ENOMEM) ? ENOMEM : real.posix_fallocate(fd, at, size);
}

__attribute__((constructor)) static void put_hooks(void)
{
    real = pp__sys;
    pp__sys.malloc = failing_malloc;
    pp__sys.calloc = failing_calloc;
    pp__sys.fcntl = scarce_fcntl;
    pp__sys.sendmsg = impatient_sendmsg;
    pp__sys.memfd_create = failing_memfd_create;
    pp__sys.posix_fallocate = failing_fallocate;
    pp__sys.mmap = failing_mmap;
}

#define MOST 500
#define FILES 3

static int task_pass(pp_task *task, const void *arg, size_t size)
{
    for (size_t i = 0; i < pp_task_fd_count(task); i++) {
        int code = pp_task_return_fd(task, pp_task_fd(task, i));
        if (code)
            return code;
    }
    return pp_task_return(task, arg, size);
}

static const int files[FILES] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};

static int submit_files(pp_pool *pool, size_t size, uint32_t retries, pp_future **future)
{
    static char data[400000];
    CHECK(size <= sizeof data);
    return pp_submit_call(pool,
                          &(pp_call){.function = task_pass,
                                     .arg = data,
                                     .size = size,
                                     .retries = retries,
                                     .descriptors = files,
                                     .descriptor_count = FILES},
                          future);
}

/* ------------------------------------------------------------------------------------------------- want */

static bool is_want(int code)
{
    return code == -ENOMEM || code == -EMFILE || code == -ENFILE;
}

/* It succeeds, or is refused, or fails alone, for the want. */
static void pass(pp_pool *pool, size_t size)
{
    pp_future *future = NULL;
    const pp_error *error;
    int code = submit_files(pool, size, 0, &future);
    if (code) {
        CHECK(is_want(code));
        return;
    }
    CHECK_OK(pp_future_error(future, -1, &error));
    if (error) {
        CHECK_INT(error->kind, PP_ERROR_TRAVEL);
        CHECK(is_want(error->task_code));
    } else {
        CHECK_INT(pp_future_fd_count(future, 0), FILES);
        close((int)CHECK_OK(pp_future_take_fd(future, 0, 1)));
    }
    pp_future_unref(future);
}

EACH(every_want_costs_one_call_and_leaves_nothing)
{
    static const size_t sizes[] = {0, 100, 20000, 300000};
    pp_pool *pool = open_workers(1, method);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bool met = true;
        pass(pool, sizes[i]);
        int before = count_fds();
        for (long n = 1; met && n < MOST; n++) {
            arm(n);
            pass(pool, sizes[i]);
            met = disarm();
            pass(pool, sizes[i]);
            CHECK(count_fds() <= before + 1); /* a buffer may be made, and not be sent, yet */
        }
        CHECK(!met);
    }
    pp_pool_destroy(pool);
}

static int task_length(pp_task *task, const void *arg, size_t size)
{
    size_t length = 0;
    (void)arg, (void)size;
    return pp_task_buffer(task, 0, &length) ? pp_task_return(task, &length, sizeof length) : -EIO;
}

/* The same of the making of a buffer, and of a call that has one. */
static void make_and_pass(pp_pool *pool)
{
    pp_buffer *buffer = NULL;
    pp_future *future = NULL;
    size_t length;
    int code = pp_buffer_create(70000, &buffer);
    if (code) {
        CHECK(is_want(code) && !buffer);
        return;
    }
    code = pp_submit_call(pool, &(pp_call){.function = task_length, .buffers = &buffer, .buffer_count = 1}, &future);
    pp_buffer_unref(buffer);
    CHECK(code == 0 || is_want(code));
    if (code == 0)
        code = pp_future_result(future, -1, &length, sizeof length, NULL);
    if (code == 0)
        CHECK_INT(length, 70000);
    else
        CHECK(is_want(code) || code == -EBADMSG);
    pp_future_unref(future);
}

EACH(every_want_costs_one_buffer_or_call_and_leaves_nothing)
{
    bool met = true;
    pp_pool *pool = open_workers(1, method);
    make_and_pass(pool);
    int before = count_fds();
    for (long n = 1; met && n < MOST; n++) {
        arm(n);
        make_and_pass(pool);
        met = disarm();
        make_and_pass(pool);
        CHECK_INT(count_fds(), before);
    }
    CHECK(!met);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------------ deaths */

static const char *const places[] = {"worker.begin.before", "worker.begin.after", "worker.publish.before",
                                     "worker.publish.after"};

/* Of the worker, before, in or behind the call. Fresh images would have to be told in the environment. */
TEST_WITHIN(a_worker_that_dies_at_any_step_leaves_nothing, 60)
{
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        for (uint32_t retries = 0; retries < 2; retries++) {
            pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_NEVER}, PP_START_FORK);
            pass(pool, 300000);
            int before = count_fds();
            for (int round = 0; round < 3; round++) {
                pp_future *future;
                const pp_error *error;
                pp__fault_arm(places[i], 1, PP__FAULT_KILL);
                CHECK_OK(submit_files(pool, round == 2 ? 300000 : 0, retries, &future));
                CHECK_OK(pp_future_error(future, -1, &error));
                bool lost = retries == 0 && (i == 1 || i == 2);
                CHECK_INT(error ? error->kind : PP_ERROR_NONE, lost ? PP_ERROR_CRASH : PP_ERROR_NONE);
                CHECK_INT(pp_future_fd_count(future, 0), lost ? -EOWNERDEAD : FILES);
                pp__fault_disarm();
                pp_future_unref(future);
                expect_usable(pool);
                until(count_fds() <= before);
            }
            pp_pool_destroy(pool);
        }
    }
}

/* The owner's own end: whatever was on the way goes. */
FORKED_WITHIN(an_owner_that_dies_with_descriptors_on_their_way_leaves_nothing, 30)
{
    for (unsigned n = 1; n <= 3; n++) {
        int ends[2];
        char byte;
        share();
        CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
        pid_t owner = fork();
        if (owner == 0) {
            close(ends[0]);
            pp_pool *pool = open_workers(1, method);
            pp__fault_arm("send.publish.before", n, PP__FAULT_KILL);
            for (unsigned i = 0; i < n; i++)
                CHECK_OK(pp_submit_call(
                    pool, &(pp_call){.function = task_pass, .descriptors = &ends[1], .descriptor_count = 1}, NULL));
            pause_for_ever();
        }
        close(ends[1]);
        CHECK_INT(read(ends[0], &byte, 1), 0); /* nobody has it any more */
        close(ends[0]);
        CHECK(WIFSIGNALED(wait_for(owner)));
    }
}
