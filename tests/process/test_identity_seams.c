/* SPDX-License-Identifier: MIT */
/*
 * What it takes to find a function and its name, for one pool after another.
 *
 * needs: seams
 */
#include "kit.h"

#include "base/seam.h"
#include "process/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool unreadable;
static int asked;

static int counting_open(const char *path, int flags, ...)
{
    asked++;
    errno = EMFILE;
    return unreadable ? -1 : open(path, flags);
}

static int counting_stat(const char *restrict path, struct stat *restrict status)
{
    asked++;
    return stat(path, status);
}

static ssize_t counting_readlink(const char *restrict path, char *restrict text, size_t size)
{
    asked++;
    return readlink(path, text, size);
}

/* Not among the dynamic symbols. */
static __attribute__((noinline)) int static_function(int value)
{
    return value + 1;
}

/* As a pool does that is made, sees the function, and goes. How often the kernel was asked for files. */
static int ask(const char *expected)
{
    struct pp__module *module;
    uint64_t offset;
    char name[PP__FUNCTION_NAME_MAX];
    asked = 0;
    CHECK_OK(pp__module_find((const void *)static_function, &module, &offset));
    pp__module_name(module, offset, name);
    if (expected)
        CHECK_STR(name, expected);
    pp__module_unref(module);
    return asked;
}

TEST(the_programs_file_is_looked_at_once_for_all_pools)
{
    pp__sys.open = counting_open;
    pp__sys.stat = counting_stat;
    pp__sys.readlink = counting_readlink;
    CHECK(ask("static_function") > 0);
    CHECK_INT(ask("static_function"), 0);
    CHECK_INT(ask("static_function"), 0);
}

TEST(a_name_that_could_not_be_read_is_read_when_it_can)
{
    pp__sys.open = counting_open;
    unreadable = true;
    ask(NULL);
    unreadable = false;
    ask("static_function");
}
