/* SPDX-License-Identifier: MIT */
/* What a process does that was started for one function, and what can be asked of it. */
#include "process_kit.h"
#include "signal_kit.h"

#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/resource.h>

/* ----------------------------------------------------------------------------------------- the function */

BOTH(a_process_runs_its_function_and_its_exit_code_is_what_that_returns)
{
    pp_process *process = start_int(method, run_return, 42);
    CHECK_INT(finish_process(process), 42);
    CHECK_INT(finish_process(start_int(method, run_return, 0)), 0);
    CHECK_INT(finish_process(start_int(method, run_return, 256 + 7)), 7);
    CHECK_INT(finish_process(start_int(method, run_return, -1)), 255);
}

static int run_check_argument(void *arg, size_t size)
{
    unsigned char *bytes = arg;
    CHECK_INT((uintptr_t)arg % 16, 0);
    CHECK_INT(bytes[size], 0);
    for (size_t i = 0; i < size; i++) {
        CHECK_INT(bytes[i], i % 251);
        bytes[i] = 0;
    }
    return 11;
}

BOTH(an_argument_of_any_size_is_the_processs_own)
{
    static const size_t sizes[] = {0, 1, 4096, 3u << 20};
    unsigned char *bytes = malloc(3u << 20);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < 3u << 20; i++)
        bytes[i] = (unsigned char)(i % 251);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        pp_process *process = start_with(method, (pp_process_options){0}, run_check_argument, bytes, sizes[i]);
        CHECK_INT(finish_process(process), 11);
    }
    for (size_t i = 0; i < 3u << 20; i++)
        CHECK_INT(bytes[i], i % 251);
    free(bytes);
}

static int run_fork(void *arg, size_t size)
{
    pid_t child = fork();
    if (child == 0)
        _exit(size == sizeof(int) ? read_int(arg) : 99);
    return WEXITSTATUS(wait_for(child)) + 1;
}

BOTH(children_that_the_function_forks_see_the_argument)
{
    CHECK_INT(finish_process(start_int(method, run_fork, 30)), 31);
}

static int run_exit(void *arg, size_t size)
{
    (void)size;
    exit(read_int(arg));
}

static int run_pthread_exit(void *arg, size_t size)
{
    (void)arg, (void)size;
    pthread_exit(NULL);
}

BOTH(a_function_may_leave_by_exit_and_by_pthread_exit)
{
    CHECK_INT(finish_process(start_int(method, run_exit, 5)), 5);
    CHECK_INT(finish_process(start_int(method, run_pthread_exit, 5)), 0);
}

static int run_deep(void *arg, size_t size)
{
    volatile char bytes[24u << 20];
    (void)size;
    for (size_t i = 0; i < sizeof bytes; i += 4096)
        bytes[i] = 1;
    return bytes[0] + read_int(arg);
}

BOTH(a_process_has_a_stack_of_the_size_that_was_asked_for)
{
    if (KIT_TSAN)
        LEFT_OUT("thread sanitizer can't change stacks");
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind takes so large a frame for a change of stacks");
    pp_process_options options = {.stack_size = 32u << 20};
    CHECK_INT(finish_process(start_with(method, options, run_deep, &(int){6}, sizeof(int))), 7);
    CHECK_INT(finish_process(start_int(method, run_deep, 6)), -SIGSEGV);
}

static void count_handler(void)
{
    shared()->words[1]++;
}

static int run_with_handler(void *arg, size_t size)
{
    CHECK_INT(atexit(count_handler), 0);
    return run_return(arg, size);
}

BOTH(at_its_exit_a_processs_own_handlers_run_and_none_of_the_owners)
{
    share();
    CHECK_INT(atexit(count_handler), 0);
    CHECK_INT(finish_process(start_int(method, run_return, 1)), 1);
    CHECK_INT(shared()->words[1], 0);
    CHECK_INT(finish_process(start_int(method, run_with_handler, 1)), 1);
    CHECK_INT(shared()->words[1], 1);
}

