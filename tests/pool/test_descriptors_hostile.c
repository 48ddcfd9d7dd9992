/* SPDX-License-Identifier: MIT */
/* Descriptors that travel where there are none to be had, where a worker lies about them, or where a task has closed
 * the way. */
#include "channel_kit.h"
#include "descriptors_kit.h"

#include <sys/socket.h>

/* --------------------------------------------------------------------------------------- no more numbers */

static int taken[1024];

static int take_all_but(int left)
{
    int count = 0;
    while (count < 1024 && (taken[count] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)) >= 0)
        count++;
    while (left-- > 0)
        close(taken[--count]);
    return count;
}

/* Without one. */
static int count_open(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void give_all_back(int count)
{
    close_files(taken, count);
}

EACH(an_owner_without_descriptors_submits_none)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind has descriptors of its own");
    int fds[10];
    pp_future *future = NULL;
    make_files(fds, 10, 0);
    pp_pool *pool = open_workers(1, method);
    expect_usable(pool);
    limit_files(300);
    for (int left = 0; left < 10; left++) {
        int count = take_all_but(left), before = count_open();
        pp_call call = {.function = task_check, .descriptors = fds, .descriptor_count = 10};
        CHECK_INT(pp_submit_call(pool, &call, &future), -EMFILE);
        CHECK_HAS(pp_last_error(), "RLIMIT_NOFILE");
        CHECK_INT(count_open(), before);
        give_all_back(count);
    }
    CHECK_INT(take_int(submit_fds(pool, task_check, fds, 10)), 10);
    close_files(fds, 10);
    pp_pool_destroy(pool);
}

/* It waits at a gate, so that the owner can get poor. */
static int task_make_at_gate(pp_task *task, const void *arg, size_t size)
{
    gate_wait(3);
    return task_make(task, arg, size);
}

BOTH(an_owner_without_descriptors_fails_the_calls_that_bring_some_alone)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind has descriptors of its own");
    pp_pool *pool = open_workers(1, method);
    expect_usable(pool);
    limit_files(300);
    for (int left = 2; left < 8; left++) {
        shared()->gates[3] = shared()->arrived[3] = 0;
        pp_future *future = submit_int(pool, task_make_at_gate, 10);
        gate_wait_arrived(3, 1);
        int count = take_all_but(left);
        gate_open(3);
        const pp_error *error = error_of(future, PP_ERROR_TRAVEL);
        give_all_back(count);
        CHECK_INT(error->task_code, -EMFILE);
        CHECK_HAS(error->message, "RLIMIT_NOFILE");
        pp_future_unref(future);
        expect_usable(pool);
    }
    pp_future *future = submit_int(pool, task_make_at_gate, 10);
    CHECK_INT(pp_future_fd_count(future, -1), 10);
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* The worker keeps all but as many as the argument says, for the next call. */
static int task_take_all_but(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)size;
    limit_files(300);
    shared()->words[7] = take_all_but(read_int(arg));
    return 0;
}

static int task_give_all_back(pp_task *task, const void *arg, size_t size)
{
    (void)task, (void)arg, (void)size;
    give_all_back((int)shared()->words[7]);
    return 0;
}

BOTH(a_worker_without_descriptors_fails_the_calls_that_have_some_alone)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind has descriptors of its own");
    static char data[20 * KIB];
    int fds[10];
    make_files(fds, 10, 0);
    pp_pool *pool = open_workers(1, method);
    for (int left = 0; left < 10; left++) {
        expect_end(submit_int(pool, task_take_all_but, left), 0);
        pp_future *future = submit_with(pool, (pp_call){.function = task_check,
                                                        .arg = data,
                                                        .size = left % 2 ? sizeof data : 0,
                                                        .descriptors = fds,
                                                        .descriptor_count = 10});
        CHECK_INT(error_of(future, PP_ERROR_TRAVEL)->task_code, -EMFILE);
        CHECK_HAS(error_of(future, PP_ERROR_TRAVEL)->message, "descriptors can't be received");
        CHECK_HAS(error_of(future, PP_ERROR_TRAVEL)->message, "RLIMIT_NOFILE");
        pp_future_unref(future);
        expect_usable(pool);
        expect_end(submit(pool, task_give_all_back, NULL, 0), 0);
    }
    CHECK_INT(take_int(submit_fds(pool, task_check, fds, 10)), 10);
    close_files(fds, 10);
    pp_pool_destroy(pool);
}

