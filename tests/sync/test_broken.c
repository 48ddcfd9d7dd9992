/* SPDX-License-Identifier: MIT */
/* What is locked by nobody who lives, what is no lock any more, and who is asked to stop while another is inside. */
#include "dict_kit.h"
#include "queue_kit.h"

#include "sync/dict.h"
#include "sync/gate.h"
#include "sync/queue.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 0x3ffffff0 /* no thread has so high a number */

/* ---------------------------------------------------------------------------------- who holds a lock's word */

/* An object's memory, once more. */
static unsigned char *map(int fd, size_t *size)
{
    struct stat status;
    CHECK_INT(fstat(fd, &status), 0);
    *size = (size_t)status.st_size;
    unsigned char *memory = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

/* The word of a lock that the calling thread holds: it has its number. */
static int *find_word(unsigned char *memory, size_t size)
{
    int self = (int)syscall(SYS_gettid);
    for (size_t i = 0; i + sizeof self <= size; i += sizeof self)
        if (*(int *)(memory + i) == self)
            return (int *)(memory + i);
    CHECK(!"a word with the holder");
    return NULL;
}

static void lose(struct pp__gate *gate)
{
    size_t size = sizeof gate->mutex.mutex;
    CHECK_OK(pp__gate_enter(gate, 0));
    int *word = find_word((unsigned char *)&gate->mutex.mutex, size);
    pp__gate_leave(gate);
    *word = NOBODY;
}

static pp_semaphore *make_semaphore(void)
{
    pp_semaphore *semaphore;
    CHECK_OK(pp_semaphore_create(2, &semaphore));
    return semaphore;
}

/* The gate lies behind the head. */
static struct pp__gate *gate_of(pp_semaphore *semaphore, unsigned char **memory, size_t *size)
{
    *memory = map(pp_semaphore_fd(semaphore), size);
    return (struct pp__gate *)(*memory + sizeof(struct pp__object_head));
}

TEST(a_semaphore_locked_by_nobody_is_told)
{
    size_t size;
    unsigned char *memory;
    pp_semaphore *semaphore = make_semaphore();
    CHECK_OK(pp_semaphore_acquire(semaphore, 0));
    lose(gate_of(semaphore, &memory, &size));
    CHECK_INT(pp_semaphore_value(semaphore), -EPROTO);
    CHECK_INT(pp_semaphore_release(semaphore), -EPROTO);
    CHECK_INT(pp_semaphore_acquire(semaphore, -1), -EPROTO);
    CHECK_INT(pp_semaphore_acquire(semaphore, 0), -EPROTO);
    CHECK_HAS(pp_last_error(), "overwritten");
    munmap(memory, size);
    pp_semaphore_unref(semaphore);
}

TEST(a_queue_locked_by_nobody_is_told)
{
    pp_queue *queue = kit_joinable(4);
    kit_put(queue, 1);
    kit_put(queue, 2);
    kit_get(queue);
    lose(&pp__queue_shared(queue)->gate);
    CHECK_INT(pp_queue_get(queue, -1, &(int){0}, sizeof(int), NULL), -EPROTO);
    CHECK_HAS(pp_last_error(), "overwritten");
    CHECK_INT(pp_queue_put(queue, NULL, 0, 0), -EPROTO);
    CHECK_INT(pp_queue_task_done(queue), -EPROTO);
    CHECK_INT(pp_queue_join(queue, -1), -EPROTO);
    pp_queue_unref(queue);
}

TEST(a_lock_held_by_nobody_is_told)
{
    size_t size;
    pp_lock *lock;
    CHECK_OK(pp_lock_create(&lock));
    unsigned char *memory = map(pp_lock_fd(lock), &size);
    CHECK_OK(pp_lock_acquire(lock, 0));
    int *word = find_word(memory, size);
    CHECK_OK(pp_lock_release(lock));
    *word = NOBODY;
    CHECK_INT(pp_lock_acquire(lock, -1), -EPROTO);
    *word = INT32_MIN; /* somebody waits, and nobody holds it */
    CHECK_INT(pp_lock_acquire(lock, -1), -EPROTO);
    *word = 0;
    CHECK_OK(pp_lock_acquire(lock, 0));
    CHECK_OK(pp_lock_release(lock));
    munmap(memory, size);
    pp_lock_unref(lock);
}

/* The mutex lies behind the head, in a line of its own. */
static struct pp__mutex *mutex_of(pp_dict *dict, unsigned char **memory, size_t *size)
{
    *memory = map(pp_dict_fd(dict), size);
    return (struct pp__mutex *)(void *)(*memory + (sizeof(struct pp__shared_dict) + 63) / 64 * 64);
}

static void check_that_it_is_told(pp_dict *dict)
{
    char value[8];
    pp_dict_view *view = NULL;
    CHECK_INT(pp_dict_get(dict, "key", 3, value, sizeof value, NULL), -EPROTO);
    CHECK_HAS(pp_last_error(), "overwritten");
    CHECK_INT(pp_dict_put(dict, "key", 3, "other", 5), -EPROTO);
    CHECK_INT(pp_dict_size(dict), -EPROTO);
    CHECK_INT(pp_dict_clear(dict), -EPROTO);
    CHECK_INT(pp_dict_view_open(dict, &view), -EPROTO);
    CHECK(view == NULL);
}

TEST_WITHIN(a_dictionary_locked_by_nobody_is_told, 30)
{
    const int garbage[] = {NOBODY, INT32_MIN, INT32_MIN | NOBODY};
    size_t size;
    unsigned char *memory;
    pp_dict *dict = kit_dict(0);
    kit_set(dict, "key", "value");
    struct pp__mutex *mutex = mutex_of(dict, &memory, &size);
    CHECK_INT(pthread_mutex_lock(&mutex->mutex), 0);
    int *word = find_word((unsigned char *)mutex, sizeof mutex->mutex);
    CHECK_INT(pthread_mutex_unlock(&mutex->mutex), 0);
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        *word = garbage[i];
        check_that_it_is_told(dict);
    }
    *word = 0;
    kit_has(dict, "key", "value");
    munmap(memory, size);
    pp_dict_unref(dict);
}

