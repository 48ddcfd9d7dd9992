/* SPDX-License-Identifier: MIT */
/* Where a call failed: crashes of every kind, and pp_task_fail; and what a task's own handlers, threads and children
 * change about it. */
#include "backtrace_kit.h"

#include "pool/channel.h"

#include <dlfcn.h>
#include <elf.h>
#include <malloc.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

/* ------------------------------------------------------------------------------------- ways to go down */

enum way {
    TO_NULL,
    TO_PAGE,
    BEYOND_FILE,
    DIVIDE,
    ILLEGAL,
    TRAP,
    ABORT,
    BAD_CALL,
    CALL_NULL,
    OVERFLOW,
    HEAP,
    SMASH,
    WAYS
};

static char *volatile nowhere;
static void (*volatile no_function)(void);
static volatile int zero;

__attribute__((noinline)) static int fill_stack(int depth)
{
    volatile char frame[65536];
    for (size_t i = 0; i < sizeof frame; i += 4096)
        frame[i] = (char)depth;
    return depth > 1000000 ? 0 : fill_stack(depth + 1) + frame[4096];
}

static char *map_page(int protection, int fd)
{
    char *page = mmap(NULL, 4096, protection, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    CHECK(page != MAP_FAILED);
    shared()->words[0] = (int64_t)(uintptr_t)page;
    return page;
}

static void *do_nothing(void *unused)
{
    return unused;
}

/* With threads malloc takes its lock, and holds it when it finds the end of the heap overwritten. */
static void break_the_heap(void)
{
    join_thread(start_thread(do_nothing, NULL));
    char *last = malloc(100000);
    for (int i = 0; i < 3; i++)
        last = malloc(100000);
    memset(last + malloc_usable_size(last), 0xff, 8);
    harness_keep(malloc(110000));
}

/* What the unwinder reads there is no stack any more. */
__attribute__((noinline, no_sanitize("address", "undefined"))) static void smash_the_stack(void)
{
    volatile uintptr_t *frame = __builtin_frame_address(0);
    frame[0] = 0x1234567;
    frame[1] = 0x7654321;
    *nowhere = 1;
}

/* Undefined behaviour is what this is about. */
__attribute__((noinline, no_sanitize("undefined"))) static void go_down(enum way way)
{
    switch (way) {
    case TO_NULL:
        *nowhere = 1;
        break;
    case TO_PAGE:
        *map_page(PROT_NONE, -1) = 1;
        break;
    case BEYOND_FILE:
        *map_page(PROT_READ | PROT_WRITE, memfd_create("empty", 0)) = 1;
        break;
    case DIVIDE:
#if defined(__x86_64__)
        zero = 70 / zero; /* of 1 a compiler makes comparisons */
#else
        raise(SIGFPE);
#endif
        break;
    case ILLEGAL:
#if defined(__x86_64__)
        __asm__ volatile("ud2");
#else
        __asm__ volatile(".inst 0");
#endif
        break;
    case TRAP:
        raise(SIGTRAP);
        break;
    case ABORT:
        abort();
    case BAD_CALL:
        raise(SIGSYS);
        break;
    case CALL_NULL:
        no_function();
        break;
    case OVERFLOW:
        fill_stack(0);
        break;
    case HEAP:
        break_the_heap();
        break;
    default:
        smash_the_stack();
        break;
    }
    zero++;
}

static int crash_task(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    go_down((enum way)read_int(arg));
    zero++;
    return pp_task_return(task, NULL, 0);
}

static const pp_error *crash_of(pp_future *future, int signal_number)
{
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK_INT(error->signal, signal_number);
    CHECK_INT(error->out_of_memory, 0);
    return error;
}

/* ------------------------------------------------------------------------------------------- each of them */

static void check_crash(pp_start_method method, enum way way, int signal_number)
{
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit_int(pool, crash_task, (int)way);
    const pp_error *error = crash_of(future, signal_number);
    const char *text = pp_error_backtrace(error);
    CHECK_FUNCTIONS(text, "go_down", "crash_task");
    if (have_lines(text))
        CHECK_HAS(text, "tests/pool/test_backtrace.c:");
    if (way == TO_PAGE || way == BEYOND_FILE)
        CHECK_INT((intptr_t)error->address, shared()->words[0]);
    else if (way != DIVIDE && way != ILLEGAL && way != OVERFLOW)
        CHECK(error->address == NULL);
    else if (way != DIVIDE || signal_number == SIGFPE)
        CHECK(error->address != NULL);
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

BOTH(a_write_through_a_null_pointer_tells_where_it_was)
{
    check_crash(method, TO_NULL, SIGSEGV);
}

BOTH(a_write_to_a_protected_page_tells_its_address)
{
    check_crash(method, TO_PAGE, SIGSEGV);
}

BOTH(an_access_beyond_a_files_end_tells_its_address)
{
    check_crash(method, BEYOND_FILE, SIGBUS);
}

BOTH(a_division_by_zero_tells_where_it_was)
{
    check_crash(method, DIVIDE, SIGFPE);
}

BOTH(an_illegal_instruction_tells_where_it_was)
{
    check_crash(method, ILLEGAL, SIGILL);
}

BOTH(a_trap_tells_where_it_was)
{
    check_crash(method, TRAP, SIGTRAP);
}

BOTH(an_abort_tells_where_it_was)
{
    check_crash(method, ABORT, SIGABRT);
}

BOTH(a_refused_system_call_tells_where_it_was)
{
    check_crash(method, BAD_CALL, SIGSYS);
}

BOTH(a_call_of_a_null_pointer_tells_its_caller)
{
    check_crash(method, CALL_NULL, SIGSEGV);
}

BOTH(a_crash_inside_malloc_with_its_lock_held_tells_where_it_was)
{
    if (KIT_ASAN || KIT_TSAN)
        LEFT_OUT("the sanitizer has a malloc of its own");
    check_crash(method, HEAP, SIGABRT);
}

/* Only the innermost frames are kept. */
BOTH(a_stack_overflow_tells_where_it_was)
{
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit_int(pool, crash_task, OVERFLOW);
    const char *text = pp_error_backtrace(crash_of(future, SIGSEGV));
    check_form(text);
    CHECK_INT(frame_with(text, " fill_stack "), 0);
    CHECK_INT(count_frames(text), PP__TRACE_FRAMES);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(of_a_destroyed_stack_the_first_frame_is_told_and_the_signal_stays)
{
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit_int(pool, crash_task, SMASH);
    const char *text = pp_error_backtrace(crash_of(future, SIGSEGV));
    check_form(text);
    CHECK_INT(frame_with(text, " smash_the_stack "), 0);
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

/* Under forkserver the plugin is opened in the worker alone, so its addresses are only there. */
BOTH(a_crash_in_a_library_names_the_library)
{
    void *plugin = dlopen(PP_TEST_PLUGINS "/libcrasher.so", RTLD_NOW | RTLD_LOCAL);
    if (!plugin)
        harness_fail(__FILE__, __LINE__, "%s", dlerror());
    pp_pool *pool = open_reporting(1, method);
    pp_function *function;
    void *found = dlsym(plugin, "plugin_crash");
    memcpy(&function, &found, sizeof function);
    pp_future *future = submit(pool, function, NULL, 0);
    const char *text = pp_error_backtrace(crash_of(future, SIGSEGV));
    CHECK_FUNCTIONS(text, "deep_in_the_plugin", "plugin_crash");
    CHECK_HAS(text, "(libcrasher.so+0x");
    if (have_lines(text)) {
        CHECK_HAS(text, "plugins/crasher.c:");
        CHECK_INT(frame_with(text, " at_the_bottom "), 0); /* though it is no function of its own in the code */
    }
    pp_future_unref(future);
    pp_pool_destroy(pool);
    dlclose(plugin);
}

/* ------------------------------------------------------------------------------------- whose crash it is */

static void leave_with_7(int number)
{
    (void)number;
    _exit(7);
}

static int handle_itself(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    CHECK(signal(SIGSEGV, leave_with_7) != SIG_ERR);
    return crash_task(task, arg, size);
}

BOTH(a_tasks_own_handler_wins)
{
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit_int(pool, handle_itself, TO_NULL);
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK_INT(error->signal, 0);
    CHECK_INT(error->status, 7);
    CHECK(error->address == NULL);
    CHECK_STR(pp_error_backtrace(error), "");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static int take_default(pp_task *task, const void *arg, size_t size)
{
    CHECK(signal(SIGABRT, SIG_DFL) != SIG_ERR);
    return crash_task(task, arg, size);
}

BOTH(a_task_that_wants_the_default_action_has_it)
{
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit_int(pool, take_default, ABORT);
    CHECK_STR(pp_error_backtrace(crash_of(future, SIGABRT)), "");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static void *crash_in_thread(void *way)
{
    go_down(*(const enum way *)way);
    return NULL;
}

static int crash_by_thread(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    enum way way = (enum way)read_int(arg);
    join_thread(start_thread(crash_in_thread, &way));
    return 0;
}

BOTH(a_thread_that_a_task_has_started_tells_where_it_was)
{
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit_int(pool, crash_by_thread, TO_NULL);
    const char *text = pp_error_backtrace(crash_of(future, SIGSEGV));
    check_form(text);
    CHECK_INT(frame_with(text, " go_down "), 0);
    CHECK_INT(frame_with(text, " crash_in_thread "), 1);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static void *wait_and_crash(void *unused)
{
    shared()->words[1]++;
    while (shared()->words[1] < 8)
        sched_yield();
    go_down(TO_NULL);
    return unused;
}

static int crash_in_many_threads(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        threads[i] = start_thread(wait_and_crash, NULL);
    for (int i = 0; i < 8; i++)
        join_thread(threads[i]);
    return 0;
}

BOTH(of_threads_that_crash_at_once_one_is_told)
{
    pp_pool *pool = open_reporting(1, method);
    for (int i = 0; i < 20; i++) {
        shared()->words[1] = 0;
        pp_future *future = submit(pool, crash_in_many_threads, NULL, 0);
        const char *text = pp_error_backtrace(crash_of(future, SIGSEGV));
        check_form(text);
        CHECK_INT(frame_with(text, " go_down "), 0);
        CHECK_INT(frame_with(text, " wait_and_crash "), 1);
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

/* The child's memory is the worker's in all, but for the library's. */
static int crash_by_child(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    pid_t child = fork();
    if (child == 0)
        go_down(TO_NULL);
    shared()->words[2] = wait_for(child);
    raise(SIGKILL);
    return 0;
}

BOTH(a_child_of_a_tasks_that_crashes_leaves_no_trace)
{
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit(pool, crash_by_child, NULL, 0);
    CHECK_STR(pp_error_backtrace(crash_of(future, SIGKILL)), "");
    CHECK(WIFSIGNALED(shared()->words[2]) && WTERMSIG(shared()->words[2]) == SIGSEGV);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* A child that has the worker's memory, as posix_spawn makes them, is a process of its own all the same. */
__attribute__((noinline)) static void crash_behind_child(void)
{
    pid_t child = vfork();
    if (child == 0)
        go_down(TO_NULL);
    shared()->words[2] = wait_for(child);
    go_down(TO_NULL);
    zero++;
}

static int crash_behind_child_task(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    crash_behind_child();
    zero++;
    return 0;
}

BOTH(a_task_that_crashes_behind_a_child_that_shared_its_memory_tells_where_it_was)
{
    if (KIT_TSAN)
        LEFT_OUT("thread sanitizer makes a fork of a vfork");
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit(pool, crash_behind_child_task, NULL, 0);
    CHECK_FUNCTIONS(pp_error_backtrace(crash_of(future, SIGSEGV)), "go_down", "crash_behind_child",
                    "crash_behind_child_task");
    CHECK(WIFSIGNALED(shared()->words[2]) && WTERMSIG(shared()->words[2]) == SIGSEGV);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static int wait_to_be_hit(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    shared()->pid[0] = getpid();
    while (true)
        pause();
    return 0;
}

BOTH(a_signal_from_outside_tells_where_it_found_the_task)
{
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit(pool, wait_to_be_hit, NULL, 0);
    wait_until(shared()->pid[0] != 0, 60);
    kill(shared()->pid[0], SIGSEGV);
    const pp_error *error = crash_of(future, SIGSEGV);
    CHECK_HAS(pp_error_backtrace(error), " wait_to_be_hit ");
    CHECK(error->address == NULL);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------------------ how it dies */

/* What a debugger sees at a stop by a signal. */
struct stop {
    siginfo_t info;
    uintptr_t pc;
};

static bool see_stop(pid_t pid, int number, struct stop *stop)
{
    struct user_regs_struct registers;
    struct iovec place = {.iov_base = &registers, .iov_len = sizeof registers};
    int status;
    CHECK_INT(waitpid(pid, &status, __WALL), pid);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != number)
        return false;
    CHECK_INT(ptrace(PTRACE_GETSIGINFO, pid, NULL, &stop->info), 0);
    CHECK_INT(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &place), 0);
#if defined(__x86_64__)
    stop->pc = registers.rip;
#else
    stop->pc = registers.pc;
#endif
    return true;
}

static int crash_behind_gate(pp_task *task, const void *arg, size_t size)
{
    shared()->pid[0] = getpid();
    gate_wait(0);
    return crash_task(task, arg, size);
}

/* The signal comes twice: to the handler, and to the end. The second time must be like the first. */
static void check_death(pp_start_method method, enum way way, int number)
{
    struct stop first, second;
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit_int(pool, crash_behind_gate, (int)way);
    gate_wait_arrived(0, 1);
    pid_t pid = shared()->pid[0];
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0) {
        gate_open(0);
        drop_failed(future, PP_ERROR_CRASH);
        pp_pool_destroy(pool);
        LEFT_OUT("nobody may be traced here");
    }
    gate_open(0);
    CHECK(see_stop(pid, number, &first));
    CHECK_INT(ptrace(PTRACE_CONT, pid, NULL, number), 0);
    CHECK(see_stop(pid, number, &second));
    CHECK_INT(ptrace(PTRACE_CONT, pid, NULL, number), 0);
    CHECK_INT(second.pc, first.pc);
    CHECK_INT(second.info.si_code, first.info.si_code);
    CHECK_INT((intptr_t)second.info.si_addr, (intptr_t)first.info.si_addr);
    int status;
    CHECK_INT(waitpid(pid, &status, __WALL), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == number);
    crash_of(future, number);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(a_worker_dies_where_it_crashed_as_without_the_report)
{
    check_death(method, TO_PAGE, SIGSEGV);
}

BOTH(a_worker_dies_of_a_call_to_nowhere_as_without_the_report)
{
    check_death(method, CALL_NULL, SIGSEGV);
}

BOTH(a_worker_dies_of_a_signal_that_was_sent_as_without_the_report)
{
    check_death(method, TRAP, SIGTRAP);
}

/* ------------------------------------------------------------------------------------------- reading it */

BOTH(errors_of_earlier_tries_have_backtraces_of_their_own)
{
    pp_pool *pool = open_reporting(1, method);
    int way = TO_NULL;
    pp_future *future;
    CHECK_OK(pp_submit_call(pool, &(pp_call){.function = crash_task, .arg = &way, .size = sizeof way, .retries = 2},
                            &future));
    int tries = 0;
    for (const pp_error *error = crash_of(future, SIGSEGV); error; error = error->earlier, tries++)
        CHECK_FUNCTIONS(pp_error_backtrace(error), "go_down", "crash_task");
    CHECK_INT(tries, 3);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

BOTH(an_element_of_a_chunk_that_crashes_has_a_backtrace)
{
    static const int ways[2] = {TO_NULL, ABORT}, signals[2] = {SIGSEGV, SIGABRT};
    pp_pool *pool = open_reporting(1, method);
    pp_map *map;
    pp_map_result result;
    CHECK_OK(pp_map_open_array(pool, crash_task, ways, 2, sizeof *ways, &(pp_map_options){.chunk_size = 4}, &map));
    for (int i = 0; i < 2; i++) {
        CHECK_INT(pp_map_next(map, -1, &result), 1);
        CHECK_INT(result.error->signal, signals[i]);
        CHECK_FUNCTIONS(pp_error_backtrace(result.error), "go_down", "crash_task");
    }
    pp_map_close(map);
    pp_pool_destroy(pool);
}

struct question {
    const pp_error *error;
    const char *answer;
};

static void *ask(void *data)
{
    struct question *question = data;
    question->answer = pp_error_backtrace(question->error);
    return NULL;
}

BOTH(eight_threads_that_ask_at_once_get_the_same_text)
{
    struct question questions[8];
    pthread_t threads[8];
    pp_pool *pool = open_reporting(1, method);
    pp_future *future = submit_int(pool, crash_task, TO_NULL);
    const pp_error copy = *crash_of(future, SIGSEGV);
    pp_pool_destroy(pool); /* it is not needed for that */
    for (int i = 0; i < 8; i++) {
        questions[i].error = i % 2 ? &copy : crash_of(future, SIGSEGV);
        threads[i] = start_thread(ask, &questions[i]);
    }
    for (int i = 0; i < 8; i++)
        join_thread(threads[i]);
    CHECK_FUNCTIONS(questions[0].answer, "go_down", "crash_task");
    for (int i = 1; i < 8; i++)
        CHECK(questions[i].answer == questions[0].answer);
    pp_future_unref(future);
}

BOTH(a_child_that_the_owner_forks_sees_what_was_asked_for_before)
{
    pp_pool *pool = open_reporting(1, method);
    pp_future *asked = submit_int(pool, crash_task, TO_NULL), *not_asked = submit_int(pool, crash_task, TO_NULL);
    const pp_error *first = crash_of(asked, SIGSEGV), *second = crash_of(not_asked, SIGSEGV);
    const char *text = pp_error_backtrace(first);
    pid_t child = fork();
    if (child == 0)
        _exit(pp_error_backtrace(first) == text && pp_error_backtrace(second)[0] == 0 ? 0 : 1);
    CHECK_INT(wait_for(child), 0);
    CHECK_FUNCTIONS(pp_error_backtrace(second), "go_down", "crash_task");
    pp_future_unref(asked);
    pp_future_unref(not_asked);
    pp_pool_destroy(pool);
}

BOTH(errors_of_other_kinds_have_none)
{
    pp_pool *pool = open_reporting(1, method);
    pp_future *killed = submit(pool, crash, NULL, 0), *failed = submit(pool, refuse, NULL, 0);
    CHECK_STR(pp_error_backtrace(error_of(killed, PP_ERROR_CRASH)), "");
    CHECK_STR(pp_error_backtrace(error_of(failed, PP_ERROR_TASK)), "");
    CHECK_STR(pp_error_backtrace(NULL), "");
    pp_future_unref(killed);
    pp_future_unref(failed);
    pp_pool_destroy(pool);
}
