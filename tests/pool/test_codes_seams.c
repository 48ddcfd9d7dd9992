/* SPDX-License-Identifier: MIT */
/*
 * Error codes that hardly any program meets, each by itself and with its words.
 *
 * needs: seams
 */
#include "call_kit.h"
#include "want_kit.h"

#include <sys/stat.h>

#define NOBODY 65534

static bool files_are_out; /* of the system's, for eventfds */

static int scarce_eventfd(unsigned count, int flags)
{
    if (!files_are_out)
        return real.eventfd(count, flags);
    errno = ENFILE;
    return -1;
}

__attribute__((constructor)) static void make_scarce(void)
{
    real = pp__sys;
    pp__sys.malloc = failing_malloc;
    pp__sys.calloc = failing_calloc;
    pp__sys.eventfd = scarce_eventfd;
}

BOTH(a_pool_is_refused_with_enfile_where_the_system_has_no_files_left)
{
    pp_pool *pool = NULL;
    files_are_out = true;
    CHECK_INT(pp_pool_create(&(pp_pool_options){.start_method = method}, &pool), -ENFILE);
    CHECK_HAS(pp_last_error(), "fs.file-max");
    CHECK(pool == NULL);
    files_are_out = false;
    pp_pool_destroy(kit_pool(method, 1));
}

/* To root nothing is closed. */
static void become_nobody(void)
{
    if (geteuid() == 0)
        CHECK_INT(seteuid(NOBODY), 0);
}

BOTH(a_pool_is_refused_with_eacces_where_its_directory_is_closed_to_the_program)
{
    char closed[] = "/tmp/procpool-closed-XXXXXX", directory[sizeof closed + 8];
    pp_pool *pool = NULL;
    uid_t me = geteuid();
    CHECK(mkdtemp(closed) != NULL);
    snprintf(directory, sizeof directory, "%s/inside", closed);
    CHECK_INT(mkdir(directory, 0700), 0);
    CHECK_INT(chmod(closed, 0), 0);
    become_nobody();
    int code = pp_pool_create(&(pp_pool_options){.start_method = method, .directory = directory}, &pool);
    CHECK_HAS(pp_last_error(), directory);
    CHECK_INT(seteuid(me), 0);
    CHECK_INT(chmod(closed, 0700), 0);
    CHECK_INT(rmdir(directory) + rmdir(closed), 0);
    CHECK_INT(code, -EACCES);
    CHECK(pool == NULL);
}

/* ------------------------------------------------------------------------------------------------- maps */

static pp_map *the_map;

static int step_own_map(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    pp_map_result result = {.index = 77};
    CHECK_INT(pp_map_next(the_map, -1, &result), -EDEADLK);
    CHECK_HAS(pp_last_error(), "only its own thread");
    CHECK_INT(result.index, 77);
    return pp_task_return(task, "so be it", 9);
}

TEST(an_element_of_an_inline_pool_that_waits_for_its_own_map_is_told_so)
{
    pp_map_result result;
    pp_pool *pool = kit_pool(PP_START_INLINE, 1);
    CHECK_OK(pp_map_open_array(pool, step_own_map, "x", 1, 1, NULL, &the_map));
    CHECK_INT(pp_map_next(the_map, -1, &result), 1);
    CHECK_INT(result.code, 0);
    CHECK_STR(result.data, "so be it");
    CHECK_INT(pp_map_next(the_map, -1, &result), 0);
    pp_map_close(the_map);
    pp_pool_destroy(pool);
}

static int say(pp_task *task, const void *arg, size_t size)
{
    (void)task;
    printf("%.*s", (int)size, (const char *)arg);
    return 0;
}

/* Whether its output is missing for want of memory. The step that fails may be another; nothing is lost then. */
static bool output_is_missing(pp_pool *pool, long step)
{
    pp_map *map;
    pp_map_result result;
    pp_output output;
    CHECK_OK(pp_map_open_array(pool, say, "said", 1, 4, NULL, &map));
    arm(step);
    int got = pp_map_next(map, -1, &result);
    if (got == -ENOMEM)
        got = pp_map_next(map, -1, &result);
    CHECK_INT(got, 1);
    int code = pp_map_output(map, PP_STDOUT, &output);
    if (code)
        CHECK_HAS(pp_last_error(), "no memory");
    else
        CHECK_STR(output.data, "said");
    CHECK(code == 0 || code == -ENOMEM);
    CHECK_INT(pp_map_next(map, -1, &result), 0);
    pp_map_close(map);
    return code != 0;
}

BOTH(an_elements_output_is_missing_with_enomem_where_there_was_no_memory_to_keep_it)
{
    int missing = 0;
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .capture = PP_STDOUT});
    CHECK(!output_is_missing(pool, 0));
    for (long step = 1, failed = true; failed; step++) {
        missing += output_is_missing(pool, step);
        failed = disarm();
    }
    CHECK(missing > 0);
    pp_pool_destroy(pool);
}
