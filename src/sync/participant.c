/* SPDX-License-Identifier: MIT */
#include "sync/participant.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/seam.h"
#include "base/stat.h"
#include "sync/bell.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------- processes */

/* 1: a process with that number is there and has not ended; 0: it is not so; -1: it can't be told in this way. */
static int number_lives(uint32_t pid)
{
    int fd = (int)PP_SYS(syscall)(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return errno == ESRCH || errno == EINVAL ? 0 : -1; /* EINVAL: the number is that of a thread by now */
    int ended = pp__fd_look(&(struct pollfd){.fd = fd, .events = POLLIN}, 1);
    close(fd);
    return ended > 0 ? 0 : ended == 0 ? 1 : -1;
}

/* Whether its main thread has ended, or is about to: it has no memory to read from. The address is nobody's. */
static bool has_no_memory(uint32_t pid)
{
    char byte;
    const struct iovec here = {&byte, 1}, there = {NULL, 1};
    return PP_SYS(process_vm_readv)((pid_t)pid, &here, 1, &there, 1, 0) < 0 && errno == ESRCH;
}

/* For who has no descriptor to spare: whether it has ended and was not waited for. Its directory of threads has a link
 * for each, and two of its own. */
static bool is_zombie(uint32_t pid)
{
    char path[32];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%u/task", pid);
    return has_no_memory(pid) && PP_SYS(stat)(path, &status) == 0 && status.st_nlink == 3;
}

bool pp__participant_lives(uint32_t pid, uint64_t start, uint64_t image)
{
    struct pp__stat line;
    int lives = number_lives(pid);
    if (lives == 0 || (lives < 0 && PP_SYS(kill)((pid_t)pid, 0) != 0 && errno == ESRCH))
        return false;
    if (!pp__stat_read((pid_t)pid, &line))
        return lives > 0 || !is_zombie(pid);
    if ((start != 0 && line.start != start) || (image != 0 && line.image != 0 && line.image != image))
        return false;
    return lives > 0 || !pp__stat_has_ended(&line);
}

/* What is known of the calling process. In a page that a fork finds zero, so that a child does not take its parent's
 * for its own. */
struct self {
    _Atomic uint64_t start, image; /* one more than that; 0: not known yet. Written before `known` */
    _Atomic uint32_t known;
    _Atomic uint64_t generation; /* 0: not drawn yet */
};

/* A process as records name it. */
struct name {
    uint32_t pid;
    uint64_t start, image;
};

static _Atomic(struct self *) page;

static struct self *make_page(void)
{
    struct self *have = NULL;
    struct self *made = PP_SYS(mmap)(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return NULL;
    /* Release for the page, which the kernel has zeroed; acquire for that of another thread. It pairs with the load in
     * find_self, and with itself. */
    if (PP_SYS(madvise)(made, sizeof *made, MADV_WIPEONFORK) == 0 &&
        atomic_compare_exchange_strong_explicit(&page, &have, made, memory_order_acq_rel, memory_order_acquire))
        return made;
    munmap(made, sizeof *made); /* another thread was first, or there is none */
    return have;
}

static struct self *find_page(void)
{
    struct self *self = pp__load_acquire(&page); /* pairs with the exchange in make_page, of another thread */
    return self ? self : make_page();
}

/* What the first thread says stands, also that it could not find it out: all records name this process alike, or what
 * one of them says that it has could not be given back. */
static uint64_t settle(_Atomic uint64_t *word, uint64_t value)
{
    uint64_t stands = 0;
    bool first =
        atomic_compare_exchange_strong_explicit(word, &stands, value + 1, memory_order_relaxed, memory_order_relaxed);
    return first ? value : stands - 1;
}

/* The calling process. What else than its number is needed is read once; without memory for that, each time. */
static struct name find_self(void)
{
    struct self *self = find_page();
    struct pp__stat line;
    uint32_t pid = (uint32_t)getpid();
    if (self && pp__load_acquire(&self->known)) /* pairs with the store below */
        return (struct name){pid, pp__load_relaxed(&self->start) - 1, pp__load_relaxed(&self->image) - 1};
    if (!pp__stat_read((pid_t)pid, &line))
        line.start = line.image = 0;
    if (self) {
        line.start = settle(&self->start, line.start);
        line.image = settle(&self->image, line.image);
        pp__store_release(&self->known, 1); /* behind the two; pairs with the load above, of another thread */
    }
    return (struct name){pid, line.start, line.image};
}

/*
 * One more than the last one that was drawn before the fork. A child in whose memory a generation stands has found that
 * drawn, too, if it was stored there with release.
 */
uint64_t pp__participant_generation(void)
{
    static _Atomic uint64_t last;
    struct self *self = find_page();
    uint64_t drawn, none = 0;
    if (!self)
        return 0;
    drawn = pp__load_acquire(&self->generation); /* pairs with the exchange below, of another thread */
    if (drawn)
        return drawn;
    drawn = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
    /* Behind the drawing; pairs with the load above, and with itself. */
    bool first = atomic_compare_exchange_strong_explicit(&self->generation, &none, drawn, memory_order_acq_rel,
                                                         memory_order_acquire);
    return first ? drawn : none;
}

/* --------------------------------------------------------------------------------------------- records */

static uint32_t used(const struct pp__holders *holders, uint32_t capacity)
{
    uint32_t count = pp__load_relaxed(&holders->used);
    return count < capacity ? count : capacity;
}

/*
 * Words that are written and read inside the gate only, whose mutex orders them between the living: loads are relaxed.
 * Who dies inside has done its stores up to some instruction; releases keep them in the program's order, so that a
 * record's store that counts is behind what it counts. Each pairs with the entering of the next one, which is told of
 * the death.
 */
static uint32_t units(const struct pp__holder *record)
{
    return pp__load_relaxed(&record->units);
}

static struct pp__holder *find(struct pp__holders *holders, uint32_t capacity, const struct name *name)
{
    for (uint32_t i = 0; i < used(holders, capacity); i++) {
        struct pp__holder *record = &holders->records[i];
        if (units(record) > 0 && record->pid == name->pid && record->start == name->start &&
            record->image == name->image)
            return record;
    }
    return NULL;
}

static struct pp__holder *find_free(struct pp__holders *holders, uint32_t capacity)
{
    uint32_t count = used(holders, capacity);
    for (uint32_t i = 0; i < count; i++)
        if (units(&holders->records[i]) == 0)
            return &holders->records[i];
    if (count == capacity)
        return NULL;
    /* Pairs with the next entering; the record has no units yet, so it may die behind it. */
    pp__store_release(&holders->used, count + 1);
    return &holders->records[count];
}

bool pp__holders_add(struct pp__holders *holders, uint32_t capacity)
{
    struct name self = find_self();
    struct pp__holder *record = find(holders, capacity, &self);
    if (!record) {
        record = find_free(holders, capacity);
        if (!record)
            return false;
        record->pid = self.pid;
        record->start = self.start;
        record->image = self.image;
        PP_FAULT("sync.holder.named");
    }
    pp__store_release(&record->units, units(record) + 1); /* the store that counts; pairs with the next entering */
    return true;
}

bool pp__holders_remove(struct pp__holders *holders, uint32_t capacity)
{
    struct name self = find_self();
    struct pp__holder *record = find(holders, capacity, &self);
    if (!record)
        return false;
    pp__store_release(&record->units, units(record) - 1); /* the store that counts; pairs with the next entering */
    return true;
}

uint64_t pp__holders_sum(const struct pp__holders *holders, uint32_t capacity)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < used(holders, capacity); i++)
        sum += units(&holders->records[i]);
    return sum;
}

bool pp__holders_sweep(struct pp__holders *holders, uint32_t capacity)
{
    bool found = false;
    for (uint32_t i = 0; i < used(holders, capacity); i++) {
        struct pp__holder *record = &holders->records[i];
        if (units(record) == 0 || pp__participant_lives(record->pid, record->start, record->image))
            continue;
        pp__store_release(&record->units, 0); /* the store that counts; pairs with the next entering */
        found = true;
    }
    return found;
}

bool pp__holders_sweep_at_times(struct pp__holders *holders, uint32_t capacity, bool *looked)
{
    uint64_t now = pp__now();
    if (*looked && now - holders->swept < PP__SLEEP_BOUND)
        return false;
    *looked = true;
    holders->swept = now;
    return pp__holders_sweep(holders, capacity);
}