static int task_return_without_numbers(pp_task *task, const void *arg, size_t size)
{
    (void)arg, (void)size;
    limit_files(300);
    int count = take_all_but(0), code = pp_task_return_fd(task, pp_task_fd(task, 0));
    give_all_back(count);
    return code;
}

BOTH(a_task_without_descriptors_gives_none_back)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("valgrind has descriptors of its own");
    int fd = make_file(0);
    pp_pool *pool = open_workers(1, method);
    pp_future *future = submit_fds(pool, task_return_without_numbers, &fd, 1);
    CHECK_INT(error_of(future, PP_ERROR_TRAVEL)->task_code, -EMFILE);
    CHECK_HAS(error_of(future, PP_ERROR_TRAVEL)->message, "RLIMIT_NOFILE");
    pp_future_unref(future);
    CHECK_INT(take_int(submit_fds(pool, task_check, &fd, 1)), 1);
    close(fd);
    pp_pool_destroy(pool);
}

/* -------------------------------------------------------------------------------------------- hostile ones */

struct lie {
    int announced, sent, messages;
    uint64_t wrong; /* added to the id */
    size_t size;    /* of the message */
};

static int channel_socket(void)
{
    for (int fd = 200; fd < 1000; fd++) {
        int type;
        socklen_t size = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0)
            return fd;
    }
    CHECK(false);
    return -1;
}

static void send_junk(const struct lie *lie, uint64_t id)
{
    struct pp__attachment message[2] = {{.id = id + lie->wrong}};
    char room[CMSG_SPACE(253 * sizeof(int))] = "";
    struct iovec vector = {.iov_base = message, .iov_len = lie->size};
    struct msghdr header = {.msg_iov = &vector, .msg_iovlen = 1};
    if (lie->sent > 0) {
        header.msg_control = room;
        header.msg_controllen = CMSG_SPACE((size_t)lie->sent * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)lie->sent * sizeof(int));
        for (int i = 0; i < lie->sent; i++)
            memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &(int){STDERR_FILENO}, sizeof(int));
    }
    CHECK(sendmsg(channel_socket(), &header, 0) >= 0);
}

/* Publishes a result that announces descriptors, and waits for what comes of it. */
static int task_lie(pp_task *task, const void *arg, size_t size)
{
    struct lie lie;
    uint64_t id = pp_task_id(task);
    CHECK_INT(size, sizeof lie);
    memcpy(&lie, arg, size);
    for (int i = 0; i < lie.messages; i++)
        send_junk(&lie, id);
    const struct pp__result_record result = {
        .slot = slot_of(id), .type = PP__OUTCOME_RESULT, .flags = (uint32_t)lie.announced << PP__COUNT_SHIFT};
    forge_result(id, &result, NULL, 0);
    pause_for_ever();
}

BOTH_WITHIN(a_worker_that_lies_about_descriptors_fails_its_call_alone_and_leaves_nothing, 30)
{
    const size_t right = sizeof(struct pp__attachment);
    const struct lie lies[] = {
        {1, 0, 0, 0, right},     {5, 4, 1, 0, right},     {5, 6, 1, 0, right},     {1, 253, 1, 0, right},
        {1, 1, 1, 1, right},     {1, 1, 1, 0, 1},         {1, 1, 1, 0, right + 8}, {5, 0, 1, 0, right},
        {252, 253, 3, 0, right}, {253, 253, 1, 0, right}, {65535, 1, 1, 0, right}, {252, 0, 0, 0, right},
    };
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_NEVER, .close_fds = 1}, method);
    expect_usable(pool);
    struct watched pipe = watch();
    int before = count_fds();
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        pp_future *future = submit(pool, task_lie, &lies[i], sizeof lies[i]);
        pp_future *behind = submit_fds(pool, nothing, &pipe.writing, 1);
        drop_failed(future, PP_ERROR_PROTOCOL);
        expect_end(behind, 0);
        CHECK_INT(count_fds(), before);
    }
    give_away(&pipe);
    unwatch(&pipe);
    pp_pool_destroy(pool);
}

