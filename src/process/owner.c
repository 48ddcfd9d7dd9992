/* SPDX-License-Identifier: MIT */
#include "process/owner.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/seam.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

/* Set once by the first pp__owner_enter, cleared by pp__owner_reset in a process that has one thread. */
_Atomic(struct pp__owner_page *) pp__owner_page;

static enum pp__kin kin; /* written by a process's first thread alone, before others are there */

static struct pp__owner_page *make_page(void)
{
    struct pp__owner_page *made =
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
    struct pp__owner_page *have =
        pp__load_acquire(&pp__owner_page); /* pairs with the exchange below, of another thread */
    if (have)
        return pp__load_relaxed(&have->process) ? 0 : pp__owner_refuse();
    struct pp__owner_page *made = make_page();
    if (!made)
        return -ENOMEM;
    /* Pairs with the loads of the page above and below. */
    if (!atomic_compare_exchange_strong_explicit(&pp__owner_page, &have, made, memory_order_acq_rel,
                                                 memory_order_acquire))
        munmap(made, sizeof *made); /* another thread was first */
    return 0;
}

bool pp__owner_is_self(void)
{
    struct pp__owner_page *have = pp__load_acquire(&pp__owner_page); /* pairs with the exchange in pp__owner_enter */
    return !have || pp__load_relaxed(&have->process);
}

void pp__owner_reset(void)
{
    struct pp__owner_page *have = pp__load_relaxed(&pp__owner_page);
    pp__store_relaxed(&pp__owner_page, NULL);
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