/* From the program's begin on, so that images of it have it too. */
static int run_in_fresh(void *arg, size_t size)
{
    (void)arg, (void)size;
    pid_t self = getpid();
    sigset_t mask;
    char zero[64] = "";
    CHECK_INT(getpgid(0), self);
    CHECK_INT(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
    for (int i = 1; i < 32; i++) {
        struct sigaction action;
        CHECK_INT(sigismember(&mask, i), 0);
        CHECK_INT(sigaction(i, NULL, &action), 0);
        CHECK(action.sa_handler == SIG_DFL || i == SIGSEGV || i == SIGBUS || i == SIGFPE || i == SIGILL ||
              i == SIGABRT || i == SIGTRAP || i == SIGSYS);
    }
    CHECK(readlink("/proc/self/fd/0", zero, sizeof zero - 1) > 0);
    CHECK_STR(zero, "/dev/null");
    return 3;
}

BOTH(a_process_starts_clean)
{
    sigset_t mask;
    sigfillset(&mask);
    install(SIGUSR1, 0);
    signal(SIGUSR2, SIG_IGN);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    CHECK_INT(finish_process(start_int(method, run_in_fresh, 0)), 3);
}

static int run_print(void *arg, size_t size)
{
    (void)size;
    printf("%d printed", read_int(arg));
    fprintf(stderr, " and said");
    return 0;
}

/* Standard output is a file from here on; the owner's text in its buffer is the owner's to write. */
BOTH(what_a_process_printed_is_out_at_its_end_and_nothing_twice)
{
    char text[64] = "";
    int file = memfd_create("output", 0), before = dup(1);
    share();
    fflush(stdout);
    CHECK(dup2(file, 1) == 1 && dup2(file, 2) == 2);
    printf("not flushed");
    pp_process *process = start_int(method, run_print, 8);
    CHECK_INT(code_of(process), 0);
    CHECK(pread(file, text, sizeof text - 1, 0) >= 0);
    fflush(stdout);
    dup2(before, 1);
    CHECK_INT(pp_process_close(process), 0);
    CHECK_HAS(text, "8 printed");
    CHECK_HAS(text, " and said");
    CHECK(strstr(text, "not flushed") == NULL);
}

/* ---------------------------------------------------------------------------------------------- names */

static int run_tell_names(void *arg, size_t size)
{
    (void)arg, (void)size;
    snprintf(shared()->texts[0], sizeof shared()->texts[0], "%s", pp_process_current_name());
    CHECK(test_process_state(getpid(), NULL, shared()->texts[1]) != 0);
    shared()->pid[0] = getpid();
    pid_t child = fork();
    if (child == 0)
        _exit(*pp_process_current_name() != 0);
    return WEXITSTATUS(wait_for(child));
}

BOTH(a_process_has_a_name_that_it_and_ps_know)
{
    pp_process *process =
        start_with(method, (pp_process_options){.name = "a quite long name"}, run_tell_names, NULL, 0);
    CHECK_STR(pp_process_name(process), "a quite long name");
    CHECK_INT(code_of(process), 0);
    CHECK_STR(shared()->texts[0], "a quite long name");
    CHECK_STR(shared()->texts[1], "a quite long na");
    CHECK_INT(pp_process_pid(process), shared()->pid[0]);
    pp_process_unref(process);
    CHECK_STR(pp_process_current_name(), "");
    CHECK_STR(pp_process_name(NULL), "");
}

BOTH(processes_without_a_name_are_numbered)
{
    pp_process *one = start_int(method, run_return, 0), *two = start_int(method, run_return, 0);
    CHECK_STR(pp_process_name(one), "Process-1");
    CHECK_STR(pp_process_name(two), "Process-2");
    CHECK_INT(finish_process(one), 0);
    CHECK_INT(finish_process(two), 0);
}

/* -------------------------------------------------------------------------------------------- waiting */

BOTH(a_process_is_alive_until_its_end)
{
    pp_process *process = start_int(method, run_gate, 1);
    int code = -77;
    gate_wait_arrived(1, 1);
    CHECK_INT(pp_process_is_alive(process), 1);
    CHECK(test_process_alive(pp_process_pid(process)));
    CHECK_INT(pp_process_join(process, 0), -ETIMEDOUT);
    CHECK_INT(pp_process_join(process, 20), -ETIMEDOUT);
    CHECK_INT(pp_process_exit_code(process, &code), -EBUSY);
    CHECK_INT(code, -77);
    CHECK_INT(pp_process_error(process, &(pp_error){0}), -EBUSY);
    CHECK_INT(pp_process_close(process), -EBUSY);
    gate_open(1);
    CHECK_OK(pp_process_join(process, -1));
    CHECK_INT(pp_process_is_alive(process), 0);
    CHECK_OK(pp_process_join(process, 0));
    CHECK_INT(finish_process(process), 0);
}

BOTH(the_sentinel_is_readable_from_the_end_on)
{
    pp_process *process = start_int(method, run_gate, 1);
    int sentinel = pp_process_fd(process), set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    CHECK_INT(epoll_ctl(set, EPOLL_CTL_ADD, sentinel, &event), 0);
    gate_wait_arrived(1, 1);
    CHECK(!is_readable(sentinel));
    gate_open(1);
    CHECK_INT(epoll_wait(set, &event, 1, -1), 1);
    CHECK(is_readable(sentinel));
    CHECK_INT(pp_process_is_alive(process), 0);
    CHECK(is_readable(sentinel)); /* also when it is known */
    CHECK_INT(code_of(process), 0);
    CHECK(is_readable(sentinel));
    CHECK_INT(pp_process_fd(process), sentinel);
    close(set);
    pp_process_unref(process);
}

static void *join_and_look(void *process)
{
    CHECK_INT(code_of(process), 0);
    pp_process_unref(process);
    return NULL;
}

BOTH(several_threads_wait_for_one_process)
{
    pthread_t threads[4];
    pp_process *process = start_int(method, run_gate, 1);
    for (int i = 0; i < 4; i++)
        threads[i] = start_thread(join_and_look, pp_process_ref(process));
    gate_wait_arrived(1, 1);
    gate_open(1);
    for (int i = 0; i < 4; i++)
        join_thread(threads[i]);
    CHECK_INT(finish_process(process), 0);
}

BOTH(a_handler_interrupts_a_join_unless_it_asks_for_restarting)
{
    pp_process *process = start_int(method, run_gate, 1);
    pthread_t self = pthread_self();
    install(SIGUSR1, 0);
    pthread_t thread = start_thread(signal_main, &self);
    CHECK_INT(pp_process_join(process, -1), -EINTR);
    CHECK_INT(pp_process_is_alive(process), 1);
    install(SIGUSR1, SA_RESTART);
    double begin = test_seconds();
    CHECK_INT(pp_process_join(process, 60), -ETIMEDOUT); /* the deadline is kept however often it was interrupted */
    CHECK(test_seconds() - begin >= 0.059);
    gate_open(1);
    CHECK_INT(code_of(process), 0);
    gate_open(14);
    join_thread(thread);
    pp_process_unref(process);
}

/* --------------------------------------------------------------------------------------------- ending */

BOTH(a_terminated_and_a_killed_process_tell_the_signal)
{
    pp_error error;
    pp_process *one = start_int(method, run_hang, 0), *two = start_int(method, run_deaf, 0);
    gate_wait_arrived(0, 2);
    CHECK_OK(pp_process_terminate(one));
    CHECK_INT(code_of(one), -SIGTERM);
    CHECK_OK(pp_process_error(one, &error));
    CHECK_INT(error.kind, PP_ERROR_CRASH);
    CHECK_INT(error.code, -EOWNERDEAD);
    CHECK_INT(error.signal, SIGTERM);
    CHECK_INT(error.status, -1);
    CHECK_INT(error.pid, pp_process_pid(one));
    CHECK_HAS(error.message, "was killed by signal 15");
    CHECK_OK(pp_process_terminate(two));
    CHECK_INT(pp_process_join(two, 30), -ETIMEDOUT);
    CHECK_OK(pp_process_kill(two));
    CHECK_INT(code_of(two), -SIGKILL);
    CHECK_OK(pp_process_kill(two)); /* nobody is meant any more */
    CHECK_OK(pp_process_terminate(two));
    pp_process_unref(one);
    pp_process_unref(two);
}

BOTH(a_stopped_process_can_be_ended)
{
    pp_process *process = start_int(method, run_hang, 0);
    gate_wait_arrived(0, 1);
    stop_and_see(pp_process_pid(process));
    CHECK_INT(pp_process_is_alive(process), 1);
    CHECK_OK(pp_process_terminate(process));
    CHECK_INT(finish_process(process), -SIGTERM);
}

static volatile sig_atomic_t told;

static void note_term(int number)
{
    told = number;
}

static int run_until_told(void *arg, size_t size)
{
    (void)arg, (void)size;
    signal(SIGTERM, note_term);
    shared()->arrived[0]++;
    while (!told)
        test_sleep_ms(1);
    return 21;
}

BOTH(a_process_may_end_in_its_own_way_when_it_is_terminated)
{
    pp_process *process = start_int(method, run_until_told, 0);
    gate_wait_arrived(0, 1);
    CHECK_OK(pp_process_terminate(process));
    CHECK_INT(finish_process(process), 21);
}

static int run_with_child(void *arg, size_t size)
{
    pid_t child = fork();
    if (child == 0)
        pause_for_ever();
    shared()->pid[1] = child;
    return size > 0 && read_int(arg) ? run_hang(arg, size) : 0;
}

BOTH(children_in_its_group_end_with_a_process)
{
    for (int hang = 0; hang < 2; hang++) {
        pp_process *process = start_int(method, run_with_child, hang);
        if (hang) {
            gate_wait_arrived(0, 1);
            CHECK_OK(pp_process_kill(process));
        }
        CHECK_INT(finish_process(process), hang ? -SIGKILL : 0);
        wait_until(is_gone(shared()->pid[1]), 10);
    }
}

static volatile int after;
static volatile int *volatile nowhere = (volatile int *)16; /* which the compiler does not see */

__attribute__((noinline, no_sanitize("undefined", "address"))) static void crash_deep_inside(void)
{
    *nowhere = 1;
    after++;
}

static int run_crash(void *arg, size_t size)
{
    (void)arg, (void)size;
    crash_deep_inside();
    after++;
    return 0;
}

BOTH(a_crash_tells_its_signal_address_and_place)
{
    pp_error error;
    if (TEST_ON_VALGRIND)
        LEFT_OUT("on valgrind crashes are valgrind's affair");
    pp_process *process = start_int(method, run_crash, 0);
    CHECK_INT(code_of(process), -SIGSEGV);
    CHECK_OK(pp_process_error(process, &error));
    CHECK_INT(error.kind, PP_ERROR_CRASH);
    CHECK_INT((uintptr_t)error.address, 16);
    CHECK_STR(error.function, "run_crash");
    CHECK_HAS(error.message, "signal 11");
    CHECK_HAS(pp_error_backtrace(&error), " crash_deep_inside ");
    CHECK_HAS(pp_error_backtrace(&error), " run_crash ");
    CHECK(strstr(pp_error_backtrace(&error), "pp__process_entry") == NULL);
    pp_process_unref(process);
    CHECK_INT(finish_process(start_int(method, run_return, 6)), 6); /* it cost nobody else anything */
}

BOTH(an_end_with_a_status_is_told_in_words)
{
    pp_error error;
    pp_process *process = start_int(method, run_return, 9);
    CHECK_INT(code_of(process), 9);
    CHECK_OK(pp_process_error(process, &error));
    CHECK_INT(error.kind, PP_ERROR_CRASH);
    CHECK_INT(error.status, 9);
    CHECK_INT(error.signal, 0);
    CHECK_INT(error.worker, -1);
    CHECK_STR(error.message, "exited with status 9");
    CHECK_STR(pp_error_backtrace(&error), "");
    pp_process_unref(process);
    process = start_int(method, run_return, 0);
    CHECK_INT(code_of(process), 0);
    CHECK_OK(pp_process_error(process, &error));
    CHECK_INT(error.kind, PP_ERROR_NONE);
    CHECK_INT(error.code, 0);
    CHECK_INT(error.status, 0);
    pp_process_unref(process);
}

/* ------------------------------------------------------------------------------------------- launchers */

BOTH(processes_and_a_pool_are_of_one_launcher)
{
    pp_process *processes[6];
    pp_launcher *launcher = launcher_of(method);
    pp_pool *pool = open_pool((pp_pool_options){.launcher = launcher, .max_workers = 1}, method);
    pid_t zygote = zygote_of(pool);
    for (int i = 0; i < 6; i++) {
        processes[i] = start_with(method, (pp_process_options){.launcher = launcher}, run_gate, &(int){1}, sizeof(int));
        CHECK_INT(parent_of(pp_process_pid(processes[i])), zygote);
    }
    pp_launcher_unref(launcher); /* each has its own reference */
    gate_open(1);
    for (int i = 0; i < 6; i++)
        CHECK_INT(finish_process(processes[i]), 0);
    CHECK_INT(take_int(submit_int(pool, task_square, 3)), 9);
    pp_pool_destroy(pool);
}

static pp_process_function *function_of(void *plugin, const char *name)
{
    pp_process_function *function;
    void *address = dlsym(plugin, name);
    CHECK(address != NULL);
    memcpy(&function, &address, sizeof function);
    return function;
}

BOTH(a_function_of_a_plugin_that_was_opened_later_runs)
{
    pp_launcher *launcher = launcher_of(method);
    void *plugin = dlopen(PP_TEST_PLUGINS "/libpool_process.so", RTLD_NOW);
    CHECK(plugin != NULL);
    pp_process_options options = {.launcher = launcher};
    CHECK_INT(finish_process(start_with(method, options, function_of(plugin, "plugin_process"), "\x21", 1)), 0x21);
    pp_launcher_unref(launcher);
    dlclose(plugin);
}

static void copy_to(const char *path)
{
    char buffer[4096];
    FILE *from = fopen(PP_TEST_PLUGINS "/libpool_process.so", "re"), *to = fopen(path, "we");
    CHECK(from != NULL && to != NULL);
    for (size_t size; (size = fread(buffer, 1, sizeof buffer, from)) > 0;)
        CHECK_INT(fwrite(buffer, 1, size, to), size);
    fclose(from);
    CHECK_INT(fclose(to), 0);
}

BOTH(a_function_whose_module_can_not_be_opened_is_told_so)
{
    pp_error error;
    char path[64] = "/tmp/procpool-process-XXXXXX";
    int file = mkstemp(path), code;
    CHECK(file >= 0);
    close(file);
    copy_to(path);
    pp_launcher *launcher = launcher_of(method);
    void *plugin = dlopen(path, RTLD_NOW);
    CHECK(plugin != NULL);
    pp_process_function *function = function_of(plugin, "plugin_process");
    pp_process_options options = {.launcher = launcher};
    pp_process *process = start_with(method, options, function, "\x21", 1);
    CHECK_INT(finish_process(process), 0x21);
    CHECK_INT(unlink(path), 0);
    process = start_with(method, options, function, "\x21", 1);
    CHECK_INT(code_of(process), 127);
    CHECK_OK(pp_process_error(process, &error));
    CHECK_INT(error.kind, PP_ERROR_TRAVEL);
    CHECK_INT(error.code, -EBADMSG);
    CHECK_HAS(error.message, path);
    CHECK_OK(pp_process_exit_code(process, &code));
    pp_process_unref(process);
    pp_launcher_unref(launcher);
    dlclose(plugin);
}

static pp_launcher *launcher_by(const char *const *command)
{
    pp_launcher *launcher = NULL;
    share();
    CHECK_OK(pp_launcher_create(
        &(pp_launcher_options){.command = command, .inherit_fds = board_fds, .inherit_fd_count = 1}, &launcher));
    return launcher;
}

static int start_by(const char *const *command, uint32_t start_timeout, pp_process **process)
{
    pp_launcher *launcher = launcher_by(command);
    pp_process_options options = {.launcher = launcher, .start_timeout = start_timeout};
    int error = pp_process_start(run_return, &(int){17}, sizeof(int), &options, process);
    pp_launcher_unref(launcher);
    return error;
}

TEST(a_process_may_be_started_by_a_command)
{
    pp_process *process = NULL;
    CHECK_OK(start_by((const char *const[]){"nice", "{}", NULL}, 0, &process));
    CHECK_INT(finish_process(process), 17);
}

TEST(a_command_that_starts_nothing_fails_the_start)
{
    pp_process *process = NULL;
    CHECK_INT(start_by((const char *const[]){"false", NULL}, 0, &process), -ENOEXEC);
    CHECK_HAS(pp_last_error(), "exited with status 1");
    CHECK_INT(start_by((const char *const[]){"/nowhere/nothing", NULL}, 0, &process), -ENOEXEC);
    CHECK_HAS(pp_last_error(), "No such file");
    CHECK_INT(start_by((const char *const[]){"sleep", "3600", NULL}, 50, &process), -ETIMEDOUT);
    CHECK(process == NULL);
}

/* A process is an owner in its own right. */
static int run_nested(void *arg, size_t size)
{
    (void)size;
    pp_start_method method = (pp_start_method)read_int(arg);
    pp_process *process = NULL;
    const pp_process_options options = {.start_method = method, .inherit_fds = board_fds, .inherit_fd_count = 1};
    CHECK_OK(pp_process_start(run_return, &(int){13}, sizeof(int), &options, &process));
    pp_pool *pool = open_workers(1, method);
    CHECK_INT(take_int(submit_int(pool, task_square, 4)), 16);
    pp_pool_destroy(pool);
    return finish_process(process);
}

BOTH(a_process_may_have_processes_and_pools)
{
    CHECK_INT(finish_process(start_int(method, run_nested, (int)method)), 13);
}

/* --------------------------------------------------------------------------------------------- errors */

static int refused(pp_process_function *function, const void *arg, size_t size, pp_process_options options)
{
    pp_process *process = NULL;
    int error = pp_process_start(function, arg, size, &options, &process);
    CHECK(process == NULL);
    return error;
}

TEST(bad_arguments_and_options_are_refused)
{
    pp_process *process = NULL;
    pp_launcher *launcher = launcher_of(PP_START_FORK);
    char name[65];
    memset(name, 'x', sizeof name);
    name[64] = '\0';
    CHECK_INT(pp_process_start(run_return, NULL, 0, NULL, NULL), -EINVAL);
    CHECK_INT(refused(NULL, NULL, 0, (pp_process_options){0}), -EINVAL);
    CHECK_INT(refused(run_return, NULL, 1, (pp_process_options){0}), -EINVAL);
    CHECK_INT(refused(run_return, "", SIZE_MAX, (pp_process_options){0}), -EINVAL);
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.name = name}), -EINVAL);
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.stack_size = 4096}), -EINVAL);
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.stack_size = SIZE_MAX}), -EINVAL);
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.daemon = 2}), -EINVAL);
    CHECK_HAS(pp_last_error(), "daemon is 2");
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.close_fds = 2}), -EINVAL);
    CHECK_HAS(pp_last_error(), "close_fds is 2");
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.reserved = {0, 0, 0, 1}}), -EINVAL);
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.start_method = (pp_start_method)99}), -EINVAL);
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.launcher = launcher, .close_fds = 1}), -EINVAL);
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.launcher = launcher, .start_method = PP_START_FORK}),
              -EINVAL);
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.inherit_fds = (int[]){-1}, .inherit_fd_count = 1}),
              -EBADF);
    CHECK_INT(refused((pp_process_function *)(uintptr_t)&process, NULL, 0, (pp_process_options){0}), -EINVAL);
    name[63] = '\0';
    CHECK_INT(finish_process(start_with(PP_START_FORK, (pp_process_options){.name = name}, run_return, &(int){1}, 4)),
              1);
    pp_launcher_unref(launcher);
}