/* More than it says: what is behind is not taken for anything else, and goes with its worker. */
BOTH(a_worker_that_sends_more_messages_than_it_announces_is_found_out)
{
    const struct lie lie = {2, 2, 2, 0, sizeof(struct pp__attachment)};
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .standby = PP_STANDBY_NEVER, .close_fds = 1}, method);
    expect_usable(pool);
    int before = count_fds();
    pp_future *future = submit(pool, task_lie, &lie, sizeof lie); /* has two, and goes on */
    CHECK_INT(pp_future_fd_count(future, -1), 2);
    pp_future_unref(future);
    CHECK_INT(count_fds(), before);
    pp_pool_destroy(pool);
}

/* An element, whose slot says that it runs. */
BOTH(a_worker_that_announces_descriptors_for_an_element_is_found_out)
{
    const struct lie lie = {1, 1, 1, 0, sizeof(struct pp__attachment)};
    struct lie in[3] = {lie, lie, lie};
    pp_map_result result;
    pp_map *map;
    pp_pool *pool = open_pool((pp_pool_options){.max_workers = 1, .close_fds = 1}, method);
    for (size_t chunk = 1; chunk <= 3; chunk += 2) {
        CHECK_OK(pp_map_open_array(pool, task_lie, in, 3, sizeof lie, &(pp_map_options){.chunk_size = chunk}, &map));
        for (int i = 0; i < 3; i++) {
            CHECK_INT(pp_map_next(map, -1, &result), 1);
            CHECK_INT(result.code, -EPROTO);
        }
        pp_map_close(map);
    }
    expect_usable(pool);
    pp_pool_destroy(pool);
}

/* ------------------------------------------------------------------------------- the library's, closed by a task */

enum returned { SMALL, LARGE, FD_BACK };

static int task_return(pp_task *task, const void *arg, size_t size)
{
    static char large[1 << 17];
    (void)size;
    if (read_int(arg) == FD_BACK)
        CHECK_INT(pp_task_return_fd(task, STDERR_FILENO), 0);
    return pp_task_return(task, large, read_int(arg) == LARGE ? sizeof large : 1);
}

static int task_close_all_and_return(pp_task *task, const void *arg, size_t size)
{
    close_range(3, ~0u, 0);
    return task_return(task, arg, size);
}

/* Not the bell: its worker goes on. Nor its end of the connection, so that the owner does not see it before what it
 * sends next. */
static int task_close_socket(pp_task *task, const void *arg, size_t size)
{
    int socket = channel_socket();
    (void)task, (void)arg, (void)size;
    CHECK(dup(socket) >= 0);
    close(socket);
    return 0;
}

BOTH(behind_a_task_that_closed_the_socket_calls_that_bring_something_fare_well)
{
    static const char large[1 << 17];
    int fd = make_file(0);
    pp_pool *pool = open_workers(1, method);
    pp_call call = {.function = task_check, .descriptors = &fd, .descriptor_count = 1};
    for (int i = 0; i < 5; i++) {
        expect_end(submit(pool, task_close_socket, NULL, 0), 0);
        CHECK_INT(take_int(submit_with(pool, call)), 1);
        expect_end(submit(pool, task_close_socket, NULL, 0), 0);
        expect_end(submit(pool, nothing, large, sizeof large), 0);
    }
    close(fd);
    pp_pool_destroy(pool);
}

static void expect_unsent(pp_future *future)
{
    CHECK_INT(error_of(future, PP_ERROR_TRAVEL)->task_code, -EBADF);
    pp_future_unref(future);
}

/* It has begun, and is not run again; what is behind it has another worker. */
BOTH(a_result_for_which_a_task_has_closed_the_way_fails_alone_with_kind_travel)
{
    pp_pool *pool = open_workers(1, method);
    for (int what = LARGE; what <= FD_BACK; what++) {
        expect_unsent(submit_int(pool, task_close_all_and_return, what));
        expect_end(submit(pool, task_close_socket, NULL, 0), 0);
        expect_unsent(submit_int(pool, task_return, what));
        expect_end(submit_int(pool, task_return, what), 0);
    }
    pp_pool_destroy(pool);
}