struct hoard {
    pp_lock *locks[2060];
};

static void take_all_and_die(void *argument)
{
    struct hoard *hoard = argument;
    for (size_t i = 0; i < sizeof hoard->locks / sizeof *hoard->locks; i++)
        CHECK_OK(pp_lock_acquire(hoard->locks[i], 0));
}

/* The kernel looks at so many, those that were taken last. */
TEST(of_more_locks_than_the_kernel_looks_at_when_a_thread_ends_the_others_are_told)
{
    enum { ALL = sizeof((struct hoard *)0)->locks / sizeof(pp_lock *), ROBUST = 2048 };
    static struct hoard hoard;
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (KIT_TSAN)
        LEFT_OUT("thread sanitizer ends a thread that holds more than 64 locks");
    if (limit.rlim_max < ALL + 40)
        LEFT_OUT("not as many descriptors may be open");
    limit.rlim_cur = limit.rlim_max;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < ALL; i++)
        CHECK_OK(pp_lock_create(&hoard.locks[i]));
    kit_end_well(kit_fork(take_all_and_die, &hoard));
    CHECK_INT(pp_lock_acquire(hoard.locks[ALL - 1], 0), -EOWNERDEAD);
    CHECK_INT(pp_lock_acquire(hoard.locks[ALL - ROBUST], 0), -EOWNERDEAD);
    CHECK_INT(pp_lock_acquire(hoard.locks[0], -1), -EPROTO);
}

/* ------------------------------------------------------------------------------------------- no lock any more */

TEST(garbage_where_the_lock_was_is_told)
{
    size_t size;
    unsigned char *memory;
    pp_semaphore *semaphore = make_semaphore();
    pp_queue *queue = kit_queue(4, 4096);
    memset(&gate_of(semaphore, &memory, &size)->mutex, 0xee, sizeof(struct pp__mutex));
    memset(&pp__queue_shared(queue)->gate.mutex, 0xee, sizeof(struct pp__mutex));
    CHECK_INT(pp_semaphore_acquire(semaphore, 0), -EPROTO);
    CHECK_INT(pp_semaphore_release(semaphore), -EPROTO);
    CHECK_INT(pp_semaphore_value(semaphore), -EPROTO);
    CHECK_INT(pp_queue_get(queue, 0, &(int){0}, sizeof(int), NULL), -EPROTO);
    CHECK_INT(pp_queue_put(queue, NULL, 0, 0), -EPROTO);
    munmap(memory, size);
    pp_semaphore_unref(semaphore);
    pp_queue_unref(queue);
}

TEST_WITHIN(garbage_where_a_dictionarys_lock_was_is_told, 30)
{
    size_t size;
    unsigned char *memory;
    const int garbage[] = {0xee, 0xff, 0x7f, 0x01};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        pp_dict *dict = kit_dict(0);
        struct pp__mutex *mutex = mutex_of(dict, &memory, &size);
        memset(mutex, garbage[i], sizeof *mutex);
        check_that_it_is_told(dict);
        munmap(memory, size);
        pp_dict_unref(dict);
    }
}

