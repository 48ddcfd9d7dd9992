/* SPDX-License-Identifier: MIT */
/* Words that no launcher says: the zygote gives up the connection that they came on, and nothing else. */
#include "kit.h"
#include "process/wire.h"

/* A zygote by hand: its control socket is the test's to write to. */
static int raw_zygote(pid_t *pid)
{
    int pair[2];
    CHECK_OK(pp__fd_socketpair(pair));
    *pid = fork();
    if (*pid == 0) {
        struct pp__zygote_setup setup = {
            .control = pair[1], .owner = -1, .owner_pid = getppid(), .shared_images = true};
        pp__signals_block(&(uint64_t){0});
        pp__zygote_become(&setup);
        pp__zygote_run(&setup);
    }
    pp__fd_close(pair[1]);
    struct pp__wire_ready ready;
    CHECK_INT(pp__fd_receive(pair[0], &ready, sizeof ready, (int[]){0}, &(size_t){1}, 0), sizeof ready);
    CHECK_INT(ready.error, 0);
    CHECK_INT(ready.done, 1);
    CHECK_INT(ready.pid, *pid);
    return pair[0];
}

static int raw_connect(int control)
{
    int pair[2];
    CHECK_OK(pp__fd_socketpair(pair));
    CHECK_OK(pp__fd_send(control, &(struct pp__wire_connect){.type = PP__WIRE_CONNECT}, sizeof(struct pp__wire_connect),
                         &pair[1], 1));
    pp__fd_close(pair[1]);
    return pair[0];
}

static void check_works(int connection, uint64_t serial)
{
    kit_start(connection, serial, kit_body_sleep);
    kit_started(connection, serial);
    CHECK_OK(pp__launcher_kill(connection, serial));
    kit_ended(connection, serial, CLD_KILLED, SIGKILL);
}

static void end_zygote(int control, pid_t pid)
{
    int status;
    pp__fd_close(control);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

struct hostile {
    const char *what;
    const void *message;
    size_t size, fds;
};

static void check_costs_the_connection(const struct hostile *hostile)
{
    pid_t zygote;
    int control = raw_zygote(&zygote), good = raw_connect(control), bad = raw_connect(control);
    kit_start(bad, 1, kit_body_sleep);
    pid_t child = kit_started(bad, 1);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC), fds[8] = {null, null, null, null, null, null, null, null};
    CHECK_OK(pp__fd_send(bad, hostile->message, hostile->size, fds, hostile->fds));
    kit_gone(bad);
    wait_until(!test_process_alive(child), 2);
    check_works(good, 1);
    CHECK(test_process_alive(zygote));
    pp__fd_close(good);
    pp__fd_close(bad);
    close(null);
    end_zygote(control, zygote);
}

TEST_WITHIN(a_message_that_no_launcher_sends_costs_the_connection_alone, 60)
{
    static char zeros[4000];
    static const struct pp__wire_start sound = {.type = PP__WIRE_START, .plan = {.serial = 2, .name = "pp-child"}};
    static struct pp__wire_start long_data, long_name, same_serial;
    static const struct pp__wire_kill kill_with_fd = {.type = PP__WIRE_KILL, .serial = 1};
    static const struct pp__wire_kill unknown = {.type = 77, .serial = 1}, hello = {.type = PP__WIRE_HELLO};
    long_data = long_name = same_serial = sound;
    long_data.plan.size = PP__PLAN_MAX + 1;
    memset(long_name.plan.name, 'x', sizeof long_name.plan.name);
    same_serial.plan.serial = 1;
    const struct hostile all[] = {{"one byte", "\1", 1, 0},
                                  {"zeros", zeros, sizeof(struct pp__wire_kill), 0},
                                  {"far too long", zeros, sizeof zeros, 0},
                                  {"too long with descriptors", zeros, sizeof zeros, 3},
                                  {"an unknown type", &unknown, sizeof unknown, 0},
                                  {"a hello", &hello, sizeof hello, 0},
                                  {"a short start", &sound, sizeof sound - 1, 0},
                                  {"a start of the size of a kill", &sound, sizeof kill_with_fd, 0},
                                  {"more descriptors than a plan has", &sound, sizeof sound, PP__PLAN_FDS + 1},
                                  {"a kill with a descriptor", &kill_with_fd, sizeof kill_with_fd, 1},
                                  {"data longer than its room", &long_data, sizeof long_data, 0},
                                  {"a name without end", &long_name, sizeof long_name, 0},
                                  {"a serial that is in use", &same_serial, sizeof same_serial, 0}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        fprintf(stderr, "%s\n", all[i].what);
        check_costs_the_connection(&all[i]);
    }
}

