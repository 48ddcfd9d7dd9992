/* SPDX-License-Identifier: MIT */
/* What the tests of objects of many processes share: children that do something and how they end. */
#ifndef TESTS_SYNC_KIT_H
#define TESTS_SYNC_KIT_H

#include "harness.h"
#include "helpers.h"
#include "memfd_kit.h"

#include "procpool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* Words that this process and its children share, zeroed. */
static inline void *kit_shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* Who begins `run` in a child of its own ends with status 0 when it returns. */
static inline pid_t kit_fork(void (*run)(void *), void *argument)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child > 0)
        return child;
    run(argument);
    _exit(0);
}

static inline void kit_end_well(pid_t child)
{
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_INT(WEXITSTATUS(status), 0);
}

static inline void kit_kill(pid_t child)
{
    int status;
    CHECK_INT(kill(child, SIGKILL), 0);
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status));
}

/* Whether the child has ended, reaped then; it was killed, or ended with status 0. */
static inline bool kit_has_ended(pid_t child)
{
    int status;
    pid_t ended = waitpid(child, &status, WNOHANG);
    CHECK(ended >= 0);
    if (ended == child && WIFEXITED(status))
        CHECK_INT(WEXITSTATUS(status), 0);
    return ended == child;
}

static inline void kit_stop(pid_t child)
{
    CHECK_INT(kill(child, SIGSTOP), 0);
    wait_until(test_process_state(child, NULL, NULL) == 'T', 5);
}

static inline void kit_ignore(int number)
{
    (void)number;
}

static int kit_wait
    __attribute__((unused)); /* ms for which kit_interrupted waits: for ever where it is to be interrupted */

struct kit_interruption {
    pthread_t thread;
    _Atomic bool over;
};

/* Again and again, as the first may come before the wait has begun. */
static inline void *kit_interrupt(void *argument)
{
    struct kit_interruption *interruption = argument;
    while (!atomic_load(&interruption->over)) {
        test_sleep_ms(20);
        pthread_kill(interruption->thread, SIGUSR1);
    }
    return NULL;
}

/* Runs `wait` while a handler of SIGUSR1 with these flags runs in this thread. What it returned. */
static inline int kit_interrupted(int (*wait)(void *), void *argument, int flags)
{
    pthread_t other;
    struct kit_interruption interruption = {.thread = pthread_self()};
    struct sigaction action = {.sa_handler = kit_ignore, .sa_flags = flags};
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_INT(pthread_create(&other, NULL, kit_interrupt, &interruption), 0);
    kit_wait = flags & SA_RESTART ? 200 : -1;
    int result = wait(argument);
    atomic_store(&interruption.over, true);
    CHECK_INT(pthread_join(other, NULL), 0);
    return result;
}

#define KIT_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* A copy of what is behind `fd`, of the same size and with the same seals, in which `count` bytes at `offset` are
 * others. */
static inline int kit_forged(int fd, size_t offset, const void *bytes, size_t count)
{
    off_t size = lseek(fd, 0, SEEK_END);
    CHECK(size > 0);
    unsigned char *copy = malloc((size_t)size);
    CHECK(copy != NULL);
    CHECK_INT(pread(fd, copy, (size_t)size, 0), size);
    memcpy(copy + offset, bytes, count);
    int forged = kit_memfd(copy, (size_t)size, (size_t)size, KIT_SEALS);
    free(copy);
    return forged;
}

/* `open` refuses what is no object, with -EINVAL or, if it is not even open, -EBADF. `good` is one that it takes. */
static inline void kit_check_refusals(int (*open_it)(int), int good)
{
    int pipes[2];
    char zeros[64] = {0};
    int unsealed = kit_memfd(zeros, sizeof zeros, 1 << 16, 0),
        empty = kit_memfd(zeros, sizeof zeros, 1 << 16, KIT_SEALS);
    int tiny = kit_memfd(zeros, 8, 8, KIT_SEALS), file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int unwritable = kit_memfd(zeros, sizeof zeros, 1 << 16, KIT_SEALS | F_SEAL_FUTURE_WRITE);
    CHECK_INT(pipe2(pipes, O_CLOEXEC), 0);
    const int bad[] = {unsealed, empty, tiny, file, unwritable, pipes[0]};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_INT(open_it(bad[i]), -EINVAL);
        close(bad[i]);
    }
    close(pipes[1]);
    CHECK_INT(open_it(-1), -EBADF);
    CHECK_INT(open_it(file), -EBADF);
    for (size_t word = 0; word < 24; word += 4) { /* magic, kind, the mutex's size, the segment's */
        int forged = kit_forged(good, word, "\xff\xff\xff\x7f", 4);
        CHECK_INT(open_it(forged), -EINVAL);
        close(forged);
    }
    CHECK_INT(open_it(good), 0);
}

#endif
