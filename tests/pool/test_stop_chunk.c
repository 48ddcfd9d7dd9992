/* SPDX-License-Identifier: MIT */
/* needs: seams */
/* A chunk is stopped wherever its worker is: between two elements, or ahead of the results that were taken in. */
#include "call_kit.h"

#include "base/seam.h"
#include "pool/pool.h"
#include "pool/take_back.h"

enum { FIRST_GATE = 1, GATE, ARRIVED, PID, RUNS };

/* Counts itself; elements 0 and 3 wait at gates. */
static int element(pp_task *task, const void *arg, size_t size)
{
    uint32_t number;
    memcpy(&number, arg, sizeof number);
    atomic_store(word(PID), (uint32_t)getpid());
    add(RUNS + number);
    if (number == 0)
        wait_at(FIRST_GATE);
    if (number == 3) {
        add(ARRIVED);
        wait_at(GATE);
    }
    return pp_task_return(task, arg, size);
}

static const uint32_t numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};

static pp_map *open_chunk(pp_pool *pool)
{
    pp_map *map;
    CHECK_OK(pp_map_open_array(pool, element, numbers, 8, sizeof *numbers, &(pp_map_options){.chunk_size = 8}, &map));
    return map;
}

static void expect_runs(uint32_t count)
{
    for (uint32_t i = 0; i < 8; i++)
        CHECK_INT(read_word(RUNS + i), i < count);
}

TEST(a_chunk_whose_worker_is_between_two_elements_runs_no_further_when_its_map_is_closed)
{
    board_make();
    pp__fault_arm("worker.begin.before", 3, PP__FAULT_STOP);
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    pp_map *map = open_chunk(pool);
    pp_map_result result;
    open_gate(FIRST_GATE);
    CHECK_INT(pp_map_next(map, -1, &result), 1);
    CHECK_INT(pp_map_next(map, -1, &result), 1);
    until(pp__fault_hits() == 3);
    pp_map_close(map);
    kill((pid_t)read_word(PID), SIGCONT);
    pp_pool_destroy(pool);
    expect_runs(2);
}

TEST(a_chunk_whose_worker_is_ahead_of_the_results_runs_no_further_when_it_is_stopped)
{
    board_make();
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    expect_usable(pool);
    pp_map *map = open_chunk(pool);
    pp_map_result result;
    CHECK_INT(pp_map_next(map, 0, &result), -ETIMEDOUT);
    pp__pool_lock(pool); /* so that nobody takes results in */
    struct pp__worker *worker = pool->workers[0];
    CHECK_INT(worker->count, 1);
    open_gate(FIRST_GATE);
    until(read_word(ARRIVED) == 1);
    pp__worker_stop_chunks(worker);
    CHECK_INT(pp__container(worker->items.next, struct pp__item, link)->x.end, 4);
    pp__pool_unlock(pool);
    pp_map_close(map);
    open_gate(GATE);
    pp_pool_destroy(pool);
    expect_runs(4);
}
