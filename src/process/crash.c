/* SPDX-License-Identifier: MIT */
/*
 * The handler. It may have interrupted anything, so it calls only what is safe there, and it may itself run into what
 * the crash has destroyed: its steps are counted before they are taken, and a fault inside of one of them enters the
 * handler again, which goes on with the next.
 */
#include "process/crash.h"

#include "base/atomic.h"
#include "base/seam.h"
#include "process/sanitizer.h"
#include "process/trace.h"

#include <errno.h>
#include <signal.h>
#include <stdalign.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_SIZE 65536 /* untouched, it costs nothing */
#define PATIENCE 2       /* seconds for a step */

static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

static alignas(16) char stack[STACK_SIZE];

static struct {
    void *room;
    size_t most;
    _Atomic uint32_t *size;
    pid_t pid;
    /* The thread that reports, the first to crash; 0: none. By a cas, for another one that crashes too. */
    _Atomic uint64_t reporter;
    volatile sig_atomic_t step; /* the next one */
    siginfo_t info;             /* of the signal that is reported */
    ucontext_t *context;
    struct pp__tracer tracer;
    uintptr_t pc, stack_pointer; /* of the instruction that crashed, while `mend` has others in their place */
    bool mended;
} crash;

/* ---------------------------------------------------------------------------------------- the context */

#if defined(__x86_64__)
static uintptr_t get_pc(void)
{
    return (uintptr_t)crash.context->uc_mcontext.gregs[REG_RIP];
}

static uintptr_t get_stack_pointer(void)
{
    return (uintptr_t)crash.context->uc_mcontext.gregs[REG_RSP];
}

static void set(uintptr_t pc, uintptr_t stack_pointer)
{
    crash.context->uc_mcontext.gregs[REG_RIP] = (greg_t)pc;
    crash.context->uc_mcontext.gregs[REG_RSP] = (greg_t)stack_pointer;
}

/* Where a function that has not done anything yet returns to: the call has left it on the stack. */
__attribute__((no_sanitize("address", "thread"))) static void leave_function(void)
{
    uintptr_t top = get_stack_pointer();
    uintptr_t back = *(volatile uintptr_t *)top; // NOLINT: a register's value
    set(back, top + sizeof back);
}
#else
static uintptr_t get_pc(void)
{
    return (uintptr_t)crash.context->uc_mcontext.pc;
}

static uintptr_t get_stack_pointer(void)
{
    return (uintptr_t)crash.context->uc_mcontext.sp;
}

static void set(uintptr_t pc, uintptr_t stack_pointer)
{
    crash.context->uc_mcontext.pc = pc;
    crash.context->uc_mcontext.sp = stack_pointer;
}

static void leave_function(void)
{
    set((uintptr_t)crash.context->uc_mcontext.regs[30], get_stack_pointer());
}
#endif

/* ------------------------------------------------------------------------------------------ the steps */

static uint64_t address_of(const siginfo_t *info)
{
    if (info->si_code <= 0 || info->si_code == SI_KERNEL || info->si_signo == SIGABRT)
        return 0; /* sent by somebody, or the kernel does not know */
    return (uintptr_t)(info->si_signo == SIGSYS ? info->si_call_addr : info->si_addr);
}

static void note(void)
{
    pp__trace_begin(&crash.tracer, crash.room, crash.most);
    crash.tracer.trace->signal = (uint32_t)crash.info.si_signo;
    crash.tracer.trace->address = address_of(&crash.info);
    crash.tracer.trace->exact = 1;
}

/* A call to where no code is: the unwinder could not get out of there, so it starts at the caller. */
static void mend(void)
{
    crash.pc = get_pc();
    crash.stack_pointer = get_stack_pointer();
    if (pp__trace_is_code(crash.pc))
        return;
    leave_function();
    crash.mended = true;
    pp__trace_add(&crash.tracer, crash.pc);
}

static void unwind(void)
{
    PP_FAULT("crash.unwind");
    pp__trace_unwind(&crash.tracer, get_pc());
}

static void name(void)
{
    if (!crash.tracer.inside)
        pp__trace_add(&crash.tracer, get_pc());
    if (crash.mended)
        set(crash.pc, crash.stack_pointer);
    pp__trace_name(&crash.tracer);
}

static void publish(void)
{
    /* Pairs with the loads in crash_size (backtrace.c) and note_crash (process.c). */
    pp__store_release(crash.size, (uint32_t)crash.tracer.used);
}

static void (*const steps[])(void) = {note, mend, unwind, name, publish};
#define STEPS ((sig_atomic_t)(sizeof steps / sizeof *steps))

/* --------------------------------------------------------------------------------------- the handler */

/* The signal once more, to this thread, as it came: it takes effect where the handler returns to, with nothing left
 * that catches it. */
static void die(siginfo_t *info)
{
    sigset_t set;
    int number = info->si_signo;
    sigaction(number, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), number, info) != 0)
        raise(number);
}

/* What is destroyed may also keep a step busy for ever: then the same signal comes from a timer, to the same effect as
 * a fault. */
static void limit_steps(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = crash.info.si_signo};
    struct itimerspec when = {.it_value = {.tv_sec = PATIENCE}, .it_interval = {.tv_sec = PATIENCE}};
    int timer;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) == 0)
        syscall(SYS_timer_settime, timer, 0, &when, NULL);
}

/* Thread sanitizer's runtime calls handlers with all of them blocked. */
static void unblock(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        sigaddset(&set, fatal[i]);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void report(siginfo_t *info, ucontext_t *context)
{
    uint64_t self = (uint64_t)syscall(SYS_gettid);
    /* Against the same line in other threads, and in a fault of a step of this one: the first alone wins, and the
     * others read nothing but the word. */
    if (pp__cas_u64(&crash.reporter, 0, self, memory_order_relaxed)) {
        crash.info = *info;
        crash.context = context;
        unblock();
        limit_steps();
    } else if (pp__load_relaxed(&crash.reporter) != self) {
        for (;;)
            nanosleep(&(struct timespec){.tv_sec = 1}, NULL); /* the other thread takes this one with it */
    }
    while (crash.step < STEPS)
        steps[crash.step++]();
    die(&crash.info);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    int before = errno;
    (void)number;
    if (getpid() == crash.pid)
        report(info, context);
    else
        die(info); /* a process that the task has forked: the room is not its own */
    errno = before;
}

bool pp__crash_reports(uint32_t signal)
{
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        if (signal == (uint32_t)fatal[i])
            return true;
    return false;
}

void pp__crash_install(void *room, size_t most, _Atomic uint32_t *size)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    stack_t before = {.ss_flags = SS_DISABLE};
    if (PP_ON_VALGRIND)
        return; /* which tells of a crash itself, and takes a signal that is sent as a fault's for a fault of its own */
    memset(&crash, 0, sizeof crash);
    crash.room = room;
    crash.most = most;
    crash.size = size;
    crash.pid = getpid();
    if (sigaltstack(NULL, &before) == 0 && before.ss_flags & SS_DISABLE)
        sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
        struct sigaction there = {.sa_handler = SIG_DFL};
        if (sigaction(fatal[i], &action, &there) == 0 && there.sa_handler != SIG_DFL)
            sigaction(fatal[i], &there, NULL);
    }
}