BOTH(an_argument_above_the_file_size_limit_is_refused)
{
    static const char large[1u << 20];
    pp_process *process = NULL;
    pp_launcher *launcher = launcher_of(method);
    const pp_process_options options = {.launcher = launcher};
    signal(SIGXFSZ, SIG_IGN);
    CHECK_INT(setrlimit(RLIMIT_FSIZE, &(struct rlimit){.rlim_cur = 1u << 19, .rlim_max = RLIM_INFINITY}), 0);
    CHECK_INT(pp_process_start(run_return, large, sizeof large, &options, &process), -EFBIG);
    CHECK(process == NULL);
    CHECK_HAS(pp_last_error(), "RLIMIT_FSIZE");
    CHECK_INT(finish_process(start_with(method, options, run_return, &(int){2}, sizeof(int))), 2);
    pp_launcher_unref(launcher);
}

static int never_started(void *context, const char *invitation, int number)
{
    (void)context, (void)invitation, (void)number;
    harness_fail(__FILE__, __LINE__, "a starter was called");
}

TEST(launchers_that_make_no_processes_are_refused)
{
    pp_launcher *launcher = NULL;
    const pp_starter starter = {.start = never_started};
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.start_method = PP_START_INLINE}), -ENOTSUP);
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_INLINE}, &launcher));
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.launcher = launcher}), -ENOTSUP);
    pp_launcher_unref(launcher);
    CHECK_OK(pp_launcher_create(&(pp_launcher_options){.starter = &starter}, &launcher));
    CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){.launcher = launcher}), -ENOTSUP);
    pp_launcher_unref(launcher);
}

