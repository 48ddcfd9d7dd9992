/* SPDX-License-Identifier: MIT */
/* Workers whose tasks ruin what captures their output, or that lie about it. */
#include "output_kit.h"

enum attack { SHRINK, GROW, CLOSE_STREAM, CLOSE_FILE, REPLACE_FILE, SEAL, ATTACKS };

/* The library's own descriptor of the file that 1 leads to now. */
static int library_file(void)
{
    struct stat status, other;
    CHECK_INT(fstat(STDOUT_FILENO, &status), 0);
    for (int fd = 3; fd < 1024; fd++)
        if (fstat(fd, &other) == 0 && other.st_ino == status.st_ino && other.st_dev == status.st_dev)
            return fd;
    return -1;
}

static void attack(enum attack attack)
{
    int file = library_file();
    CHECK(file >= 0);
    switch (attack) {
    case SHRINK:
        CHECK_INT(ftruncate(STDOUT_FILENO, 3), 0);
        break;
    case GROW:
        CHECK_INT(ftruncate(STDOUT_FILENO, (off_t)1 << 40), 0);
        break;
    case CLOSE_STREAM:
        close(STDOUT_FILENO);
        break;
    case CLOSE_FILE:
        close(file);
        break;
    case REPLACE_FILE:
        CHECK_INT(dup2(BOARD_FD, file), file);
        break;
    case SEAL:
        fcntl(file, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_WRITE);
        break;
    case ATTACKS:
        break;
    }
}

/* The attack, then the death if the argument asks for it. */
static int attack_and_end(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    int what = read_int(arg);
    printf("attack\n");
    attack((enum attack)(what / 2));
    if (what % 2 == 1)
        raise(SIGKILL);
    return 0;
}

/* The board, which has taken a file's place, is as large as it was, and no other call's output is lost in another
 * worker. */
BOTH_WITHIN(a_worker_that_ruins_its_files_costs_at_most_its_own_output, 30)
{
    for (int what = 0; what < 2 * ATTACKS; what++) {
        struct stat status;
        pp_output output;
        pp_pool *pool = open_capturing(method, (pp_pool_options){.max_workers = 2});
        pp_future *gate = submit_int(pool, task_gate, what % 16);
        pp_future *future = submit_int(pool, attack_and_end, what);
        CHECK_OK(pp_future_output(future, -1, PP_STDOUT, &output));
        CHECK(output.size <= (1u << 20));
        expect_end(future, what % 2 ? -EOWNERDEAD : 0);
        for (int i = 0; i < 3; i++) {
            pp_future *next = submit_script(pool, RETURN, i);
            CHECK_OK(pp_future_output(next, -1, PP_STDOUT, &output));
            CHECK(output.size <= 6 || what / 2 == GROW);
            expect_end(next, 0);
        }
        gate_open(what % 16);
        check_and_drop(gate, "", "");
        CHECK_INT(fstat(BOARD_FD, &status), 0);
        CHECK_INT(status.st_size, BOARD_WORDS * sizeof(board_word));
        pp_pool_destroy(pool);
        shared()->gates[what % 16] = 0;
    }
}

BOTH(a_call_that_dies_in_a_worker_that_lost_its_files_has_no_other_calls_output)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){.capture = PP_STDOUT});
    pp_future *future = submit_int(pool, attack_and_end, 2 * CLOSE_FILE);
    expect_end(future, 0);
    future = submit_script(pool, CRASH, 1);
    CHECK_STR(output_of(future, PP_STDOUT).data, "");
    drop_failed(future, PP_ERROR_CRASH);
    pp_pool_destroy(pool);
}

/* A lie about where the output of this call lies; then the death. */
static int lie_of_begin(pp_task *task, const void *arg, size_t size)
{
    uint64_t begin;
    (void)task;
    CHECK_INT(size, sizeof begin);
    memcpy(&begin, arg, sizeof begin);
    printf("begin\n");
    atomic_store(&result_side()->output[0], begin);
    raise(SIGKILL);
    return 0;
}

BOTH(a_lie_about_where_output_begins_shows_less_of_it_at_most)
{
    static const uint64_t begins[] = {0, 3, 6, 7, UINT64_MAX, UINT64_MAX / 2, UINT64_MAX - 5};
    pp_pool *pool = open_capturing(method, (pp_pool_options){0});
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        pp_future *future = submit(pool, lie_of_begin, &begins[i], sizeof begins[i]);
        error_of(future, PP_ERROR_CRASH);
        check_and_drop(future, begins[i] < 6 ? &"begin\n"[begins[i]] : "", "");
    }
    pp_pool_destroy(pool);
}

/* As many forged records of where output lies as the argument says; then the death. */
static int lie_of_output(pp_task *task, const void *arg, size_t size)
{
    (void)size;
    int count = read_int(arg);
    printf("forged\n");
    const struct pp__output_record told = {
        .slot = slot_of(pp_task_id(task)), .end = {UINT64_MAX, UINT64_MAX}, .dropped = {1, 2}};
    for (int i = 0; i < count; i++)
        forge_record(PP__RECORD_OUTPUT, pp_task_id(task), &told, sizeof told);
    raise(SIGKILL);
    return 0;
}

BOTH(a_worker_that_tells_output_twice_or_unasked_has_written_garbage)
{
    pp_pool *pool = open_capturing(method, (pp_pool_options){.capture_limit = 4});
    pp_future *future = submit_int(pool, lie_of_output, 1);
    error_of(future, PP_ERROR_CRASH);
    check_and_drop(future, "forg", "");
    future = submit_int(pool, lie_of_output, 2);
    error_of(future, PP_ERROR_PROTOCOL);
    check_and_drop(future, "forg", "");
    pp_pool_destroy(pool);
    pool = open_workers(1, method);
    drop_failed(submit_int(pool, lie_of_output, 1), PP_ERROR_PROTOCOL);
    CHECK_INT(take_int(submit_int(pool, task_square, 7)), 49);
    pp_pool_destroy(pool);
}
