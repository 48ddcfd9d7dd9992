/* SPDX-License-Identifier: MIT */
#include "process/owner.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/seam.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

/* Written once, before the page is published; a fork finds it zero. */
struct owner_page {
    _Atomic uint32_t process; /* its pid */
};

/* Set once by the first pp__owner_enter, cleared by pp__owner_reset in a process that has one thread. */
static _Atomic(struct owner_page *) page;

static enum pp__kin kin; /* written by a process's first thread alone, before others are there */

static struct owner_page *make_page(void)
{
    struct owner_page *made =
        PP_SYS(mmap)(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED) {
        pp__fail_errno(errno, "a page of memory");
        return NULL;
    }
    if (PP_SYS(madvise)(made, sizeof *made, MADV_WIPEONFORK) != 0) {
        pp__fail_errno(errno, "madvise(MADV_WIPEONFORK)");
        munmap(made, sizeof *made);
        return NULL;
    }
    pp__store_relaxed(&made->process, (uint32_t)getpid());
    return made;
}

int pp__owner_enter(void)
{
    struct owner_page *have = pp__load_acquire(&page); /* pairs with the exchange below, of another thread */
    if (have)
        return pp__load_relaxed(&have->process) ? 0 : pp__owner_refuse();
    struct owner_page *made = make_page();
    if (!made)
        return -ENOMEM;
    /* Pairs with the loads of the page above and below. */
    if (!atomic_compare_exchange_strong_explicit(&page, &have, made, memory_order_acq_rel, memory_order_acquire))
        munmap(made, sizeof *made); /* another thread was first */
    return 0;
}

bool pp__owner_is_self(void)
{
    struct owner_page *have = pp__load_acquire(&page); /* pairs with the exchange in pp__owner_enter */
    return !have || pp__load_relaxed(&have->process);
}

uint32_t pp__owner_token(void)
{
    struct owner_page *have = pp__load_acquire(&page); /* pairs with the exchange in pp__owner_enter */
    return have ? pp__load_relaxed(&have->process) : 0;
}

void pp__owner_reset(void)
{
    struct owner_page *have = pp__load_relaxed(&page);
    pp__store_relaxed(&page, NULL);
    if (have)
        munmap(have, sizeof *have);
}

void pp__owner_set_kin(enum pp__kin of_this_process)
{
    kin = of_this_process;
}

enum pp__kin pp__owner_kin(void)
{
    return kin;
}
