/* SPDX-License-Identifier: MIT */
/* Semaphores: as many hold units as there are, and what the dead held is free. */
#include "sync_kit.h"

#include "sync/participant.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static pp_semaphore *make_semaphore(int units)
{
    pp_semaphore *semaphore;
    CHECK_OK(pp_semaphore_create(units, &semaphore));
    return semaphore;
}

TEST(units_are_taken_and_given_back)
{
    pp_semaphore *semaphore = make_semaphore(2);
    CHECK_INT(pp_semaphore_value(semaphore), 2);
    CHECK_OK(pp_semaphore_acquire(semaphore, 0));
    CHECK_OK(pp_semaphore_acquire(semaphore, -1));
    CHECK_INT(pp_semaphore_value(semaphore), 0);
    CHECK_INT(pp_semaphore_acquire(semaphore, 0), -ETIMEDOUT);
    CHECK_HAS(pp_last_error(), "no unit");
    CHECK_INT(pp_semaphore_acquire(semaphore, 120), -ETIMEDOUT);
    CHECK_OK(pp_semaphore_release(semaphore));
    CHECK_OK(pp_semaphore_acquire(semaphore, 0));
    CHECK_OK(pp_semaphore_release(semaphore));
    CHECK_OK(pp_semaphore_release(semaphore));
    CHECK_INT(pp_semaphore_value(semaphore), 2);
    pp_semaphore_unref(semaphore);
}

TEST(a_process_gives_back_only_what_it_holds)
{
    pp_semaphore *semaphore = make_semaphore(3);
    CHECK_INT(pp_semaphore_release(semaphore), -EPERM);
    CHECK_HAS(pp_last_error(), "holds no unit");
    CHECK_OK(pp_semaphore_acquire(semaphore, 0));
    pid_t child = fork();
    if (child == 0) {
        CHECK_INT(pp_semaphore_release(semaphore), -EPERM);
        CHECK_INT(pp_semaphore_value(semaphore), 2);
        CHECK_OK(pp_semaphore_acquire(semaphore, 0)); /* for itself, though its parent is known already */
        CHECK_INT(pp_semaphore_value(semaphore), 1);
        _exit(0);
    }
    kit_end_well(child);
    CHECK_INT(pp_semaphore_value(semaphore), 2);
    CHECK_OK(pp_semaphore_release(semaphore));
    pp_semaphore_unref(semaphore);
}

static void *give_back(void *semaphore)
{
    CHECK_OK(pp_semaphore_release(semaphore));
    return NULL;
}

TEST(another_thread_of_the_process_may_give_a_unit_back)
{
    pp_semaphore *semaphore = make_semaphore(1);
    pthread_t thread;
    CHECK_OK(pp_semaphore_acquire(semaphore, 0));
    CHECK_INT(pthread_create(&thread, NULL, give_back, semaphore), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(pp_semaphore_value(semaphore), 1);
    pp_semaphore_unref(semaphore);
}

/* --------------------------------------------------------------------------------------------- many */

struct crowd {
    pp_semaphore *semaphore;
    _Atomic int *inside;
    int most;
};

static void *come_and_go(void *argument)
{
    struct crowd *crowd = argument;
    for (int i = 0; i < 500; i++) {
        CHECK_OK(pp_semaphore_acquire(crowd->semaphore, -1));
        CHECK(atomic_fetch_add(crowd->inside, 1) < crowd->most);
        if (i % 50 == 0)
            usleep(100);
        atomic_fetch_sub(crowd->inside, 1);
        CHECK_OK(pp_semaphore_release(crowd->semaphore));
    }
    return NULL;
}

static void crowd_in(void *argument)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, come_and_go, argument), 0);
    for (int i = 0; i < 2; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
}

