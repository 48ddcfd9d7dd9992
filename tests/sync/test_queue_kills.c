/* SPDX-License-Identifier: MIT */
/* needs: seams. A process is killed, or stopped, at each fault point of a queue's functions; nothing but its own
 * message is lost, and nobody hangs. */
#include "kill_kit.h"
#include "queue_kit.h"

static void put_one(void *queue)
{
    kit_put(queue, 99);
}

static void get_one(void *queue)
{
    kit_get(queue);
}

static void get_one_done(void *queue)
{
    kit_get(queue);
    CHECK_OK(pp_queue_task_done(queue));
}

/* Steps of a put, in their order, and whether the message is in the queue when the process dies there. */
static const struct step {
    const char *place;
    bool done;
} put_steps[] =
    {
        {"queue.put.inside", false}, {"queue.put.half", false}, {"queue.put.copied", false},
        {"queue.put.before", false}, {"queue.put.after", true}, {"sync.gate.leave", true},
        {"sync.released", true},     {"queue.put.done", true},
},
  get_steps[] = {
      {"queue.get.inside", false}, {"queue.get.copied", false}, {"queue.get.before", false}, {"queue.get.after", true},
      {"sync.gate.leave", true},   {"sync.released", true},     {"queue.get.done", true},
};

#define STEPS(steps) (sizeof(steps) / sizeof(steps)[0])

/* The queue is as if nothing had ever died: it takes what fits, and gives it back. */
static void check_that_it_works(pp_queue *queue)
{
    CHECK_INT(pp_queue_get(queue, 0, NULL, 0, NULL), -ETIMEDOUT);
    for (int i = 0; i < 4; i++)
        kit_put(queue, i);
    CHECK_INT(pp_queue_put(queue, NULL, 0, 0), -ETIMEDOUT);
    for (int i = 0; i < 4; i++)
        CHECK_INT(kit_get(queue), i);
    CHECK_INT(pp_queue_empty(queue), 1);
}

TEST(a_producer_killed_at_any_step_has_put_its_message_whole_or_not_at_all)
{
    pp_queue *queue = kit_queue(4, 18); /* so that messages lie across the ring's end, too */
    for (size_t i = 0; i < STEPS(put_steps); i++)
        for (int before = 0; before < 4; before++) {
            for (int m = 0; m < before; m++)
                kit_put(queue, m);
            CHECK(killed_at(put_steps[i].place, 1, put_one, queue));
            for (int m = 0; m < before; m++)
                CHECK_INT(kit_get(queue), m);
            if (put_steps[i].done)
                CHECK_INT(kit_get(queue), 99);
            check_that_it_works(queue);
        }
    pp_queue_unref(queue);
}

TEST(a_consumer_killed_at_any_step_has_taken_its_message_or_left_it)
{
    pp_queue *queue = kit_queue(4, 18);
    for (size_t i = 0; i < STEPS(get_steps); i++)
        for (int count = 1; count <= 4; count++) {
            for (int m = 0; m < count; m++)
                kit_put(queue, m);
            CHECK(killed_at(get_steps[i].place, 1, get_one, queue));
            for (int m = get_steps[i].done; m < count; m++)
                CHECK_INT(kit_get(queue), m);
            check_that_it_works(queue);
        }
    pp_queue_unref(queue);
}

TEST(a_consumer_of_a_joinable_queue_killed_at_any_step_keeps_no_join)
{
    static const char *const more[] = {"sync.holder.named", "queue.done.removed"};
    pp_queue *queue = kit_joinable(4);
    for (size_t i = 0; i < STEPS(get_steps) + 2; i++) {
        const char *place = i < STEPS(get_steps) ? get_steps[i].place : more[i - STEPS(get_steps)];
        kit_put(queue, 1);
        CHECK(killed_at(place, 1, get_one_done, queue));
        if (pp_queue_size(queue) > 0) {
            CHECK_INT(pp_queue_join(queue, 0), -ETIMEDOUT);
            CHECK_INT(kit_get(queue), 1);
            CHECK_OK(pp_queue_task_done(queue));
        }
        CHECK_OK(pp_queue_join(queue, KIT_ENOUGH));
        CHECK_INT(pp_queue_task_done(queue), -EPERM);
    }
    pp_queue_unref(queue);
}

/* ----------------------------------------------------------------------------------- while others wait */

/* Of those that wait in `run`, and of what does `act` then, the first to come to `place` is killed, if any; they are
 * children[0] to [3]. The last has ended. */
static void begin_crowd(const char *place, pp_queue *queue, void (*run)(void *), void (*act)(void *), pid_t children[4])
{
    int status;
    pp__fault_arm(place, 1, PP__FAULT_KILL);
    for (int i = 0; i < 3; i++)
        children[i] = kit_fork(run, queue);
    test_sleep_ms(10);
    children[3] = kit_fork(act, queue);
    CHECK_INT(waitpid(children[3], &status, 0), children[3]);
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    pp__fault_disarm();
}

