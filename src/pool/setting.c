/* SPDX-License-Identifier: MIT */
#include "pool/setting.h"

#include "base/error.h"
#include "base/seam.h"
#include "pool/channel.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENVIRONMENT_MAX 8192u
#define THREADS_MAX 1024

static_assert(sizeof(struct pp__setting) + CPU_SETSIZE * sizeof(int32_t) + PATH_MAX + ENVIRONMENT_MAX <
                  PP__RING_SLACK(PP__RING_BYTES),
              "a setting fits the call ring");

/* --------------------------------------------------------------------------------------------- owner */

static int check_numbers(const pp_pool_options *o)
{
    if (o->nice < -20 || o->nice > 19)
        return pp__fail(-EINVAL, "nice is %d; it must be -20 to 19", o->nice);
    if (o->library_threads < 0 || o->library_threads > THREADS_MAX)
        return pp__fail(-EINVAL, "library_threads is %d; it must be 0 (as many as they like) to %d", o->library_threads,
                        THREADS_MAX);
    return 0;
}

static int check_processors(const pp_pool_options *o)
{
    if (!o->processors != (o->processor_count == 0) || o->processor_count > CPU_SETSIZE)
        return pp__fail(-EINVAL, "processors is %s and processor_count %zu", o->processors ? "given" : "NULL",
                        o->processor_count);
    for (size_t i = 0; i < o->processor_count; i++)
        if (o->processors[i] < 0 || o->processors[i] >= CPU_SETSIZE ||
            o->processors[i] >= sysconf(_SC_NPROCESSORS_CONF))
            return pp__fail(-EINVAL, "processors[%zu] is %d, which is none of this machine's", i, o->processors[i]);
    return 0;
}

static int check_environment(const char *const *environment)
{
    size_t size = 0;
    for (size_t i = 0; environment && environment[i]; i++) {
        const char *equals = strchr(environment[i], '=');
        size += strlen(environment[i]) + 1;
        if (!equals || equals == environment[i])
            return pp__fail(-EINVAL, "environment[%zu] is \"%.64s\", which is no NAME=VALUE", i, environment[i]);
        if (size > ENVIRONMENT_MAX)
            return pp__fail(-E2BIG, "environment has more than %u bytes", ENVIRONMENT_MAX);
    }
    return 0;
}

/* The directory as it is to be entered, wherever a worker's parent may be; "" if there is none. */
static int resolve_directory(const char *directory, char path[PATH_MAX])
{
    struct stat status;
    path[0] = 0;
    if (!directory)
        return 0;
    if (!PP_SYS(realpath)(directory, path) || PP_SYS(stat)(path, &status) != 0)
        return pp__fail(-errno, "directory \"%.128s\": %s", directory, pp__strerror(errno));
    return S_ISDIR(status.st_mode) ? 0 : pp__fail(-ENOTDIR, "directory \"%.128s\" is none", directory);
}

/* Those that the options name or, with `pin`, those that the calling thread may use. */
static uint32_t choose_processors(const pp_pool_options *o, int32_t *numbers)
{
    uint32_t count = 0;
    cpu_set_t set;
    for (size_t i = 0; i < o->processor_count; i++)
        numbers[count++] = o->processors[i];
    if (count > 0 || !o->pin || PP_SYS(sched_getaffinity)(0, sizeof set, &set) != 0)
        return count;
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set))
            numbers[count++] = i;
    return count;
}

static int pack(const pp_pool_options *o, const char *directory, struct pp__setting **setting)
{
    struct pp__setting *made =
        PP_SYS(malloc)(sizeof *made + CPU_SETSIZE * sizeof(int32_t) + PATH_MAX + ENVIRONMENT_MAX);
    if (!made)
        return pp__fail(-ENOMEM, "no memory for what workers run in");
    int32_t *numbers = (int32_t *)(made + 1);
    *made = (struct pp__setting){.nice = o->nice, .library_threads = o->library_threads};
    made->processor_count = choose_processors(o, numbers);
    char *end = stpcpy((char *)(numbers + made->processor_count), directory) + 1;
    for (; o->environment && o->environment[made->environment_count]; made->environment_count++)
        end = stpcpy(end, o->environment[made->environment_count]) + 1;
    made->size = (uint32_t)(end - (char *)made);
    *setting = made;
    return 0;
}