TEST(no_more_than_there_are_units_are_inside)
{
    struct crowd crowd = {.semaphore = make_semaphore(3), .inside = kit_shared(sizeof(int)), .most = 3};
    pid_t children[4];
    for (int i = 0; i < 4; i++)
        children[i] = kit_fork(crowd_in, &crowd);
    for (int i = 0; i < 4; i++)
        kit_end_well(children[i]);
    CHECK_INT(pp_semaphore_value(crowd.semaphore), 3);
    pp_semaphore_unref(crowd.semaphore);
}

/* ---------------------------------------------------------------------------------------- dead holders */

static void hold_two(void *semaphore)
{
    CHECK_OK(pp_semaphore_acquire(semaphore, -1));
    CHECK_OK(pp_semaphore_acquire(semaphore, -1));
    for (;;)
        pause();
}

static void take_and_end(void *semaphore)
{
    CHECK_OK(pp_semaphore_acquire(semaphore, -1));
    CHECK_OK(pp_semaphore_acquire(semaphore, -1));
}

TEST(what_a_dead_process_held_is_free_at_the_next_look)
{
    pp_semaphore *semaphore = make_semaphore(2);
    for (int i = 0; i < 3; i++) {
        pid_t child = kit_fork(hold_two, semaphore);
        wait_until(pp_semaphore_value(semaphore) == 0, 5);
        CHECK_INT(pp_semaphore_acquire(semaphore, 0), -ETIMEDOUT);
        kit_kill(child);
        CHECK_OK(pp_semaphore_acquire(semaphore, 0));
        CHECK_INT(pp_semaphore_value(semaphore), 1);
        CHECK_OK(pp_semaphore_release(semaphore));
    }
    kit_end_well(kit_fork(take_and_end, semaphore));
    CHECK_INT(pp_semaphore_value(semaphore), 2);
    pp_semaphore_unref(semaphore);
}

TEST(a_process_that_has_ended_holds_nothing_though_nobody_waited_for_it)
{
    pp_semaphore *semaphore = make_semaphore(2);
    pid_t child = kit_fork(take_and_end, semaphore);
    wait_until(test_process_state(child, NULL, NULL) == 'Z', 5);
    wait_until(pp_semaphore_value(semaphore) == 2, 5); /* a thread of the sanitizer's may end after the main one */
    kit_end_well(child);
    pp_semaphore_unref(semaphore);
}

static void stay(void *argument)
{
    (void)argument;
    for (;;)
        pause();
}

static void *outlive_main(void *argument)
{
    stay(argument);
    return NULL;
}

static void end_main_thread_with_units(void *semaphore)
{
    pthread_t thread;
    CHECK_INT(pthread_create(&thread, NULL, outlive_main, NULL), 0);
    CHECK_OK(pp_semaphore_acquire(semaphore, -1));
    CHECK_OK(pp_semaphore_acquire(semaphore, -1));
    pthread_exit(NULL);
}

TEST(a_process_whose_main_thread_has_ended_holds_what_it_held)
{
    pp_semaphore *semaphore = make_semaphore(2);
    pid_t child = kit_fork(end_main_thread_with_units, semaphore);
    wait_until(test_process_state(child, NULL, NULL) == 'Z', 5);
    CHECK_INT(pp_semaphore_value(semaphore), 0);
    kit_kill(child);
    CHECK_INT(pp_semaphore_value(semaphore), 2);
    pp_semaphore_unref(semaphore);
}

/* From now on the kernel seems to know no pidfd_open. */
static void forget_pidfds(void)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof steps / sizeof steps[0], .filter = steps};
    CHECK_INT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        LEFT_OUT("no filter of system calls can be set");
}

