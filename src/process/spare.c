/* SPDX-License-Identifier: MIT */
#include "process/spare.h"

#include "base/affinity.h"
#include "base/fd.h"
#include "base/seam.h"
#include "process/become.h"
#include "process/begin.h"

#include <elf.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    pid_t pid;             /* 0: there is none */
    int line;              /* by which it gets its plan */
    bool unwanted;         /* one has ended, or none could be made: the next start is served first */
    bool cold;             /* it has not warmed up */
    uint64_t kills_before; /* as in a child's record */
} spare;

/* What it is sent ahead of a plan to warm up, by its size alone. */
static const char warmth[1];

void pp__spare_init(void)
{
    spare.pid = 0;
    spare.unwanted = false;
}

bool pp__spare_is_wanted(const struct pp__zygote_setup *setup)
{
    return setup->spares && spare.pid == 0 && !spare.unwanted;
}

/* ------------------------------------------------------------------------------------------------ warming up */

/* So much of a segment at most: what a program of any size runs through first is not known. */
#define SEGMENT_MOST ((size_t)4 << 20)
#define STACK_WARM ((size_t)16 << 10)

/* Whether the call's way leads through it: the library itself, libc, the loader, which binds what the program calls,
 * and the program. */
static bool is_on_the_way(const struct dl_phdr_info *module)
{
    const uintptr_t places[] = {(uintptr_t)pp__spare_make, (uintptr_t)free, getauxval(AT_PHDR)};
    if (module->dlpi_addr == getauxval(AT_BASE))
        return true;
    for (int i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &module->dlpi_phdr[i];
        uintptr_t begin = module->dlpi_addr + segment->p_vaddr;
        for (size_t k = 0; segment->p_type == PT_LOAD && k < sizeof places / sizeof *places; k++)
            if (places[k] - begin < segment->p_memsz)
                return true;
    }
    return false;
}

/* Wishes, all of them, to a kernel that may be older (5.14). */
static void populate(uintptr_t begin, uintptr_t end, int how)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    begin &= ~(page - 1);
    if (end - begin > SEGMENT_MOST)
        end = begin + SEGMENT_MOST;
    PP_SYS(madvise)((void *)begin, end - begin, how);
}

/* What was read-only after relocation stays so: it is mapped alone, the rest of a writable segment is copied. */
static int warm_module(struct dl_phdr_info *module, size_t size, void *data)
{
    uintptr_t sealed = 0;
    (void)size;
    (void)data;
    if (!is_on_the_way(module))
        return 0;
    for (int i = 0; i < module->dlpi_phnum; i++)
        if (module->dlpi_phdr[i].p_type == PT_GNU_RELRO)
            sealed = module->dlpi_addr + module->dlpi_phdr[i].p_vaddr + module->dlpi_phdr[i].p_memsz;
    for (int i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &module->dlpi_phdr[i];
        uintptr_t begin = module->dlpi_addr + segment->p_vaddr, end = begin + segment->p_memsz;
        if (segment->p_type != PT_LOAD)
            continue;
        populate(begin, end, MADV_POPULATE_READ);
        if (segment->p_flags & PF_W && sealed < end)
            populate(sealed > begin ? sealed : begin, end, MADV_POPULATE_WRITE);
    }
    return 0;
}

/* What every worker comes to touch is mapped, and copied for it, while nobody waits. */
static void warm_up(struct pp__beginning *b)
{
    dl_iterate_phdr(warm_module, NULL);
    free(PP_SYS(malloc)(1));
    if (pp__zygote_stack(0, &b->stack, &b->stack_size) == 0 && b->stack)
        populate((uintptr_t)b->stack + b->stack_size - STACK_WARM, (uintptr_t)b->stack + b->stack_size,
                 MADV_POPULATE_WRITE);
}

/* --------------------------------------------------------------------------------------------------- waiting */

static ssize_t receive_plan(struct pp__beginning *b, struct pp__plan *plan, int *fds)
{
    b->count = PP__PLAN_FDS;
    return pp__fd_receive(b->line, plan, sizeof *plan, fds, &b->count, 0);
}