TEST(nonsense_on_the_control_socket_is_ignored)
{
    pid_t zygote;
    int control = raw_zygote(&zygote), connection = raw_connect(control), ends[2], null = open("/dev/null", O_RDWR);
    struct pp__wire_connect connect = {.type = PP__WIRE_CONNECT}, unknown = {.type = 9};
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    CHECK_OK(pp__fd_send(control, "x", 1, NULL, 0));
    CHECK_OK(pp__fd_send(control, &connect, sizeof connect, NULL, 0));
    CHECK_OK(pp__fd_send(control, &connect, sizeof connect, &null, 1));
    CHECK_OK(pp__fd_send(control, &connect, sizeof connect, &ends[1], 1));
    CHECK_OK(pp__fd_send(control, &connect, sizeof connect, ends, 2));
    CHECK_OK(pp__fd_send(control, &unknown, sizeof unknown, ends, 2));
    CHECK_OK(pp__fd_send(control, &(char[3000]){0}, 3000, ends, 2));
    close(ends[1]);
    check_works(connection, 1);
    CHECK_INT(read(ends[0], &(char){0}, 1), 0); /* it kept none of the descriptors */
    pp__fd_close(connection);
    end_zygote(control, zygote);
}

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/* Looks like an end of file, but brings a descriptor. */
TEST(a_message_of_no_bytes_with_a_descriptor_leaves_none_behind)
{
    pid_t zygote;
    int control = raw_zygote(&zygote), bad = raw_connect(control), ends[2];
    CHECK_INT(pipe2(ends, O_CLOEXEC), 0);
    CHECK_OK(pp__fd_send(bad, "", 0, &ends[1], 1));
    close(ends[1]);
    kit_gone(bad);
    CHECK_INT(read(ends[0], &(char){0}, 1), 0);
    pp__fd_close(bad);
    end_zygote(control, zygote);
}

/* Random words, most of them damaged sound ones; starts are kept out by an odd size or a bad name. */
TEST_WITHIN(random_words_never_hurt_the_zygote, 60)
{
    pid_t zygote;
    int control = raw_zygote(&zygote), good = raw_connect(control), bad = raw_connect(control);
    for (int i = 0; i < 3000; i++) {
        union {
            struct pp__wire_start start;
            struct pp__wire_kill kill;
            uint64_t words[sizeof(struct pp__wire_start) / 8 + 1];
        } message;
        for (size_t w = 0; w < sizeof message.words / 8; w++)
            message.words[w] = next_random();
        size_t size = next_random() % (sizeof message + 1);
        if (next_random() % 2) {
            message.kill.type = (uint32_t)(next_random() % 6);
            size = next_random() % 2 ? sizeof message.kill : sizeof message.start;
        }
        memset(message.start.plan.name, 'n', sizeof message.start.plan.name);
        int error = pp__fd_send(bad, &message, size, &control, next_random() % 2);
        if (error == -EPIPE) {
            pp__fd_close(bad);
            bad = raw_connect(control);
        }
    }
    check_works(good, 1);
    pp__fd_close(good);
    pp__fd_close(bad);
    end_zygote(control, zygote);
}

TEST(an_owner_that_floods_a_connection_with_starts_loses_it)
{
    pid_t zygote;
    int control = raw_zygote(&zygote), good = raw_connect(control), bad = raw_connect(control);
    struct pp__wire_start start = {.type = PP__WIRE_START,
                                   .plan = {.stack_size = UINT64_C(1) << 62, .name = "pp-child"}};
    int error = 0;
    for (uint64_t i = 0; i < 100000 && error != -EPIPE; i++) {
        start.plan.serial = i;
        error = pp__fd_send(bad, &start, sizeof start, NULL, 0);
        if (error == -EAGAIN)
            test_sleep_ms(1);
    }
    CHECK_INT(error, -EPIPE);
    check_works(good, 1);
    pp__fd_close(good);
    pp__fd_close(bad);
    end_zygote(control, zygote);
}

/* ------------------------------------------------------------------------------------------ without pidfds */

static void body_pids(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)data, (void)size, (void)shared;
    int pids[2] = {getppid(), getpid()};
    kit_say(fds[0], pids, sizeof pids);
    kit_sleep_for_ever();
}

/* raw_zygote has none of its owner's: it looks every 100 ms, since copies of the socket keep the end of file back. */
TEST(without_a_pidfd_the_owners_end_shows_within_a_look)
{
    int told[3], pair[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    pid_t owner = fork();
    if (owner == 0) {
        pid_t zygote;
        int talk, connection = raw_connect(raw_zygote(&zygote));
        pid_t holder = fork();
        if (holder == 0)
            kit_sleep_for_ever();
        kit_talker(connection, 1, body_pids, "", 0, &talk);
        CHECK_INT(kit_hear(talk, told, sizeof told), 8);
        told[2] = holder;
        kit_say(pair[1], told, sizeof told);
        kit_sleep_for_ever();
    }
    char room[sizeof told + 1];
    CHECK_INT(kit_hear(pair[0], room, sizeof room), sizeof told);
    memcpy(told, room, sizeof told);
    kill(owner, SIGKILL);
    CHECK_INT(waitpid(owner, NULL, 0), owner);
    wait_until(!test_process_alive(told[0]) && !test_process_alive(told[1]), 1);
    CHECK(test_process_alive(told[2]));
    kill(told[2], SIGKILL);
}
