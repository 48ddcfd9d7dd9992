/* SPDX-License-Identifier: MIT */
#include "process/records.h"

#include "base/fd.h"
#include "base/seam.h"
#include "process/launcher.h"
#include "process/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define RECORDS_MAX 4096

static struct pp__link connections;
static struct pp__link forsaken; /* records of children whose connection is gone */

void pp__records_init(void)
{
    pp__list_init(&connections);
    pp__list_init(&forsaken);
}

struct pp__child_record *pp__record_find(struct pp__connection *connection, uint64_t serial)
{
    for (struct pp__link *l = connection->records.next; l != &connection->records; l = l->next) {
        struct pp__child_record *record = pp__container(l, struct pp__child_record, link);
        if (record->serial == serial)
            return record;
    }
    return NULL;
}

static struct pp__child_record *find_pid_in(struct pp__link *list, pid_t pid)
{
    for (struct pp__link *l = list->next; l != list; l = l->next) {
        struct pp__child_record *record = pp__container(l, struct pp__child_record, link);
        if (record->pid == pid)
            return record;
    }
    return NULL;
}

struct pp__child_record *pp__record_find_pid(pid_t pid)
{
    for (struct pp__link *l = connections.next; l != &connections; l = l->next) {
        struct pp__child_record *record = find_pid_in(&pp__container(l, struct pp__connection, link)->records, pid);
        if (record)
            return record;
    }
    return find_pid_in(&forsaken, pid);
}

static bool some_in(struct pp__link *list, bool (*is_so)(pid_t pid))
{
    for (struct pp__link *l = list->next; l != list; l = l->next) {
        struct pp__child_record *record = pp__container(l, struct pp__child_record, link);
        if (record->pid > 0 && is_so(record->pid))
            return true;
    }
    return false;
}

bool pp__records_some(bool (*is_so)(pid_t pid))
{
    for (struct pp__link *l = connections.next; l != &connections; l = l->next)
        if (some_in(&pp__container(l, struct pp__connection, link)->records, is_so))
            return true;
    return some_in(&forsaken, is_so);
}

static void drop_pidfd(struct pp__child_record *record)
{
    if (record->pidfd >= 0)
        pp__fd_close(record->pidfd);
    record->pidfd = -EBADF;
}

void pp__record_free(struct pp__child_record *record)
{
    if (record->connection)
        record->connection->count--;
    pp__list_remove(&record->link);
    pp__spawn_free(record->spawned);
    drop_pidfd(record);
    free(record);
}

/* Nothing more can come of it. */
bool pp__record_is_done(const struct pp__child_record *record)
{
    return record->pid == 0 && (!record->spawned || pp__spawn_is_over(record->spawned));
}

/* The child is not reaped yet, so both numbers are its own. It may have left its group. */
void pp__record_kill(struct pp__child_record *record)
{
    if (record->spawned)
        pp__spawn_kill(record->spawned);
    if (record->pid <= 0)
        return;
    record->killed = true;
    PP_SYS(kill)(-record->pid, SIGKILL);
    PP_SYS(kill)(record->pid, SIGKILL);
}

/* One that has not begun yet goes, too: nobody was told that it would. */
static void kill_if_it_ends_with_us(struct pp__child_record *record)
{
    bool begun = record->spawned ? pp__spawn_has_joined(record->spawned) : record->pid > 0;
    if (!record->outlives || !begun)
        pp__record_kill(record);
}

static void kill_all_in(struct pp__link *list)
{
    for (struct pp__link *l = list->next; l != list; l = l->next)
        kill_if_it_ends_with_us(pp__container(l, struct pp__child_record, link));
}

void pp__records_kill_all(void)
{
    for (struct pp__link *l = connections.next; l != &connections; l = l->next)
        kill_all_in(&pp__container(l, struct pp__connection, link)->records);
    kill_all_in(&forsaken);
}

void pp__connections_visit(void (*visit)(struct pp__connection *connection))
{
    for (struct pp__link *l = connections.next; l != &connections; l = l->next)
        visit(pp__container(l, struct pp__connection, link));
}

/* -------------------------------------------------------------------------------------------------- reports */

