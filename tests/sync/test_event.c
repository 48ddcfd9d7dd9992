/* SPDX-License-Identifier: MIT */
/* Events: one sets them, all who wait go on. */
#include "sync_kit.h"

static pp_event *make_event(void)
{
    pp_event *event;
    CHECK_OK(pp_event_create(&event));
    return event;
}

TEST(an_event_is_set_and_cleared)
{
    pp_event *event = make_event();
    CHECK_INT(pp_event_is_set(event), 0);
    CHECK_INT(pp_event_wait(event, 0), -ETIMEDOUT);
    CHECK_HAS(pp_last_error(), "not been set");
    CHECK_OK(pp_event_set(event));
    CHECK_OK(pp_event_set(event));
    CHECK_INT(pp_event_is_set(event), 1);
    CHECK_OK(pp_event_wait(event, 0));
    CHECK_OK(pp_event_wait(event, -1));
    CHECK_OK(pp_event_clear(event));
    CHECK_INT(pp_event_is_set(event), 0);
    CHECK_INT(pp_event_wait(event, 70), -ETIMEDOUT);
    pp_event_unref(event);
}

struct crowd {
    pp_event *event;
    _Atomic int *waiting;
    _Atomic int *words; /* 0: what the setter wrote before */
};

static void wait_in_crowd(void *argument)
{
    struct crowd *crowd = argument;
    atomic_fetch_add(crowd->waiting, 1);
    CHECK_OK(pp_event_wait(crowd->event, -1));
    CHECK_INT(atomic_load_explicit(crowd->words, memory_order_relaxed), 7);
}

static struct crowd make_crowd(pid_t *children, int count)
{
    static struct crowd crowd;
    _Atomic int *words = kit_shared(2 * sizeof(int));
    crowd = (struct crowd){.event = make_event(), .waiting = words, .words = words + 1};
    for (int i = 0; i < count; i++)
        children[i] = kit_fork(wait_in_crowd, &crowd);
    wait_until(atomic_load(crowd.waiting) == count, 5);
    for (int i = 0; i < count; i++)
        wait_until(test_process_state(children[i], NULL, NULL) == 'S', 5);
    return crowd;
}

TEST(all_processes_that_wait_go_on_and_see_what_was_written_before)
{
    pid_t children[8];
    struct crowd crowd = make_crowd(children, 8);
    atomic_store_explicit(crowd.words, 7, memory_order_relaxed);
    CHECK_OK(pp_event_set(crowd.event));
    for (int i = 0; i < 8; i++)
        kit_end_well(children[i]);
    pp_event_unref(crowd.event);
}

TEST(who_waits_sees_a_setting_that_was_cleared_at_once)
{
    pid_t children[4];
    struct crowd crowd = make_crowd(children, 4);
    atomic_store_explicit(crowd.words, 7, memory_order_relaxed);
    CHECK_OK(pp_event_set(crowd.event));
    CHECK_OK(pp_event_clear(crowd.event));
    for (int i = 0; i < 4; i++)
        kit_end_well(children[i]);
    CHECK_INT(pp_event_wait(crowd.event, 0), -ETIMEDOUT);
    pp_event_unref(crowd.event);
}

TEST(waiters_that_are_killed_or_stopped_leave_the_event_to_others)
{
    pid_t children[4];
    struct crowd crowd = make_crowd(children, 4);
    kit_kill(children[0]);
    kit_stop(children[1]);
    atomic_store_explicit(crowd.words, 7, memory_order_relaxed);
    CHECK_OK(pp_event_set(crowd.event));
    kit_end_well(children[2]);
    kit_end_well(children[3]);
    CHECK_INT(kill(children[1], SIGCONT), 0);
    kit_end_well(children[1]);
    pp_event_unref(crowd.event);
}

static int wait_for_long(void *event)
{
    return pp_event_wait(event, kit_wait);
}

TEST(a_signal_interrupts_the_wait_unless_handlers_restart)
{
    pp_event *event = make_event();
    CHECK_INT(kit_interrupted(wait_for_long, event, 0), -EINTR);
    CHECK_INT(kit_interrupted(wait_for_long, event, SA_RESTART), -ETIMEDOUT);
    pp_event_unref(event);
}

static int open_event(int fd)
{
    pp_event *event;
    int error = pp_event_open(fd, &event);
    if (!error)
        pp_event_unref(event);
    return error;
}

TEST(an_event_goes_by_its_descriptor_and_nothing_else_is_taken_for_one)
{
    int descriptors = kit_open_descriptors(), mappings = kit_memfd_mappings();
    pp_event *event = make_event(), *again;
    CHECK_OK(pp_event_open(pp_event_fd(event), &again));
    CHECK_OK(pp_event_set(again));
    CHECK_INT(pp_event_is_set(event), 1);
    kit_check_refusals(open_event, pp_event_fd(event));
    CHECK(pp_event_ref(event) == event);
    pp_event_unref(event);
    pp_event_unref(event);
    pp_event_unref(again);
    CHECK_INT(kit_open_descriptors(), descriptors);
    CHECK_INT(kit_memfd_mappings(), mappings);
}

TEST(arguments_that_cannot_be_are_refused)
{
    CHECK_INT(pp_event_create(NULL), -EINVAL);
    CHECK_INT(pp_event_open(-1, NULL), -EINVAL);
    CHECK_INT(pp_event_fd(NULL), -EINVAL);
    CHECK(pp_event_ref(NULL) == NULL);
    pp_event_unref(NULL);
    CHECK_INT(pp_event_set(NULL), -EINVAL);
    CHECK_INT(pp_event_clear(NULL), -EINVAL);
    CHECK_INT(pp_event_is_set(NULL), -EINVAL);
    CHECK_INT(pp_event_wait(NULL, 0), -EINVAL);
}
