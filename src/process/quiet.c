/* SPDX-License-Identifier: MIT */
/*
 * The probe: a child in which every sleep on a futex is a trap (seccomp), so that a lock that was held at the fork
 * shows in microseconds, and an alarm for what the trap can't see. A single-threaded process has no reason to sleep on
 * a futex.
 */
#include "process/quiet.h"

#include "base/seam.h"
#include "process/become.h"
#include "process/sanitizer.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <iconv.h>
#include <libintl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <locale.h>
#include <netdb.h>
#include <resolv.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROBE_SECONDS (PP_ON_VALGRIND ? 20 : 2)

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif
#define SYS_FUTEX_WAITV 449 /* the same numbers on all our machines */
#define SYS_FUTEX_WAIT 455

static void trapped(int signal)
{
    (void)signal;
    _exit(1);
}

#define TRAP_IF(value, past) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (past), 0)

/* Where seccomp is not to be had, the alarm is all there is. */
static void trap_sleeps(void)
{
    struct sock_filter program[] = {
        /* 0 */ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        /* 1 */ TRAP_IF(SYS_FUTEX_WAITV, 10),
        /* 2 */ TRAP_IF(SYS_FUTEX_WAIT, 9),
        /* 3 */ BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 7),
        /* 4: the low half of the operation */
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        /* 5 */ BPF_STMT(BPF_ALU | BPF_AND | BPF_K, FUTEX_CMD_MASK & 0x7f),
        /* 6 */ TRAP_IF(FUTEX_WAIT, 5),
        /* 7 */ TRAP_IF(FUTEX_WAIT_BITSET, 4),
        /* 8 */ TRAP_IF(FUTEX_LOCK_PI, 3),
        /* 9 */ TRAP_IF(FUTEX_LOCK_PI2, 2),
        /* 10 */ TRAP_IF(FUTEX_WAIT_REQUEUE_PI, 1),
        /* 11 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        /* 12 */ BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog filter = {.len = sizeof program / sizeof *program, .filter = program};
    signal(SIGSYS, trapped);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

static int visit_module(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)info;
    (void)size;
    (void)data;
    return 0;
}

static void do_nothing(int status, void *data)
{
    (void)status;
    (void)data;
}

static void use_loader(void)
{
    dl_iterate_phdr(visit_module, NULL);
    void *self = dlopen(NULL, RTLD_LAZY);
    if (self) {
        (void)dlsym(self, "pp__no_such_name");
        dlerror();
        dlclose(self);
    }
    Dl_info info;
    dladdr((const char *)&trapped, &info);
}

/* Look-ups that need files only, never the network or a directory service. */
static void use_resolver(void)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo("127.0.0.1", NULL, &hints, &found) == 0)
        freeaddrinfo(found);
    struct __res_state state = {0};
    if (res_ninit(&state) == 0)
        res_nclose(&state);
    struct protoent entry, *result = NULL;
    char room[1024];
    getprotobyname_r("tcp", &entry, room, sizeof room, &result);
}

static void use_the_rest(void)
{
    free(malloc(100));
    free(malloc(1 << 20));
    on_exit(do_nothing, NULL);
    struct tm local;
    time_t now = time(NULL);
    tzset();
    localtime_r(&now, &local);
    random();
    setenv("PROCPOOL_PROBE", "1", 1);
    dgettext("libc", "Success");
    iconv_t conversion = iconv_open("UTF-8", "UCS-4LE");
    if (conversion != (iconv_t)-1)
        iconv_close(conversion);
    freelocale(newlocale(LC_ALL_MASK, "C", (locale_t)0));
    FILE *null = fopen("/dev/null", "r");
    if (null)
        fclose(null);
}

/* A loader that was forked in the middle of a dlopen says so with an assertion's text. */
static void be_silent(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return;
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
}

/* Valgrind looks for leaks in whatever exits, finds what the owner's other threads had, and puts a status of its own in
 * the place of ours. */
static _Noreturn void end_well(void)
{
    if (PP_ON_VALGRIND)
        kill(getpid(), SIGKILL);
    _exit(0);
}

static bool has_ended_well(int status)
{
    return PP_ON_VALGRIND ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                          : WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static _Noreturn void probe(void)
{
    prctl(PR_SET_NAME, "pp-probe");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pp__signals_set(0);
    alarm(PROBE_SECONDS);
    be_silent();
    trap_sleeps();
    use_loader();
    use_the_rest();
    use_resolver();
    end_well();
}

bool pp__quiet(void)
{
#ifdef PP_ASAN
    const bool probing = false; /* its runtime sleeps on futexes of its own */
#else
    const bool probing = true;
#endif
    if (!probing)
        return true;
    pid_t pid = PP_SYS(fork)();
    if (pid < 0)
        return false; /* which the owner answers by trying again */
    if (pid == 0)
        probe();
    int status;
    while (PP_SYS(waitpid)(pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return has_ended_well(status);
}