/*
 * The line ends with the zygote. Nothing else ties this process to it before it has its plan, which may tell it to
 * outlive that, and the zygote tells that it has started when the plan is sent. Signals come as to any idle process:
 * one that was kept back would be that of what it becomes.
 */
static _Noreturn void wait_for_plan(const struct pp__zygote_setup *setup, pid_t zygote, int line,
                                    const cpu_set_t *processors)
{
    struct pp__plan plan = {.outlives = 0};
    int fds[PP__PLAN_FDS];
    struct pp__beginning beginning = {
        .setup = setup, .plan = &plan, .fds = fds, .zygote = zygote, .line = line, .stack = NULL};
    PP_FAULT("spare.forked");
    pp__child_detach(&beginning);
    pp__signals_set(0);
    prctl(PR_SET_NAME, "pp-spare");
    if (processors)
        pp__affinity_restore(processors); /* and no time for more */
    else
        warm_up(&beginning);
    PP_FAULT("spare.waits");
    for (ssize_t size; (size = receive_plan(&beginning, &plan, fds)) != sizeof plan;) {
        if (size != sizeof warmth)
            _exit(127);
        warm_up(&beginning);
    }
    PP_FAULT("spare.has_plan");
    pp__fd_close(line);
    pp__child_follow(&beginning);
    if (pp__zygote_stack(plan.stack_size, &beginning.stack, &beginning.stack_size) != 0)
        _exit(127);
    pp__child_become(&beginning);
}

/* ---------------------------------------------------------------------------------------- the zygote's side */

void pp__spare_make(const struct pp__zygote_setup *setup, pid_t zygote, uint64_t kills_before,
                    const cpu_set_t *processors)
{
    int pair[2];
    spare.unwanted = true;
    if (pp__fd_socketpair(pair) != 0)
        return;
    pid_t pid = pp__zygote_fork();
    if (pid == 0)
        wait_for_plan(setup, zygote, pair[1], processors);
    pp__fd_close(pair[1]);
    if (pid < 0) {
        pp__fd_close(pair[0]);
        return;
    }
    spare.pid = pid;
    spare.line = pair[0];
    spare.cold = processors != NULL;
    spare.kills_before = kills_before;
    spare.unwanted = false;
}

static void forget(void)
{
    pp__fd_close(spare.line);
    spare.pid = 0;
}

/* One that was stopped goes on: whoever stopped it did not mean this worker. One that can't be reached has ended, which
 * may not be known yet. */
pid_t pp__spare_take(const struct pp__plan *plan, const int *fds, size_t count)
{
    pid_t pid = spare.pid;
    spare.unwanted = false;
    if (pid == 0)
        return 0;
    PP_SYS(kill)(pid, SIGCONT);
    bool sent = pp__fd_send(spare.line, plan, sizeof *plan, fds, count) == 0;
    if (!sent)
        PP_SYS(kill)(pid, SIGKILL);
    forget();
    return sent ? pid : 0;
}

bool pp__spare_is_cold(void)
{
    return spare.pid != 0 && spare.cold;
}

/* It has ended if it can't be reached. */
void pp__spare_rest(void)
{
    if (pp__spare_is_cold())
        pp__fd_send(spare.line, warmth, sizeof warmth, NULL, 0);
    spare.cold = false;
}

bool pp__spare_is(pid_t pid, uint64_t *kills_before)
{
    *kills_before = spare.kills_before;
    return spare.pid != 0 && spare.pid == pid;
}

void pp__spare_ended(void)
{
    forget();
    spare.unwanted = true;
}

/* Not reaped yet, so the number is its own. */
void pp__spare_kill(void)
{
    siginfo_t end;
    if (spare.pid == 0)
        return;
    PP_SYS(kill)(spare.pid, SIGKILL);
    PP_SYS(waitid)(P_PID, (id_t)spare.pid, &end, WEXITED);
}