TEST(who_lives_is_known_without_pidfds_too)
{
    pp_semaphore *semaphore = make_semaphore(2);
    forget_pidfds();
    pid_t child = kit_fork(hold_two, semaphore);
    wait_until(pp_semaphore_value(semaphore) == 0, 5);
    kit_stop(child);
    CHECK_INT(pp_semaphore_value(semaphore), 0);
    CHECK_INT(kill(child, SIGKILL), 0);
    wait_until(pp_semaphore_value(semaphore) == 2, 5); /* a zombie */
    CHECK_INT(waitpid(child, NULL, 0), child);
    child = kit_fork(end_main_thread_with_units, semaphore);
    wait_until(test_process_state(child, NULL, NULL) == 'Z', 5);
    CHECK_INT(pp_semaphore_value(semaphore), 0);
    kit_kill(child);
    CHECK_INT(pp_semaphore_value(semaphore), 2);
    pp_semaphore_unref(semaphore);
}

/* Those that were free; how many. */
static int take_all_descriptors(int descriptors[64])
{
    int count = 0;
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 32;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (count < 64 && (descriptors[count] = dup(0)) >= 0)
        count++;
    CHECK_INT(errno, EMFILE);
    return count;
}

static void give_back_descriptors(const int *descriptors, int count)
{
    while (count > 0)
        close(descriptors[--count]);
}