static int send_report(struct pp__connection *connection, const struct pp__child_record *record, uint32_t type)
{
    struct pp__report report = {.type = type, .serial = record->serial};
    bool with_pidfd = type == PP__REPORT_STARTED && record->pidfd >= 0;
    if (type == PP__REPORT_FAILED)
        report.error = record->error;
    else
        report.pid = record->told_pid;
    if (type == PP__REPORT_STARTED && record->watched && !with_pidfd)
        report.error = -record->pidfd;
    if (type == PP__REPORT_ENDED) {
        report.code = record->code;
        report.status = record->status;
        report.error = record->error;
    }
    if (type == PP__REPORT_INVITED)
        pp__spawn_invitation(record->spawned, report.invitation);
    return pp__fd_send(connection->source.fd, &report, sizeof report, &record->pidfd, with_pidfd);
}

/* Pays what is owed for one child, in order. 0, or the error of the one that could not be sent. */
static int pay(struct pp__connection *connection, struct pp__child_record *record)
{
    static const struct {
        unsigned owed;
        uint32_t type;
    } debts[] = {{PP__OWES_FAILED, PP__REPORT_FAILED},
                 {PP__OWES_INVITED, PP__REPORT_INVITED},
                 {PP__OWES_STARTED, PP__REPORT_STARTED},
                 {PP__OWES_ENDED, PP__REPORT_ENDED}};
    for (size_t i = 0; i < sizeof debts / sizeof *debts; i++) {
        if (!(record->owes & debts[i].owed))
            continue;
        int error = send_report(connection, record, debts[i].type);
        if (error)
            return error;
        record->owes &= ~debts[i].owed;
        if (debts[i].owed == PP__OWES_STARTED)
            drop_pidfd(record);
    }
    return 0;
}

static void wait_for_room(struct pp__connection *connection, bool wait)
{
    if (connection->waits_for_room == wait)
        return;
    connection->waits_for_room = wait;
    pp__zygote_watch(&connection->source, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP | (wait ? (uint32_t)EPOLLOUT : 0));
}

/* A peer that is gone shows as a hangup, so other errors than "full" are left to that. */
void pp__connection_pay(struct pp__connection *connection)
{
    for (struct pp__link *l = connection->records.next, *next; l != &connection->records; l = next) {
        struct pp__child_record *record = pp__container(l, struct pp__child_record, link);
        next = l->next;
        if (pay(connection, record) != 0) {
            wait_for_room(connection, true);
            return;
        }
        if (pp__record_is_done(record))
            pp__record_free(record);
    }
    wait_for_room(connection, false);
}

/* While the socket is full, order is kept by sending nothing but from pp__connection_pay. */
void pp__record_owe(struct pp__child_record *record, unsigned what)
{
    record->owes |= what;
    if (record->connection && !record->connection->waits_for_room)
        pp__connection_pay(record->connection);
}

/* ----------------------------------------------------------------------------------------------- connections */

struct pp__connection *pp__connection_create(int fd, void (*ready)(struct pp__source *, uint32_t))
{
    struct pp__connection *connection = PP_SYS(calloc)(1, sizeof *connection);
    if (!connection)
        return NULL;
    connection->source = (struct pp__source){.ready = ready, .fd = fd};
    pp__list_init(&connection->records);
    pp__list_insert(&connections, &connection->link);
    return connection;
}

void pp__connection_drop(struct pp__connection *connection)
{
    while (!pp__list_empty(&connection->records)) {
        struct pp__child_record *record = pp__container(connection->records.next, struct pp__child_record, link);
        kill_if_it_ends_with_us(record);
        pp__list_remove(&record->link);
        record->connection = NULL;
        if (record->pid != 0) {
            pp__list_insert(&forsaken, &record->link);
            continue;
        }
        pp__list_init(&record->link);
        pp__record_free(record);
    }
    pp__zygote_watch(&connection->source, EPOLL_CTL_DEL, 0);
    pp__fd_close(connection->source.fd);
    pp__list_remove(&connection->link);
    free(connection);
}

/* A record that can't be had can't wait: its failure is told now or costs the connection. */
struct pp__child_record *pp__record_create(struct pp__connection *connection, uint64_t serial)
{
    struct pp__child_record *record = connection->count < RECORDS_MAX ? PP_SYS(calloc)(1, sizeof *record) : NULL;
    if (record) {
        *record = (struct pp__child_record){.connection = connection, .serial = serial, .pidfd = -EBADF};
        pp__list_insert(&connection->records, &record->link);
        connection->count++;
        return record;
    }
    struct pp__child_record failed = {.serial = serial, .error = ENOMEM, .pidfd = -EBADF};
    if (connection->waits_for_room || send_report(connection, &failed, PP__REPORT_FAILED) != 0)
        pp__connection_drop(connection);
    return NULL;
}
