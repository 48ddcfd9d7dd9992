/* SPDX-License-Identifier: MIT */
/* What one line of the kernel's tells of a process. */
#include "base/stat.h"
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct pp__stat stat_of(pid_t pid)
{
    struct pp__stat line;
    CHECK(pp__stat_read(pid, &line));
    return line;
}

static void *stay(void *unused)
{
    pause();
    return unused;
}

TEST(a_process_is_told_with_its_threads_and_its_start)
{
    pthread_t threads[2];
    CHECK_INT(pthread_create(&threads[0], NULL, stay, NULL), 0); /* with it thread sanitizer makes one of its own */
    struct pp__stat before = stat_of(getpid());
    CHECK_INT(pthread_create(&threads[1], NULL, stay, NULL), 0);
    struct pp__stat after = stat_of(getpid());
    CHECK_INT(before.state, 'R');
    CHECK_INT(after.threads, before.threads + 1);
    CHECK(before.start > 0 && after.start == before.start);
    CHECK(before.image != 0 && after.image == before.image);
    CHECK((uintptr_t)&before < before.image); /* the stack grows downwards from there */
    CHECK(!pp__stat_has_ended(&after));
}

TEST(a_name_may_be_like_the_fields_behind_it)
{
    struct pp__stat before = stat_of(getpid());
    CHECK_INT(prctl(PR_SET_NAME, "a) Z 1 2 (b) 7"), 0);
    struct pp__stat after = stat_of(getpid());
    CHECK_INT(after.start, before.start);
    CHECK_INT(after.image, before.image);
    CHECK_INT(after.state, 'R');
}

static bool is_zombie(pid_t pid)
{
    struct pp__stat line = stat_of(pid);
    return pp__stat_has_ended(&line);
}

TEST(a_process_has_ended_before_it_is_waited_for_and_then_there_is_none)
{
    struct pp__stat line;
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    CHECK(!is_zombie(child));
    CHECK(!stat_of(child).ending);
    CHECK_INT(kill(child, SIGKILL), 0);
    siginfo_t end;
    CHECK_INT(waitid(P_PID, (id_t)child, &end, WEXITED | WNOWAIT), 0);
    CHECK(is_zombie(child));
    CHECK(stat_of(child).ending);
    CHECK_INT(waitpid(child, NULL, 0), child);
    CHECK(!pp__stat_read(child, &line));
}

TEST(another_program_has_another_stack)
{
    int ends[2];
    char byte;
    CHECK_INT(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        dup2(ends[1], 1);
        execlp("sh", "sh", "-c", "echo; exec sleep 3600", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    struct pp__stat before = stat_of(getpid());
    CHECK_INT(read(ends[0], &byte, 1), 1);
    struct pp__stat after = stat_of(child);
    CHECK(after.image != before.image);
    CHECK_INT(kill(child, SIGKILL), 0);
    CHECK_INT(waitpid(child, NULL, 0), child);
    close(ends[0]);
}