TEST(who_lives_is_known_without_a_descriptor_too)
{
    int descriptors[64], count;
    pp_semaphore *semaphore = make_semaphore(2);
    pid_t child = kit_fork(hold_two, semaphore);
    wait_until(pp_semaphore_value(semaphore) == 0, 5);
    kit_stop(child);
    count = take_all_descriptors(descriptors);
    CHECK_INT(pp_semaphore_value(semaphore), 0);
    CHECK_INT(kill(child, SIGKILL), 0);
    CHECK_INT(waitid(P_PID, (id_t)child, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
    CHECK_INT(pp_semaphore_value(semaphore), 2); /* a zombie */
    CHECK_INT(waitpid(child, NULL, 0), child);
    give_back_descriptors(descriptors, count);
    child = kit_fork(end_main_thread_with_units, semaphore);
    wait_until(test_process_state(child, NULL, NULL) == 'Z', 5);
    count = take_all_descriptors(descriptors);
    CHECK_INT(pp_semaphore_value(semaphore), 0);
    kit_kill(child);
    CHECK_INT(pp_semaphore_value(semaphore), 2);
    give_back_descriptors(descriptors, count);
    pp_semaphore_unref(semaphore);
}

static void wait_for_unit(void *semaphore)
{
    CHECK_OK(pp_semaphore_acquire(semaphore, -1));
    CHECK_OK(pp_semaphore_release(semaphore));
}

TEST(those_who_wait_get_what_a_dead_process_held)
{
    pp_semaphore *semaphore = make_semaphore(2);
    pid_t holder = kit_fork(hold_two, semaphore), waiters[3];
    wait_until(pp_semaphore_value(semaphore) == 0, 5);
    for (int i = 0; i < 3; i++)
        waiters[i] = kit_fork(wait_for_unit, semaphore);
    test_sleep_ms(20);
    kit_kill(holder);
    for (int i = 0; i < 3; i++)
        kit_end_well(waiters[i]);
    CHECK_INT(pp_semaphore_value(semaphore), 2);
    pp_semaphore_unref(semaphore);
}

TEST(a_number_that_is_another_processs_by_now_holds_nothing)
{
    CHECK(pp__participant_lives((uint32_t)getpid(), 0, 0));
    CHECK(!pp__participant_lives((uint32_t)getpid(), 1, 0)); /* started right after boot: not this one */
    pid_t child = kit_fork(stay, NULL);
    CHECK(pp__participant_lives((uint32_t)child, 0, 0));
    kit_stop(child);
    CHECK(pp__participant_lives((uint32_t)child, 0, 0));
    kit_kill(child);
    CHECK(!pp__participant_lives((uint32_t)child, 0, 0));
}

static void take_and_become_another_program(void *semaphore)
{
    CHECK_OK(pp_semaphore_acquire(semaphore, 0));
    CHECK_OK(pp_semaphore_acquire(semaphore, 0));
    execlp("sleep", "sleep", "3600", (char *)NULL);
    _exit(127);
}

static bool is_sleep(pid_t pid)
{
    char path[32], name[16] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    CHECK(fgets(name, sizeof name, file) != NULL);
    fclose(file);
    return strcmp(name, "sleep\n") == 0;
}

TEST(what_a_process_held_that_became_another_program_is_free)
{
    pp_semaphore *semaphore = make_semaphore(2);
    pid_t child = kit_fork(take_and_become_another_program, semaphore);
    wait_until(is_sleep(child), 10);
    CHECK_OK(pp_semaphore_acquire(semaphore, 5000 * (int)harness_scale()));
    CHECK_INT(pp_semaphore_value(semaphore), 1);
    CHECK(!kit_has_ended(child));
    kit_kill(child);
    CHECK_OK(pp_semaphore_release(semaphore));
    CHECK_INT(pp_semaphore_value(semaphore), 2);
    pp_semaphore_unref(semaphore);
}

static void come_and_go_for_ever(void *argument)
{
    for (;;)
        come_and_go(argument);
}

TEST(takers_killed_at_any_moment_take_no_unit_along)
{
    struct crowd crowd = {.semaphore = make_semaphore(2), .inside = kit_shared(sizeof(int)), .most = INT32_MAX};
    pid_t children[3];
    unsigned seed = 2;
    for (int i = 0; i < 3; i++)
        children[i] = kit_fork(come_and_go_for_ever, &crowd);
    for (int round = 0; round < 100; round++) {
        usleep((useconds_t)(rand_r(&seed) % 2000));
        kit_kill(children[round % 3]);
        CHECK_OK(pp_semaphore_acquire(crowd.semaphore, 5000 * (int)harness_scale()));
        CHECK_OK(pp_semaphore_release(crowd.semaphore));
        children[round % 3] = kit_fork(come_and_go_for_ever, &crowd);
    }
    for (int i = 0; i < 3; i++)
        kit_kill(children[i]);
    CHECK_INT(pp_semaphore_value(crowd.semaphore), 2);
    pp_semaphore_unref(crowd.semaphore);
}

TEST(a_taker_that_is_stopped_inside_holds_up_nobody_for_ever)
{
    struct crowd crowd = {.semaphore = make_semaphore(1), .inside = kit_shared(sizeof(int)), .most = INT32_MAX};
    pid_t child = kit_fork(come_and_go_for_ever, &crowd);
    for (int i = 0; i < 20; i++) {
        kit_stop(child);
        int error = pp_semaphore_acquire(crowd.semaphore, 0);
        CHECK(error == 0 || error == -ETIMEDOUT);
        kill(child, SIGCONT);
        if (!error)
            CHECK_OK(pp_semaphore_release(crowd.semaphore));
    }
    kit_kill(child);
    CHECK_INT(pp_semaphore_value(crowd.semaphore), 1);
    pp_semaphore_unref(crowd.semaphore);
}

/* ------------------------------------------------------------------------------------ more processes */

static void hold_one(void *argument)
{
    struct crowd *crowd = argument;
    CHECK_OK(pp_semaphore_acquire(crowd->semaphore, -1));
    atomic_fetch_add(crowd->inside, 1);
    for (;;)
        pause();
}

TEST(many_processes_hold_units_and_records_are_used_again)
{
    struct crowd crowd = {.semaphore = make_semaphore(40), .inside = kit_shared(sizeof(int))};
    pid_t children[40];
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < 40; i++)
            children[i] = kit_fork(hold_one, &crowd);
        wait_until(atomic_load(crowd.inside) == 40 * round, 5);
        CHECK_INT(pp_semaphore_acquire(crowd.semaphore, 0), -ETIMEDOUT);
        for (int i = 0; i < 40; i++)
            kit_kill(children[i]);
        CHECK_INT(pp_semaphore_value(crowd.semaphore), 40);
    }
    pp_semaphore_unref(crowd.semaphore);
}