TEST(nothing_is_asked_of_no_process)
{
    int code;
    CHECK_INT(pp_process_pid(NULL), -EINVAL);
    CHECK_INT(pp_process_fd(NULL), -EINVAL);
    CHECK_INT(pp_process_is_alive(NULL), -EINVAL);
    CHECK_INT(pp_process_join(NULL, 0), -EINVAL);
    CHECK_INT(pp_process_exit_code(NULL, &code), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_process_exit_code");
    CHECK_INT(pp_process_error(NULL, &(pp_error){0}), -EINVAL);
    CHECK_INT(pp_process_terminate(NULL), -EINVAL);
    CHECK_INT(pp_process_kill(NULL), -EINVAL);
    CHECK_INT(pp_process_close(NULL), -EINVAL);
    CHECK_HAS(pp_last_error(), "pp_process_close");
    CHECK(pp_process_ref(NULL) == NULL);
    pp_process_unref(NULL);
    pp_process *process = start_int(PP_START_FORK, run_return, 0);
    CHECK_INT(code_of(process), 0);
    CHECK_INT(pp_process_exit_code(process, NULL), -EINVAL);
    CHECK_INT(pp_process_error(process, NULL), -EINVAL);
    pp_process_unref(process);
}

BOTH(a_child_that_the_owner_forked_is_refused_and_changes_nothing)
{
    int code;
    pp_process *process = start_int(method, run_gate, 1);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_INT(pp_process_is_alive(process), -EPERM);
        CHECK_INT(pp_process_join(process, -1), -EPERM);
        CHECK_INT(pp_process_exit_code(process, &code), -EPERM);
        CHECK_INT(pp_process_kill(process), -EPERM);
        CHECK_INT(pp_process_terminate(process), -EPERM);
        CHECK_INT(pp_process_fd(process), -EPERM);
        CHECK_INT(pp_process_pid(process), -EPERM);
        CHECK_INT(pp_process_close(process), -EPERM);
        CHECK_INT(refused(run_return, NULL, 0, (pp_process_options){0}), -EPERM);
        pp_process_unref(process);
        _exit(0);
    }
    CHECK_INT(wait_for(child), 0);
    CHECK_INT(pp_process_is_alive(process), 1);
    gate_open(1);
    CHECK_INT(finish_process(process), 0);
}
