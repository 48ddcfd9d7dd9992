/* SPDX-License-Identifier: MIT */
/* Crash reports and traces of failures that a worker makes up: the owner says something or nothing, and goes on. */
#include "backtrace_kit.h"
#include "channel_kit.h"

#include <dlfcn.h>
#include <sys/stat.h>

/* With nobody to report it, and what this left in the report's place. */
static int end_by_segv(void)
{
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
    return 0;
}

/* A trace of one frame, in one module of this name; returns its size. */
static size_t make_trace(void *place, const char *name)
{
    struct pp__trace *trace = place;
    struct pp__trace_module module = {.start = 0x1000, .end = 0x9000, .base = 0x1000};
    *trace = (struct pp__trace){.signal = SIGSEGV, .count = 1, .exact = 1};
    trace->pcs[0] = 0x2345;
    module.name_size = (uint32_t)strlen(name) + 1;
    char *at = (char *)place + pp__trace_modules(trace);
    memcpy(at, &module, sizeof module);
    strcpy(at + sizeof module, name);
    return pp__trace_modules(trace) + ((sizeof module + module.name_size + 7) & ~(size_t)7);
}

/* ---------------------------------------------------------------------------------------- crash reports */

static int leave_garbage(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    unsigned seed = (unsigned)read_int(arg);
    struct pp__result_side *side = result_side();
    for (size_t i = 0; i < sizeof side->crash; i++)
        side->crash[i] = (unsigned char)rand_r(&seed);
    if (seed % 2) { /* one that gets further */
        struct pp__trace *trace = (struct pp__trace *)side->crash;
        trace->signal = SIGSEGV;
        trace->count = (uint32_t)rand_r(&seed) % (PP__TRACE_FRAMES + 1);
    }
    atomic_store(&side->crash_size, (uint32_t)rand_r(&seed) % (2 * sizeof side->crash));
    return end_by_segv();
}