static int acquire_for_long(void *semaphore)
{
    return pp_semaphore_acquire(semaphore, kit_wait);
}

TEST(a_signal_interrupts_the_wait_unless_handlers_restart)
{
    pp_semaphore *semaphore = make_semaphore(1);
    CHECK_OK(pp_semaphore_acquire(semaphore, 0));
    CHECK_INT(kit_interrupted(acquire_for_long, semaphore, 0), -EINTR);
    CHECK_INT(kit_interrupted(acquire_for_long, semaphore, SA_RESTART), -ETIMEDOUT);
    pp_semaphore_unref(semaphore);
}

static int open_semaphore(int fd)
{
    pp_semaphore *semaphore;
    int error = pp_semaphore_open(fd, &semaphore);
    if (!error)
        pp_semaphore_unref(semaphore);
    return error;
}

TEST(a_semaphore_goes_by_its_descriptor_and_nothing_else_is_taken_for_one)
{
    int descriptors = kit_open_descriptors(), mappings = kit_memfd_mappings();
    pp_semaphore *semaphore = make_semaphore(5), *again;
    CHECK_OK(pp_semaphore_open(pp_semaphore_fd(semaphore), &again));
    CHECK_OK(pp_semaphore_acquire(again, 0));
    CHECK_INT(pp_semaphore_value(semaphore), 4);
    CHECK_OK(pp_semaphore_release(semaphore));
    kit_check_refusals(open_semaphore, pp_semaphore_fd(semaphore));
    CHECK(pp_semaphore_ref(semaphore) == semaphore);
    pp_semaphore_unref(semaphore);
    pp_semaphore_unref(semaphore);
    pp_semaphore_unref(again);
    CHECK_INT(kit_open_descriptors(), descriptors);
    CHECK_INT(kit_memfd_mappings(), mappings);
}

TEST(a_semaphore_of_more_units_than_its_memory_has_records_for_is_refused)
{
    unsigned char bytes[4096];
    const uint32_t units = 65536, none = 0;
    pp_semaphore *large = make_semaphore(65536), *small = make_semaphore(3);
    CHECK_INT(pread(pp_semaphore_fd(large), bytes, sizeof bytes, 0), sizeof bytes);
    unsigned char *at = memmem(bytes + 24, 1000, &units, sizeof units);
    CHECK(at != NULL);
    int forged = kit_forged(pp_semaphore_fd(small), (size_t)(at - bytes), &units, sizeof units);
    CHECK_INT(open_semaphore(forged), -EINVAL);
    CHECK_HAS(pp_last_error(), "does not fit");
    close(forged);
    forged = kit_forged(pp_semaphore_fd(small), (size_t)(at - bytes), &none, sizeof none);
    CHECK_INT(open_semaphore(forged), -EINVAL);
    close(forged);
    pp_semaphore_unref(large);
    pp_semaphore_unref(small);
}

TEST(arguments_that_cannot_be_are_refused)
{
    pp_semaphore *semaphore;
    CHECK_INT(pp_semaphore_create(0, &semaphore), -EINVAL);
    CHECK_INT(pp_semaphore_create(-1, &semaphore), -EINVAL);
    CHECK_INT(pp_semaphore_create(65537, &semaphore), -EINVAL);
    CHECK_INT(pp_semaphore_create(1, NULL), -EINVAL);
    CHECK_INT(pp_semaphore_open(-1, NULL), -EINVAL);
    CHECK_INT(pp_semaphore_fd(NULL), -EINVAL);
    CHECK(pp_semaphore_ref(NULL) == NULL);
    pp_semaphore_unref(NULL);
    CHECK_INT(pp_semaphore_acquire(NULL, 0), -EINVAL);
    CHECK_INT(pp_semaphore_release(NULL), -EINVAL);
    CHECK_INT(pp_semaphore_value(NULL), -EINVAL);
}