/* Those that waited have gone on, but one at most, that was killed. */
static void end_crowd(pid_t children[3])
{
    int killed = 0;
    for (int i = 0; i < 3; i++) {
        int status;
        CHECK_INT(waitpid(children[i], &status, 0), children[i]);
        CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        killed += WIFSIGNALED(status);
    }
    CHECK(killed <= 1);
}

static const char *const anywhere[] = {
    "sync.sleep",       "sync.woken",       "sync.gate.ring",   "sync.gate.leave", "sync.released",  "sync.ring",
    "queue.put.inside", "queue.put.copied", "queue.put.before", "queue.put.after", "queue.put.done", "queue.get.inside",
    "queue.get.copied", "queue.get.before", "queue.get.after",  "queue.get.done",
};

static void put_four(void *queue)
{
    for (int i = 0; i < 4; i++) /* one for a consumer that dies with it */
        kit_put(queue, i);
}

TEST(consumers_that_wait_go_on_whoever_of_all_is_killed_wherever)
{
    for (size_t i = 0; i < STEPS(anywhere); i++) {
        pp_queue *queue = kit_queue(8, 0);
        pid_t children[4];
        begin_crowd(anywhere[i], queue, get_one, put_four, children);
        put_four(queue); /* in place of one that was killed */
        end_crowd(children);
        pp_queue_unref(queue);
    }
}

static void get_three(void *queue)
{
    for (int i = 0; i < 3; i++) /* so many there are though a producer dies */
        kit_get(queue);
}

static void get_for_ever(void *queue)
{
    while (pp_queue_get(queue, -1, &(int){0}, sizeof(int), NULL) == 0) {
    }
}

TEST(producers_that_wait_go_on_whoever_of_all_is_killed_wherever)
{
    for (size_t i = 0; i < STEPS(anywhere); i++) {
        pp_queue *queue = kit_queue(1, 0);
        pid_t children[4];
        kit_put(queue, 0);
        begin_crowd(anywhere[i], queue, put_one, get_three, children);
        pid_t consumer = kit_fork(get_for_ever, queue); /* in place of one that was killed */
        end_crowd(children);
        kit_kill(consumer);
        pp_queue_unref(queue);
    }
}

static void close_it(void *queue)
{
    CHECK_OK(pp_queue_close(queue));
}

static void get_the_end(void *queue)
{
    CHECK_INT(pp_queue_get(queue, KIT_ENOUGH, NULL, 0, NULL), -EPIPE);
}

TEST(who_dies_while_it_closes_a_queue_has_closed_it_for_all_who_wait)
{
    const char *const places[] = {"sync.gate.ring", "sync.gate.leave"};
    for (int i = 0; i < 2; i++) {
        pid_t children[4];
        pp_queue *queue = kit_queue(1, 0);
        begin_crowd(places[i], queue, get_the_end, close_it, children);
        end_crowd(children);
        CHECK_INT(pp_queue_put(queue, NULL, 0, -1), -EPIPE);
        pp_queue_unref(queue);
    }
}

/* --------------------------------------------------------------------------------------------- stopped */

TEST(a_participant_that_is_stopped_inside_keeps_others_no_longer_than_they_wait)
{
    pp_queue *queue = kit_queue(4, 0);
    kit_put(queue, 1);
    pp__fault_arm("queue.put.copied", 1, PP__FAULT_STOP);
    pid_t child = kit_fork(put_one, queue);
    wait_until(test_process_state(child, NULL, NULL) == 'T', 5);
    pp__fault_disarm();
    CHECK_INT(pp_queue_get(queue, 0, &(int){0}, sizeof(int), NULL), -ETIMEDOUT);
    CHECK_INT(pp_queue_size(queue), 1);
    CHECK_INT(kill(child, SIGCONT), 0);
    CHECK_INT(kit_get(queue), 1);
    CHECK_INT(kit_get(queue), 99);
    kit_end_well(child);
    pp_queue_unref(queue);
}

TEST(a_queue_is_closed_though_a_participant_is_stopped_inside)
{
    pp_queue *queue = kit_queue(4, 0);
    pp__fault_arm("queue.put.copied", 1, PP__FAULT_STOP);
    pid_t child = kit_fork(put_one, queue);
    wait_until(test_process_state(child, NULL, NULL) == 'T', 5);
    pp__fault_disarm();
    CHECK_OK(pp_queue_close(queue));
    kit_kill(child);
    CHECK_INT(pp_queue_get(queue, -1, NULL, 0, NULL), -EPIPE);
    pp_queue_unref(queue);
}