BOTH_WITHIN(garbage_in_place_of_a_report_is_none, 30)
{
    pp_pool *pool = open_workers(1, method);
    for (int i = 0; i < (TEST_ON_VALGRIND ? 30 : 200); i++) { /* there, each takes a second's start of a worker */
        pp_future *future = submit_int(pool, leave_garbage, i);
        const pp_error *error = error_of(future, PP_ERROR_CRASH);
        CHECK_INT(error->signal, SIGSEGV);
        check_form(pp_error_backtrace(error));
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

/* Each field of a sound one at its limits and beyond. */
enum lie { TRUTH, SIGNAL, COUNT, SIZE_0, SIZE_1, SIZE_MOST, ID_SIZE, NAME_SIZE, NAME_SIZE_0, NO_END, TOO_SHORT, LIES };

static int leave_lie(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    struct pp__result_side *side = result_side();
    struct pp__trace *trace = (struct pp__trace *)side->crash;
    uint32_t used = (uint32_t)make_trace(trace, "/nowhere");
    struct pp__trace_module *module =
        (struct pp__trace_module *)(void *)((char *)trace + sizeof *trace + sizeof *trace->pcs);
    switch ((enum lie)read_int(arg)) {
    case SIGNAL:
        trace->signal = SIGBUS;
        break;
    case COUNT:
        trace->count = UINT32_MAX;
        break;
    case SIZE_0:
        used = 0;
        break;
    case SIZE_1:
        used = 1;
        break;
    case SIZE_MOST:
        used = UINT32_MAX;
        break;
    case ID_SIZE:
        module->id_size = UINT32_MAX - 40;
        break;
    case NAME_SIZE:
        module->name_size = UINT32_MAX - 30;
        break;
    case NAME_SIZE_0:
        module->name_size = 0;
        break;
    case NO_END:
        memset(module + 1, 'x', module->name_size);
        break;
    case TOO_SHORT:
        used -= 8;
        break;
    default:
        break;
    }
    atomic_store(&side->crash_size, used);
    return end_by_segv();
}

BOTH(a_report_that_can_not_be_is_none)
{
    pp_pool *pool = open_workers(1, method);
    for (int lie = TRUTH; lie < LIES; lie++) {
        pp_future *future = submit_int(pool, leave_lie, lie);
        const char *text = pp_error_backtrace(error_of(future, PP_ERROR_CRASH));
        CHECK_STR(text, lie == TRUTH ? "#0 (nowhere+0x1345)\n" : "");
        pp_future_unref(future);
    }
    pp_pool_destroy(pool);
}

/* --------------------------------------------------------------------------------- files that it names */

static int name_file(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    struct pp__result_side *side = result_side();
    atomic_store(&side->crash_size, (uint32_t)make_trace(side->crash, arg));
    return end_by_segv();
}

static void check_name(pp_pool *pool, const char *name, const char *text)
{
    pp_future *future = submit(pool, name_file, name, strlen(name) + 1);
    CHECK_STR(pp_error_backtrace(error_of(future, PP_ERROR_CRASH)), text);
    pp_future_unref(future);
}

/* None of them can be waited for, or takes part in what happens to it. */
BOTH(files_that_are_no_modules_are_not_read)
{
    char fifo[] = "/tmp/pp-fifo-XXXXXX", text[128];
    CHECK(mkdtemp(fifo) != NULL);
    CHECK_INT(rmdir(fifo), 0);
    CHECK_INT(mkfifo(fifo, 0600), 0);
    pp_pool *pool = open_workers(1, method);
    snprintf(text, sizeof text, "#0 (%s+0x1345)\n", strrchr(fifo, '/') + 1);
    check_name(pool, fifo, text);
    check_name(pool, "/dev/zero", "#0 (zero+0x1345)\n");
    check_name(pool, "/tmp", "#0 (tmp+0x1345)\n");
    check_name(pool, "/proc/self/mem", "#0 (mem+0x1345)\n");
    check_name(pool, "/etc/passwd", "#0 (passwd+0x1345)\n");
    check_name(pool, "\033[2J\nname", "#0 (?[2J?name+0x1345)\n");
    pp_pool_destroy(pool);
    CHECK_INT(unlink(fifo), 0);
}

/* ----------------------------------------------------------------------------------- traces of failures */

/* A failure in the ring that the worker writes by hand, with a trace of `claimed` bytes of which `there` are. */
static _Noreturn void publish(pp_task *task, uint32_t claimed, size_t there, const void *trace)
{
    char behind[512];
    const struct pp__result_record result = {.slot = slot_of(pp_task_id(task)),
                                             .type = PP__OUTCOME_FAILED,
                                             .code = -EINVAL,
                                             .flags = PP__TRACED | claimed << PP__PLACE_SHIFT,
                                             .size = there + 4};
    CHECK(there + 4 <= sizeof behind);
    memcpy(behind, trace, there);
    memcpy(behind + there, "oops", 4);
    forge_result(pp_task_id(task), &result, behind, there + 4);
    pause_for_ever();
}

static int claim_too_much(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    char trace[256];
    publish(task, 300, make_trace(trace, "/nowhere"), trace);
}

BOTH(a_failures_trace_that_is_longer_than_its_record_is_garbage)
{
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit(pool, claim_too_much, NULL, 0);
    const pp_error *error = error_of(future, PP_ERROR_PROTOCOL);
    CHECK_HAS(error->message, "a trace that is longer than its record");
    CHECK_STR(pp_error_backtrace(error), "");
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

static int give_unsound(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    char trace[256];
    size_t used = make_trace(trace, "/nowhere");
    if (read_int(arg))
        ((struct pp__trace *)(void *)trace)->count = 1000;
    publish(task, (uint32_t)used, used, trace);
}

BOTH(of_a_failure_with_an_unsound_trace_the_message_counts)
{
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 2}, method);
    for (int unsound = 0; unsound <= 1; unsound++) {
        pp_future *future = submit_int(pool, give_unsound, unsound);
        const pp_error *error = error_of(future, PP_ERROR_TASK);
        CHECK_STR(error->message, "oops");
        CHECK_STR(pp_error_backtrace(error), unsound ? "" : "#0 (nowhere+0x1345)\n");
        pp_future_unref(future);
    }
    pp_pool_shutdown(pool, 0, 0);
    pp_pool_destroy(pool);
}
