/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* Backtraces where something is missing: memory, libdw; and a report that itself runs into what a crash has destroyed.
 */
#include "backtrace_kit.h"

#include "base/seam.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/sendfile.h>

/* In place of libc's, for the library, which is linked into this program. */
static bool without_libdw;

void *dlopen(const char *name, int flags)
{
    static void *(*real)(const char *, int);
    if (without_libdw && name && strncmp(name, "libdw", 5) == 0)
        return NULL;
    if (!real) {
        void *found = dlsym(RTLD_NEXT, "dlopen");
        memcpy(&real, &found, sizeof real);
    }
    return real(name, flags);
}

/* Cuts the file at `cut` short once libdw has been given all files, and before it is asked anything. */
static const char *cut;
typedef int report_end_function(void *, void *, void *); /* by names that need no header of libdw's */
static report_end_function *real_report_end;

static int cut_then_report_end(void *dwfl, void *removed, void *arg)
{
    CHECK_OK(truncate(cut, 4096));
    return real_report_end(dwfl, removed, arg);
}

void *dlsym(void *handle, const char *name)
{
    static void *(*real)(void *, const char *);
    void *found = real ? NULL : dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
    if (!real && !found)
        found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    if (!real)
        memcpy(&real, &found, sizeof real);
    found = real(handle, name);
    if (!cut || strcmp(name, "dwfl_report_end") != 0)
        return found;
    memcpy(&real_report_end, &found, sizeof found);
    report_end_function *instead = cut_then_report_end;
    memcpy(&found, &instead, sizeof found);
    return found;
}

static char *volatile nowhere;
static volatile int after;

__attribute__((noinline, no_sanitize("undefined"))) static void go_down(void)
{
    *nowhere = 1;
    after++;
}

static int crash_task(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    go_down();
    after++;
    return 0;
}

static const pp_error *crash_of(pp_future *future)
{
    const pp_error *error = error_of(future, PP_ERROR_CRASH);
    CHECK_INT(error->signal, SIGSEGV);
    return error;
}

/* ------------------------------------------------------------------------------------------ the report */

/* Orders for fault points reach forks only. */
static void check_disturbed(enum pp__fault_action action)
{
    pp_pool *pool = open_reporting(1, PP_START_FORK);
    pp__fault_arm("crash.unwind", 1, action);
    pp_future *future = submit(pool, crash_task, NULL, 0);
    const char *text = pp_error_backtrace(crash_of(future));
    CHECK_INT(pp__fault_hits(), 1);
    CHECK_INT(count_frames(text), 1); /* what is left out is only what the unwinder would have said */
    CHECK_INT(frame_with(text, " go_down "), 0);
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
}

TEST(a_report_that_crashes_itself_ends_by_the_first_signal)
{
    check_disturbed(PP__FAULT_ABORT);
}

TEST_WITHIN(a_report_that_hangs_is_cut_short, 20)
{
    check_disturbed(PP__FAULT_HANG);
}

/* ------------------------------------------------------------------------------------------- the owner */

TEST(without_libdw_there_are_names_without_lines)
{
    without_libdw = true;
    pp_pool *pool = open_reporting(1, PP_START_FORKSERVER);
    pp_future *future = submit(pool, crash_task, NULL, 0);
    const char *text = pp_error_backtrace(crash_of(future));
    CHECK_FUNCTIONS(text, "go_down", "crash_task");
    CHECK(!have_lines(text));
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static _Atomic bool without_memfd;

static int failing_memfd_create(const char *name, unsigned flags)
{
    errno = ENOSYS;
    return without_memfd ? -1 : memfd_create(name, flags);
}

TEST(without_memory_for_copies_of_files_there_are_names_without_lines)
{
    pp__sys.memfd_create = failing_memfd_create; /* before the threads that read it */
    pp_pool *pool = open_reporting(1, PP_START_FORKSERVER);
    pp_future *future = submit(pool, crash_task, NULL, 0);
    const pp_error *error = crash_of(future);
    without_memfd = true;
    const char *text = pp_error_backtrace(error);
    without_memfd = false;
    CHECK_FUNCTIONS(text, "go_down", "crash_task");
    CHECK(!have_lines(text));
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* The owner does not load it: what is cut short would be its own memory. */
static int crash_in_file(pp_task *task, const void *arg, size_t size)
{
    void *plugin = dlopen(arg, RTLD_NOW | RTLD_LOCAL);
    pp_function *function = NULL;
    void *found = plugin ? dlsym(plugin, "plugin_crash") : NULL;
    memcpy(&function, &found, sizeof function);
    return function ? function(task, arg, size) : -ENOENT;
}

TEST(a_file_that_is_cut_short_while_it_is_read_has_its_lines)
{
    char path[] = "/tmp/pp-crasher-XXXXXX";
    int from = open(PP_TEST_PLUGINS "/libcrasher.so", O_RDONLY | O_CLOEXEC), to = mkstemp(path);
    CHECK(from >= 0 && to >= 0);
    while (sendfile(to, from, NULL, 1 << 20) > 0) {
    }
    close(from);
    close(to);
    pp_pool *pool = open_reporting(1, PP_START_FORKSERVER);
    pp_future *future = submit(pool, crash_in_file, path, sizeof path);
    const pp_error *error = crash_of(future);
    cut = path;
    const char *text = pp_error_backtrace(error);
    CHECK_OK(unlink(path));
    CHECK_INT(frame_with(text, " deep_in_the_plugin "), have_lines(text) ? 1 : 0);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

static _Atomic int fail_reallocs;
static _Atomic size_t last_size, refused_size;

static void *failing_malloc(size_t size)
{
    if (size == refused_size)
        return NULL;
    last_size = size;
    return malloc(size);
}

static void *failing_realloc(void *memory, size_t size)
{
    return fail_reallocs ? NULL : realloc(memory, size);
}

TEST(without_memory_for_its_text_a_backtrace_can_be_asked_for_again)
{
    pp_pool *pool = open_reporting(1, PP_START_FORKSERVER);
    pp_future *future = submit(pool, crash_task, NULL, 0);
    const pp_error *error = crash_of(future);
    pp__sys.realloc = failing_realloc;
    fail_reallocs = 1;
    CHECK_STR(pp_error_backtrace(error), "");
    fail_reallocs = 0;
    CHECK_FUNCTIONS(pp_error_backtrace(error), "go_down", "crash_task");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* What is allocated last before the call has failed is the copy of the trace: as large for the same crash again. */
TEST(without_memory_for_a_trace_the_error_is_there_without)
{
    pp_pool *pool = open_reporting(1, PP_START_FORKSERVER);
    pp__sys.malloc = failing_malloc;
    for (int refused = 0; refused <= 1; refused++) {
        pp_future *future = submit(pool, crash_task, NULL, 0);
        const pp_error *error = crash_of(future);
        CHECK_HAS(error->message, "was killed by signal 11");
        if (refused)
            CHECK_STR(pp_error_backtrace(error), "");
        else
            CHECK(error->backtrace != NULL);
        refused_size = last_size;
        pp_future_unref(future);
    }
    refused_size = 0;
    expect_usable(pool);
    pp_pool_destroy(pool);
}
