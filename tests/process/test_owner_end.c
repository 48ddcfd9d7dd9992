/* SPDX-License-Identifier: MIT */
/* No orphan, ever: however the owner ends, its zygotes and all of their children are gone at once. */
#include "kit.h"

enum { ZYGOTE, CHILD, GRANDCHILD, PIDS };

static void body_with_child(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)size, (void)shared;
    uint64_t nothing;
    enum { BUSY, STOPPED, SLEEPING } how = *(const unsigned char *)data;
    pp__signals_block(&nothing);
    int pids[PIDS] = {getppid(), getpid(), fork()};
    if (pids[GRANDCHILD] != 0)
        kit_say(fds[0], pids, sizeof pids);
    if (how == SLEEPING)
        kit_sleep_for_ever();
    if (how == STOPPED)
        raise(SIGSTOP);
    for (volatile unsigned i = 0;; i++) {
    }
}

/* An owner: a process of its own, which makes `launchers` launchers, each with a child of each kind, and tells all
 * pids. */
struct owner {
    pid_t pid;
    int talk;
    int pids[2][3][PIDS];
};

static void run_owner(pp_start_method method, int launchers, int talk)
{
    struct owner told = {0};
    for (int l = 0; l < launchers; l++) {
        int connection = (int)CHECK_OK(pp__launcher_connect(kit_launcher(method)));
        for (int k = 0; k < 3; k++) {
            int child;
            unsigned char how = (unsigned char)k;
            kit_talker(connection, (uint64_t)k, body_with_child, &how, 1, &child);
            char room[sizeof told.pids[0][0] + 1];
            CHECK_INT(kit_hear(child, room, sizeof room), sizeof told.pids[0][0]);
            memcpy(told.pids[l][k], room, sizeof told.pids[0][0]);
        }
    }
    kit_say(talk, told.pids, sizeof told.pids);
    recv(talk, &(char){0}, 1, 0);
}

static struct owner make_owner(pp_start_method method, int launchers)
{
    struct owner owner;
    int pair[2];
    char room[sizeof owner.pids + 1];
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    owner.pid = fork();
    if (owner.pid == 0) {
        close(pair[0]);
        run_owner(method, launchers, pair[1]);
        exit(0);
    }
    close(pair[1]);
    owner.talk = pair[0];
    CHECK_INT(kit_hear(owner.talk, room, sizeof room), sizeof owner.pids);
    memcpy(owner.pids, room, sizeof owner.pids);
    return owner;
}

static void check_all_gone(const struct owner *owner)
{
    int status;
    CHECK_INT(waitpid(owner->pid, &status, 0), owner->pid);
    for (int i = 0; i < 2 * 3 * PIDS; i++) {
        int pid = owner->pids[i / (3 * PIDS)][i / PIDS % 3][i % PIDS];
        if (pid != 0)
            wait_until(!test_process_alive(pid), 1);
    }
    close(owner->talk);
}

TEST_BOTH(all_are_gone_when_the_owner_is_killed)
{
    struct owner owner = make_owner(method, 1);
    CHECK(test_process_alive(owner.pids[0][0][ZYGOTE]));
    CHECK(test_process_alive(owner.pids[0][2][GRANDCHILD]));
    kill(owner.pid, SIGKILL);
    check_all_gone(&owner);
}

TEST_BOTH(all_are_gone_when_the_owner_exits)
{
    struct owner owner = make_owner(method, 1);
    kit_say(owner.talk, "", 1);
    check_all_gone(&owner);
}

TEST_BOTH(all_are_gone_with_two_launchers)
{
    struct owner owner = make_owner(method, 2);
    CHECK(owner.pids[0][0][ZYGOTE] != owner.pids[1][0][ZYGOTE]);
    kill(owner.pid, SIGKILL);
    check_all_gone(&owner);
}

TEST_BOTH(zygote_and_children_are_gone_when_owner_and_zygote_are_killed_together)
{
    struct owner owner = make_owner(method, 1);
    kill(owner.pids[0][0][ZYGOTE], SIGSTOP);
    kill(owner.pid, SIGKILL);
    kill(owner.pids[0][0][ZYGOTE], SIGKILL);
    for (int k = 0; k < 3; k++) {
        /* Their own children, which nobody is left to kill: the test's to clear away. */
        kill(owner.pids[0][k][GRANDCHILD], SIGKILL);
        owner.pids[0][k][GRANDCHILD] = 0;
    }
    check_all_gone(&owner);
}

static void run_forking_owner(pp_start_method method, int talk, bool by_exec)
{
    pp_launcher *launcher = kit_launcher(method);
    int connection = (int)CHECK_OK(pp__launcher_connect(launcher)), child;
    int told[3];
    told[1] = kit_talker(connection, 1, kit_body_say_and_sleep, "", 0, &child);
    pid_t parent = 0;
    test_process_state(told[1], &parent, NULL);
    told[0] = parent;
    told[2] = fork();
    if (told[2] == 0)
        kit_sleep_for_ever(); /* holds copies of everything */
    kit_say(talk, told, sizeof told);
    if (by_exec) {
        char wait;
        recv(talk, &wait, 1, 0);
        execlp("sleep", "sleep", "1000", NULL);
    }
    kit_sleep_for_ever();
}

static void check_forking_owner(pp_start_method method, bool by_exec)
{
    int pair[2], told[3];
    char room[sizeof told + 1];
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(pair[0]);
        run_forking_owner(method, pair[1], by_exec);
    }
    CHECK_INT(kit_hear(pair[0], room, sizeof room), sizeof told);
    memcpy(told, room, sizeof told);
    if (by_exec) {
        kill(told[2], SIGKILL); /* its copies would keep the end of file back */
        kit_say(pair[0], "", 1);
    } else {
        kill(pid, SIGKILL);
    }
    wait_until(!test_process_alive(told[0]) && !test_process_alive(told[1]), 1);
    CHECK(by_exec || test_process_alive(told[2]));
    kill(told[2], SIGKILL);
    kill(pid, SIGKILL);
    CHECK_INT(waitpid(pid, NULL, 0), pid);
}

TEST_BOTH(all_are_gone_although_a_fork_of_the_owner_lives_on_with_copies_of_the_sockets)
{
    check_forking_owner(method, false);
}

TEST_BOTH(all_are_gone_when_the_owner_becomes_another_program)
{
    check_forking_owner(method, true);
}

TEST_BOTH(an_owner_killed_at_once_leaves_nothing)
{
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            kit_launcher(method);
            kit_sleep_for_ever();
        }
        test_sleep_ms((unsigned)i % 5);
        kill(pid, SIGKILL);
        CHECK_INT(waitpid(pid, NULL, 0), pid);
    }
    wait_until(count_descendants_named(getppid(), "pp-") == 0, 2);
}
