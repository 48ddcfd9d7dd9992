/* SPDX-License-Identifier: MIT */
#include "process/become.h"

#include "base/fd.h"
#include "base/seam.h"
#include "process/zygote.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

void pp__signals_block(uint64_t *before)
{
    uint64_t all = ~UINT64_C(0);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, before, sizeof all);
}

void pp__signals_set(uint64_t mask)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof mask);
}

void pp__signals_default(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int i = 1; i <= 64; i++)
        sigaction(i, &action, NULL); /* KILL, STOP and libc's own two refuse */
    sigaltstack(&(stack_t){.ss_flags = SS_DISABLE}, NULL);
}

static bool inherits(const struct pp__zygote_setup *setup, int fd)
{
    for (size_t i = 0; i < setup->inherit_count; i++)
        if (setup->inherit[i] == fd)
            return true;
    return false;
}

/* 0 is /dev/null; 1 and 2 are if they were closed, so that no file of ours or the task's is taken for them. */
static void standard_descriptors(const struct pp__zygote_setup *setup)
{
    int null = PP_SYS(open)("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return;
    for (int fd = 0; fd <= 2; fd++) {
        bool open_already = fcntl(fd, F_GETFD) >= 0 && fd != null;
        if ((fd != 0 && open_already) || (open_already && inherits(setup, fd)))
            continue;
        if (fd == null)
            fcntl(fd, F_SETFD, 0);
        else
            PP_SYS(dup2)(null, fd);
    }
    if (null > 2)
        close(null);
}

static void close_descriptors(const struct pp__zygote_setup *setup)
{
    int keep[PP__INHERIT_MAX + 2] = {setup->control, setup->owner};
    size_t own = setup->owner < 0 ? 1 : 2;
    pp__fd_close_inherited(keep, own);
    if (!setup->close_all)
        return;
    memcpy(keep + own, setup->inherit, setup->inherit_count * sizeof *keep);
    pp__fd_close_from(3, keep, own + setup->inherit_count);
}

/* glibc's walk over all streams: exported for ever, declared no more. */
__attribute__((weak)) FILE *_IO_iter_begin(void);
__attribute__((weak)) FILE *_IO_iter_end(void);
__attribute__((weak)) FILE *_IO_iter_next(FILE *stream);

/* What the owner had not flushed is the owner's to flush, whatever stream a task flushes. */
void pp__stdio_purge(void)
{
    __fpurge(stdin);
    __fpurge(stdout);
    __fpurge(stderr);
    clearerr_unlocked(stdin);
    if (!_IO_iter_begin || !_IO_iter_end || !_IO_iter_next)
        return;
    for (FILE *stream = _IO_iter_begin(); stream != _IO_iter_end(); stream = _IO_iter_next(stream))
        if (__fpending(stream) > 0)
            __fpurge(stream);
}

void pp__zygote_become(const struct pp__zygote_setup *setup)
{
    setpgid(0, 0);
    prctl(PR_SET_NAME, "pp-zygote");
    PP_SYS(prctl)(PR_SET_CHILD_SUBREAPER, 1);
    close_descriptors(setup);
    standard_descriptors(setup);
    pp__signals_default();
    pp__stdio_purge();
}
