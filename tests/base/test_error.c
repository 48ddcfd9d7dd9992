/* SPDX-License-Identifier: MIT */
#include "harness.h"

#include "base/error.h"
#include "procpool.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

TEST(at_first_there_is_no_text)
{
    CHECK_STR(pp_last_error(), "");
}

TEST(a_failure_returns_its_code_and_leaves_its_text)
{
    CHECK_INT(pp__fail(-EINVAL, "max_workers is %d, above %d", 2000, 1024), -EINVAL);
    CHECK_STR(pp_last_error(), "max_workers is 2000, above 1024");
}

TEST(the_next_failure_replaces_the_text_whole)
{
    pp__fail(-EINVAL, "a long text that the next one does not cover");
    pp__fail(-ENOMEM, "short");
    CHECK_STR(pp_last_error(), "short");
}

TEST(a_long_text_is_cut_at_511_bytes)
{
    char text[2000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    CHECK_INT(pp__fail(-EIO, "%s", text), -EIO);
    CHECK_INT(strlen(pp_last_error()), 511);
    CHECK_INT(strspn(pp_last_error(), "x"), 511);
}

TEST(the_last_text_can_be_part_of_the_next)
{
    pp__fail(-ENOENT, "no such file");
    pp__fail(-EIO, "the preload: %s", pp_last_error());
    CHECK_STR(pp_last_error(), "the preload: no such file");
    pp__fail_errno(ENOENT, "again %s", pp_last_error());
    CHECK_STR(pp_last_error(), "again the preload: no such file: No such file or directory");
}

TEST(a_system_error_is_negated_and_in_words)
{
    CHECK_INT(pp__fail_errno(ENOENT, "opening %s", "/nowhere"), -ENOENT);
    CHECK_STR(pp_last_error(), "opening /nowhere: No such file or directory");
}

TEST(a_long_subject_leaves_room_for_the_system_error)
{
    char text[2000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    CHECK_INT(pp__fail_errno(EACCES, "%s", text), -EACCES);
    CHECK_HAS(pp_last_error(), "x: Permission denied");
}

static void *fail_in_thread(void *unused)
{
    CHECK_STR(pp_last_error(), "");
    pp__fail(-EIO, "the thread's");
    CHECK_STR(pp_last_error(), "the thread's");
    CHECK_STR(pp__strerror(4242), "Unknown error 4242");
    return unused;
}

TEST(each_thread_has_its_own_text)
{
    pthread_t thread;
    const char *unknown = pp__strerror(9999);
    pp__fail(-EIO, "main's");
    CHECK_INT(pthread_create(&thread, NULL, fail_in_thread, NULL), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_STR(pp_last_error(), "main's");
    CHECK_STR(unknown, "Unknown error 9999");
}