/* Once it is known it stays so: a watch that began again would be over at once, again and again. */
TEST(a_select_with_a_broken_queue_is_told)
{
    int ends[2];
    pp_queue *queue = kit_queue(4, 4096);
    CHECK_INT(pipe(ends), 0);
    memset(&pp__queue_shared(queue)->gate.mutex, 0xee, sizeof(struct pp__mutex));
    pp_selectable items[] = {{.kind = PP_SELECT_QUEUE, .queue = queue}, {.kind = PP_SELECT_FD, .fd = ends[0]}};
    CHECK_INT(pp_select(items, 2, KIT_ENOUGH), -EPROTO);
    CHECK_HAS(pp_last_error(), "overwritten");
    CHECK_INT(write(ends[1], "x", 1), 1);
    CHECK_INT(pp_select(items, 2, KIT_ENOUGH), 1);
    close(ends[0]);
    close(ends[1]);
    pp_queue_unref(queue);
}

TEST(a_select_with_a_queue_locked_by_nobody_is_told)
{
    pp_queue *queue = kit_queue(4, 4096);
    lose(&pp__queue_shared(queue)->gate);
    CHECK_INT(pp_select(&(pp_selectable){.kind = PP_SELECT_QUEUE, .queue = queue}, 1, -1), -EPROTO);
    pp_queue_unref(queue);
}

/* ---------------------------------------------------------------------------------------- another is inside */

struct guest {
    pp_queue *queue;
    _Atomic int *inside;
    _Atomic int *may_leave;
};

static void *stay_inside(void *argument)
{
    struct guest *guest = argument;
    struct pp__gate *gate = &pp__queue_shared(guest->queue)->gate;
    CHECK_OK(pp__gate_enter(gate, PP__NEVER));
    atomic_store(guest->inside, 1);
    while (!atomic_load(guest->may_leave))
        test_sleep_ms(1);
    pp__gate_leave(gate);
    return NULL;
}

/* In a thread that is not the first: its number is no process's. */
static void stay_inside_in_a_thread(void *argument)
{
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, stay_inside, argument), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
}

static pid_t start_guest(struct guest *guest)
{
    guest->inside = kit_shared(sizeof(int));
    guest->may_leave = kit_shared(sizeof(int));
    pid_t child = kit_fork(stay_inside_in_a_thread, guest);
    wait_until(atomic_load(guest->inside), 10);
    return child;
}

TEST(a_lock_held_by_a_thread_that_lives_is_not_lost)
{
    struct guest guest = {.queue = kit_queue(4, 4096)};
    pid_t child = start_guest(&guest);
    CHECK_INT(pp_queue_get(guest.queue, 0, &(int){0}, sizeof(int), NULL), -ETIMEDOUT);
    CHECK_INT(pp_queue_get(guest.queue, 2500, &(int){0}, sizeof(int), NULL), -ETIMEDOUT);
    kit_kill(child);
    kit_put(guest.queue, 3);
    CHECK_INT(kit_get(guest.queue), 3);
    pp_queue_unref(guest.queue);
}

static _Atomic int interruptions;

static void count_interruption(int number)
{
    (void)number;
    atomic_fetch_add(&interruptions, 1);
}

static void *get_in_vain(void *queue)
{
    int number;
    return (void *)(intptr_t)pp_queue_get(queue, KIT_ENOUGH, &number, sizeof number, NULL);
}

/* Many signals, as one that finds the thread awake is none to the wait; none once it is inside. */
TEST(a_signal_on_the_way_in_ends_the_wait)
{
    enum { SIGNALS = 50 };
    void *result;
    pthread_t thread;
    struct sigaction action = {.sa_handler = count_interruption};
    struct guest guest = {.queue = kit_queue(4, 4096)};
    CHECK_INT(sigaction(SIGUSR1, &action, NULL), 0);
    pid_t child = start_guest(&guest);
    CHECK_INT(pthread_create(&thread, NULL, get_in_vain, guest.queue), 0);
    for (int i = 0; i < SIGNALS; i++) {
        pthread_kill(thread, SIGUSR1);
        wait_until(atomic_load(&interruptions) > i, 10);
        test_sleep_ms(2);
    }
    atomic_store(guest.may_leave, 1);
    kit_end_well(child);
    CHECK_INT(pthread_join(thread, &result), 0);
    CHECK_INT((int)(intptr_t)result, -EINTR);
    pp_queue_unref(guest.queue);
}