int pp__setting_create(const pp_pool_options *o, struct pp__setting **setting)
{
    char directory[PATH_MAX];
    int error = check_numbers(o);
    if (!error)
        error = check_processors(o);
    if (!error)
        error = check_environment(o->environment);
    if (!error)
        error = resolve_directory(o->directory, directory);
    bool some = o->pin || o->processor_count || o->nice || o->library_threads || o->directory ||
                (o->environment && o->environment[0]);
    return error || !some ? error : pack(o, directory, setting);
}

/* -------------------------------------------------------------------------------------------- worker */

static int pin_to(const int32_t *numbers, uint32_t count, int number)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (count == 0)
        return 0;
    int processor = numbers[(uint32_t)number % count];
    CPU_SET(processor, &set);
    if (PP_SYS(sched_setaffinity)(0, sizeof set, &set) != 0)
        return pp__fail(-errno, "processor %d: %s", processor, pp__strerror(errno));
    return 0;
}

static int be_nice(int more)
{
    errno = 0;
    int now = more ? getpriority(PRIO_PROCESS, 0) : 0;
    int wanted = now + more < 19 ? now + more : 19;
    if (more && (errno || PP_SYS(setpriority)(PRIO_PROCESS, 0, wanted) != 0))
        return pp__fail(-errno, "a niceness of %d: %s", wanted, pp__strerror(errno));
    return 0;
}

/* What libraries read when they are loaded, or first used. */
static void set_thread_variables(int threads)
{
    static const char *const names[] = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS",
                                        "MKL_NUM_THREADS", "BLIS_NUM_THREADS",     "NUMEXPR_NUM_THREADS",
                                        "OMP_THREAD_LIMIT"};
    char text[16];
    snprintf(text, sizeof text, "%d", threads);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        PP_SYS(setenv)(names[i], text, 1);
}

/* And what those are to be told that are loaded, as they have read it. */
static void tell_libraries(int threads)
{
    static const char *const names[] = {"omp_set_num_threads", "openblas_set_num_threads", "MKL_Set_Num_Threads"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void (*set)(int);
        void *found = PP_SYS(dlsym)(RTLD_DEFAULT, names[i]);
        memcpy(&set, &found, sizeof set);
        if (set)
            set(threads);
    }
}

static int set_environment(const char *text, uint32_t count)
{
    for (; count > 0; count--, text += strlen(text) + 1) {
        char name[ENVIRONMENT_MAX];
        const char *equals = strchr(text, '=');
        snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
        if (PP_SYS(setenv)(name, equals + 1, 1) != 0)
            return pp__fail(-errno, "environment: %s", pp__strerror(errno));
    }
    return 0;
}

int pp__setting_apply(const struct pp__setting *setting, int number)
{
    const int32_t *numbers = (const int32_t *)(setting + 1);
    const char *directory = (const char *)(numbers + setting->processor_count);
    int error = pin_to(numbers, setting->processor_count, number);
    if (!error)
        error = be_nice(setting->nice);
    if (!error && *directory && PP_SYS(chdir)(directory) != 0)
        error = pp__fail(-errno, "directory \"%.128s\": %s", directory, pp__strerror(errno));
    if (setting->library_threads)
        set_thread_variables(setting->library_threads);
    if (!error) /* what the program asks for by name wins */
        error = set_environment(directory + strlen(directory) + 1, setting->environment_count);
    if (!error && setting->library_threads)
        tell_libraries(setting->library_threads);
    return error;
}
