/* SPDX-License-Identifier: MIT */
#include "process/toll.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/seam.h"
#include "base/stat.h"
#include "process/loop.h"
#include "process/memory.h"
#include "process/records.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* So long a kill may take to be seen as a death; one of a child that is ending, longer. */
#define DYING_MS 1000

static struct {
    pid_t zygote;
    char counter[PP__COUNTER_PATH_MAX]; /* the file in which the kernel counts; "": not looked for yet */
    int file;                           /* that, open; -1: it is opened when it is read next */
    uint64_t seen;                      /* the count when there were news; version 2 tells of more than kills */
    uint64_t told;                      /* the count up to which each kill is known to be somebody's */
    uint64_t machine;                   /* on the whole machine, when the counter was looked for */
    struct pp__source news;             /* ready when something may have been counted */
    uint64_t settle_at;                 /* when what was counted is nobody's here; 0: there are no news */
} toll;

void pp__toll_init(void)
{
    memset(&toll, 0, sizeof toll);
    toll.zygote = getpid();
    toll.file = -1;
    toll.news.fd = -1;
}

/* Of version 1 an eventfd tells of news, of version 2 the file. */
static bool are_notices(void)
{
    return pp__memory_forgets_zombies(toll.counter);
}

static uint64_t count_kills(void)
{
    if (toll.file < 0)
        toll.file = pp__fd_adopt(PP_SYS(open)(toll.counter, O_RDONLY | O_CLOEXEC), "a counter of kills");
    return pp__memory_kills_in(toll.file);
}

/* What it says is read elsewhere. False: there would be news all the time, as of a group that is gone. */
static bool clear_events(int fd)
{
    char text[256];
    return PP_SYS(pread)(fd, text, sizeof text, 0) >= 0;
}

static void go_deaf(void)
{
    if (toll.news.fd >= 0)
        pp__zygote_watch(&toll.news, EPOLL_CTL_DEL, 0);
    pp__fd_close(toll.news.fd);
    toll.news.fd = -1;
}

static void take_news(struct pp__source *news, uint32_t events)
{
    (void)events;
    if (are_notices())
        pp__fd_clear(news->fd);
    else if (!clear_events(news->fd))
        go_deaf();
    uint64_t count = count_kills();
    if (count == toll.seen && !are_notices())
        return;
    toll.seen = count; /* notices come before the kill: so the last one has that time, too */
    toll.settle_at = pp__deadline(DYING_MS);
}

/* Version 2: the file itself tells of changes, to who has read it. */
static int open_events(void)
{
    int fd = pp__fd_adopt(PP_SYS(open)(toll.counter, O_RDONLY | O_CLOEXEC), "a control group's events");
    if (fd < 0 || clear_events(fd))
        return fd;
    pp__fd_close(fd);
    return -1;
}

/* Version 1: an eventfd, made known with the file that is meant. */
static int open_notices(void)
{
    char path[PP__COUNTER_PATH_MAX + 32], order[32];
    int fd = pp__fd_event();
    if (fd < 0)
        return fd;
    snprintf(path, sizeof path, "%.*s/cgroup.event_control", (int)(strrchr(toll.counter, '/') - toll.counter),
             toll.counter);
    int counter = PP_SYS(open)(toll.counter, O_RDONLY | O_CLOEXEC);
    int control = PP_SYS(open)(path, O_WRONLY | O_CLOEXEC);
    int size = snprintf(order, sizeof order, "%d %d", fd, counter);
    bool done = counter >= 0 && control >= 0 && PP_SYS(write)(control, order, (size_t)size) == size;
    if (counter >= 0)
        close(counter);
    if (control >= 0)
        close(control);
    if (done)
        return fd;
    pp__fd_close(fd);
    return -1;
}

/* Where nothing tells of a kill, all that have been counted since a child was made may explain its death. */
static void listen_to_kernel(void)
{
    if (strcmp(toll.counter, PP__COUNTER_OF_MACHINE) == 0)
        return;
    toll.news = (struct pp__source){.ready = take_news, .fd = are_notices() ? open_notices() : open_events()};
    if (toll.news.fd >= 0 && pp__zygote_watch(&toll.news, EPOLL_CTL_ADD, are_notices() ? EPOLLIN : EPOLLPRI))
        return;
    go_deaf();
}

uint64_t pp__toll_count(void)
{
    if (!toll.counter[0]) {
        pp__memory_counter(toll.zygote, toll.counter);
        toll.machine = pp__memory_kills(PP__COUNTER_OF_MACHINE);
        toll.seen = count_kills();
        listen_to_kernel();
    }
    return count_kills();
}

/*
 * Of a child that is in another group by now it is not known what was counted there before: some kill there and some
 * kill on the machine have to do. (Of a zombie's group of version 1 the kernel says nothing: then it is taken to be
 * this one.)
 */
bool pp__toll_explains(pid_t child, uint64_t before)
{
    char counter[PP__COUNTER_PATH_MAX];
    if (before < toll.told)
        before = toll.told;
    if (!are_notices()) {
        pp__memory_counter(child, counter);
        if (strcmp(counter, toll.counter) != 0)
            return pp__memory_kills(counter) > 0 && pp__memory_kills(PP__COUNTER_OF_MACHINE) > toll.machine;
    }
    if (count_kills() <= before)
        return false; /* what was counted before this child may be the end of one that is older and still dying */
    toll.told = before + 1;
    return true;
}

bool pp__toll_is_open(void)
{
    return toll.file >= 0;
}

void pp__toll_close(void)
{
    pp__fd_close(toll.file);
    toll.file = -1;
}

int pp__toll_patience(void)
{
    return toll.settle_at == 0 ? -1 : pp__to_milliseconds(pp__until(toll.settle_at));
}

static bool is_ending(pid_t child)
{
    struct pp__stat line;
    return pp__stat_read(child, &line) && line.ending;
}

void pp__toll_settle(void)
{
    if (toll.settle_at == 0 || pp__until(toll.settle_at) > 0)
        return;
    if (pp__records_some(is_ending)) {
        toll.settle_at = pp__deadline(DYING_MS);
        return;
    }
    uint64_t count = count_kills();
    toll.told = count > toll.told ? count : toll.told;
    toll.settle_at = 0;
}
