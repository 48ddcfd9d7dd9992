/* SPDX-License-Identifier: MIT */
/*
 * The owner's side of a zygote's birth: a pair of sockets, a helper that forks or spawns, and the wait for the
 * newborn's word. Called by launcher.c from any thread of the owner.
 */
#include "process/birth.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "process/become.h"
#include "process/identity.h"
#include "process/pid.h"
#include "process/quiet.h"
#include "process/sanitizer.h"
#include "process/zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_SIZE ((size_t)1 << 20) /* the host's fork handlers run on it */
#define EXEC_STACK_SIZE ((size_t)256 << 10)
#define PATIENCE (PP_ON_VALGRIND ? 10 : 1)
#define WORD_WAIT_MS (10000 * PATIENCE)
#define TRIES_MAX 1500
#define TRIES_MS (8000 * PATIENCE)
#define MARKER_SIZE (sizeof PP__MARKER + 16 + PP__NONCE_SIZE)

/* Everything that a helper needs is made before it: it shares the caller's memory, thread-local storage included. */
struct helper {
    int (*run)(void *helper);
    char *stack;
    unsigned stack_id;
    struct pp__zygote_setup setup;
    bool threads;           /* the owner has several */
    const char *executable; /* forkserver */
    char *const *arguments;
    char **environment;
    int control; /* the zygote's end */
    int *error;  /* what run returned: an errno or 0; in memory that helper and owner share */
};

/* ------------------------------------------------------------------------------------------------- the helper */

/*
 * Where sharing memory with the helper does not work, it is a fork, which the host's SIGCHLD handler can see: thread
 * sanitizer takes every clone for a fork and, in the child, resets what it knows of all threads; valgrind makes a fork
 * of it without fork's care for malloc's locks.
 */
static bool helper_is_fork(const struct helper *helper)
{
#ifdef PP_TSAN
    (void)helper;
    return true;
#else
    return PP_ON_VALGRIND && helper->threads;
#endif
}

/* Both tools flush at _exit what is the owner's to flush; on valgrind the helper's memory is its own in any case. */
static int run_on_tools(void *data)
{
    struct helper *helper = data;
    if (PP_ON_VALGRIND)
        pp__stdio_purge();
    *helper->error = helper->run(helper);
    if (PP_ON_VALGRIND)
        kill(getpid(),
             SIGKILL); /* it would look for leaks, and what the owner's other threads have is none of its own */
    return 0;
}

static pid_t start_helper(struct helper *helper)
{
    if (!helper_is_fork(helper))
        return PP_SYS(clone)(run_on_tools, helper->stack + STACK_SIZE, CLONE_VM | CLONE_VFORK, helper);
    pid_t pid = PP_SYS(fork)();
    if (pid == 0)
        syscall(SYS_exit_group, run_on_tools(helper));
    return pid;
}

/* The links of /proc/self/task: itself, its parent, and one for each thread. Without /proc: nobody knows. */
static bool has_threads(void)
{
    struct stat task;
    return PP_SYS(stat)("/proc/self/task", &task) != 0 || task.st_nlink > 3;
}

/*
 * Runs helper->run(helper) in a process that shares our memory, and returns what that did. Its exit status says
 * nothing: valgrind puts one of its own in the place of that of a process that it finds fault with, and a host that
 * waits for everything with __WALL may have been first to take it (ECHILD).
 */
static int run_helper(struct helper *helper)
{
    uint64_t mask;
    int status;
    pp__signals_block(&mask);
    pp__module_lock(); /* what the fork goes on with is whole: the list of modules, */
    pp__fd_lock();     /* and no descriptor is made and not yet registered */
    pid_t pid = start_helper(helper);
    int error = pid < 0 ? errno : 0;
    pp__fd_unlock();
    pp__module_unlock();
    if (pid > 0) {
        PP_SYS(waitpid)(pid, &status, __WALL);
        error = *helper->error; /* of one that was killed: none, and a failure shows as a missing word */
    }
    pp__signals_set(mask);
    return error ? pp__fail(-error, "fork of the process that starts workers: %s", pp__why_no_process(error)) : 0;
}

/* Where tools make a fork of the helper, its own memory is not ours. Else the page ends with it, and what it forks has
 * none. */
static int open_error(struct helper *helper)
{
    void *page = PP_SYS(mmap)(NULL, sizeof *helper->error, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return pp__fail_errno(errno, "a page for starting a process");
#ifndef PP_TSAN
    if (!PP_ON_VALGRIND)
        PP_SYS(madvise)(page, sizeof *helper->error, MADV_DONTFORK);
#endif
    helper->error = page;
    return 0;
}

static void close_error(struct helper *helper)
{
    munmap(helper->error, sizeof *helper->error);
}

static int open_stack(struct helper *helper)
{
    void *stack = PP_SYS(mmap)(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return pp__fail_errno(errno, "a stack for starting a process");
    helper->stack = stack;
    helper->stack_id = pp__sanitizer_stack(stack, STACK_SIZE);
    return 0;
}

static void close_stack(struct helper *helper)
{
    pp__sanitizer_no_stack(helper->stack_id, helper->stack, STACK_SIZE);
    munmap(helper->stack, STACK_SIZE);
}

/* ------------------------------------------------------------------------------------------------------- fork */

/*
 * The helper, a CLONE_VM child, has no rseq registration to pass on, but libc's copy of the processor's number says it
 * has: without this sched_getcpu would be frozen in all workers.
 */
static void register_rseq(void)
{
#ifndef PP_TSAN
    if (__rseq_size == 0)
        return;
    struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    area->rseq_cs = 0;
    if (syscall(SYS_rseq, area, sizeof *area, 0, RSEQ_SIG) != 0)
        area->cpu_id = (uint32_t)RSEQ_CPU_ID_REGISTRATION_FAILED;
#endif
}

static _Noreturn void be_fork(const struct helper *helper)
{
    pp__sanitizer_to_stack(helper->stack, STACK_SIZE);
    pp__sanitizer_on_stack();
    register_rseq();
    pp__zygote_become(&helper->setup);
    if (helper->threads && !pp__quiet()) {
        pp__zygote_say(&helper->setup, -EAGAIN, true, "");
        _exit(1);
    }
    pp__zygote_run(&helper->setup);
}

static int help_fork(void *data)
{
    const struct helper *helper = data;
    pid_t pid = PP_SYS(fork)();
    if (pid == 0)
        be_fork(helper);
    return pid < 0 ? errno : 0;
}

/* -------------------------------------------------------------------------------------------------- forkserver */

/*
 * In a process that shares the owner's memory until the exec, but has a descriptor table of its own. What went wrong
 * goes to the owner over the control socket, which the image would have spoken on.
 */
static int exec_image(void *data)
{
    struct helper *helper = data;
    int keep[PP__INHERIT_MAX + 1] = {helper->control};
    bool stdin_stays = false;
    for (size_t i = 0; i < helper->setup.inherit_count; i++) {
        keep[i + 1] = helper->setup.inherit[i];
        fcntl(keep[i + 1], F_SETFD, 0);
        stdin_stays |= keep[i + 1] == 0;
    }
    fcntl(helper->control, F_SETFD, 0);
    int null = stdin_stays ? -1 : PP_SYS(open)("/dev/null", O_RDWR);
    if (null > 0)
        PP_SYS(dup2)(null, 0);
    pp__fd_close_from(3, keep, helper->setup.inherit_count + 1);
    PP_SYS(execve)(helper->executable, helper->arguments, helper->environment);
    struct pp__wire_ready failed = {.error = -errno, .done = 1, .text = "exec of /proc/self/exe"};
    pp__fd_send(helper->control, &failed, sizeof failed, NULL, 0);
    return 1;
}

static int help_exec(void *data)
{
    struct helper *helper = data;
    pid_t pid = PP_SYS(clone)(exec_image, helper->stack + EXEC_STACK_SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD, helper);
    return pid < 0 ? errno : 0;
}

void pp__nonce_make(char nonce[PP__NONCE_SIZE])
{
    unsigned char random[PP__NONCE_SIZE / 2];
    if (PP_SYS(getrandom)(random, sizeof random, 0) != (ssize_t)sizeof random)
        memset(random, (int)(pp__now() & 0xff), sizeof random);
    for (size_t i = 0; i < sizeof random; i++) {
        nonce[2 * i] = "0123456789abcdef"[random[i] >> 4];
        nonce[2 * i + 1] = "0123456789abcdef"[random[i] & 15];
    }
}

static size_t texts_size(const char *const *texts, uint32_t *count)
{
    size_t size = 0;
    *count = 0;
    for (; texts && texts[*count]; ++*count)
        size += strlen(texts[*count]) + 1;
    return size;
}

static char *put_texts(char *place, const char *const *texts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        place = stpcpy(place, texts[i]) + 1;
    return place;
}

/* Lies in the socket before the image exists, so an image finds it at once or is none. */
static int send_hello(int socket, const struct pp__zygote_setup *setup, const pp_launcher_options *options,
                      const char *nonce)
{
    uint32_t preload_count, command_count;
    size_t size = texts_size(options->preload, &preload_count) + texts_size(options->command, &command_count);
    if (size > PP__PRELOAD_SIZE_MAX)
        return pp__fail(-E2BIG, "the paths to preload, or the command, have %zu bytes together, more than %d", size,
                        PP__PRELOAD_SIZE_MAX);
    struct pp__wire_hello *hello = PP_SYS(calloc)(1, sizeof *hello + size);
    if (!hello)
        return pp__fail(-ENOMEM, "no memory for the paths to preload, or the command");
    *hello = (struct pp__wire_hello){.type = PP__WIRE_HELLO,
                                     .owner_pid = setup->owner_pid,
                                     .owner_start = setup->owner_start,
                                     .inherit_count = (uint32_t)setup->inherit_count,
                                     .preload_count = preload_count,
                                     .command_count = command_count,
                                     .text_size = (uint32_t)size,
                                     .spawn = setup->spawn,
                                     .spares = setup->spares,
                                     .invites = setup->spawn && options->starter};
    memcpy(hello->nonce, nonce, PP__NONCE_SIZE);
    for (size_t i = 0; i < setup->inherit_count; i++)
        hello->inherit[i] = setup->inherit[i];
    char *behind = put_texts((char *)(hello + 1), options->preload, preload_count);
    put_texts(behind, options->command, command_count);
    int error = pp__fd_send(socket, hello, sizeof *hello + size, &setup->owner, setup->owner >= 0);
    free(hello);
    return error ? pp__fail_errno(-error, "the first message to the process that starts workers") : 0;
}

/* The owner's environment and the marker; a marker already there is left out. To be freed. */
static char **make_environment(char *marker)
{
    size_t count = 0;
    for (char **e = environ; e && *e; e++)
        count++;
    char **copy = PP_SYS(calloc)(count + 2, sizeof *copy);
    if (!copy)
        return NULL;
    size_t have = 0;
    for (size_t i = 0; i < count && environ[i]; i++)
        if (strncmp(environ[i], PP__MARKER "=", sizeof PP__MARKER) != 0)
            copy[have++] = environ[i];
    copy[have] = marker;
    return copy;
}

/* -------------------------------------------------------------------------------------------- waiting for its word */

/* 1: a word; 0: its end; -ETIMEDOUT. */
static int receive_word(struct pp__zygote *zygote, struct pp__wire_ready *word)
{
    uint64_t deadline = pp__deadline(WORD_WAIT_MS);
    for (;;) {
        size_t count = 1;
        int pidfd = -1;
        ssize_t size = pp__fd_receive(zygote->control, word, sizeof *word, &pidfd, &count, MSG_DONTWAIT);
        if (size > 0 && count == 1) {
            pp__fd_close(zygote->pidfd);
            zygote->pidfd = pidfd;
        }
        if (size == sizeof *word || size == 0)
            return size != 0;
        if (size != -EAGAIN)
            return size < 0 ? (int)size : -EPROTO;
        struct pollfd watched = {.fd = zygote->control, .events = POLLIN};
        if (pp__until(deadline) == 0)
            return -ETIMEDOUT;
        PP_SYS(poll)(&watched, 1, pp__to_milliseconds(pp__until(deadline)));
    }
}

static int fail_word(const struct pp__wire_ready *word)
{
    int length = (int)strnlen(word->text, sizeof word->text);
    if (length == 0)
        return word->error;
    if (word->done && word->pid == 0)
        return pp__fail_errno(-word->error, "%.*s", length, word->text);
    return pp__fail(word->error, "%.*s", length, word->text);
}

static int await_birth(struct pp__zygote *zygote)
{
    struct pp__wire_ready word;
    for (;;) {
        int got = receive_word(zygote, &word);
        if (got == -ETIMEDOUT)
            return pp__fail(-EAGAIN, "the process that starts workers did not answer for %d s", WORD_WAIT_MS / 1000);
        if (got < 0)
            return pp__fail_errno(-got, "the word of the process that starts workers");
        if (got == 0)
            return pp__fail(-EAGAIN, "the process that starts workers ended while it was born");
        zygote->pid = word.pid;
        if (word.error)
            return fail_word(&word);
        if (word.done)
            return 0;
    }
}

/* A newborn that hangs is not waited for. */
static void give_up(struct pp__zygote *zygote)
{
    if (zygote->pidfd >= 0)
        PP_SYS(syscall)(SYS_pidfd_send_signal, zygote->pidfd, SIGKILL, NULL, 0);
    pp__fd_close(zygote->pidfd);
    pp__fd_close(zygote->control);
}

/* ----------------------------------------------------------------------------------------------------- one birth */

static int open_setup(const pp_launcher_options *options, struct pp__zygote_setup *setup)
{
    *setup = (struct pp__zygote_setup){.owner_pid = getpid(), .inherit_count = options->inherit_fd_count};
    for (size_t i = 0; i < options->inherit_fd_count; i++)
        setup->inherit[i] = options->inherit_fds[i];
    setup->owner_start = pp__process_start(setup->owner_pid);
    int raw = pp__pidfd_open(setup->owner_pid);
    if (raw < 0 && errno == ENOSYS) {
        setup->owner = -1;
        return 0;
    }
    setup->owner = pp__fd_adopt(raw, "a pidfd");
    return setup->owner < 0 ? setup->owner : 0;
}

static int run_on_stack(struct helper *helper)
{
    int error = open_error(helper);
    if (error)
        return error;
    error = open_stack(helper);
    if (error == 0) {
        error = run_helper(helper);
        close_stack(helper);
    }
    close_error(helper);
    return error;
}

/* From a prepared helper to a zygote that has spoken. Closes the zygote's end in every case. */
static int give_birth(struct helper *helper, int pair[2], struct pp__zygote *zygote)
{
    struct pp__zygote born = {.control = pair[0], .pidfd = -1};
    int error = run_on_stack(helper);
    pp__fd_close(pair[1]);
    if (error == 0)
        error = await_birth(&born);
    if (error)
        give_up(&born);
    else
        *zygote = born;
    return error;
}

static int fork_once(struct helper *helper, struct pp__zygote *zygote)
{
    int pair[2];
    int error = pp__fd_socketpair(pair);
    if (error)
        return error;
    helper->setup.control = pair[1];
    helper->threads = has_threads();
    return give_birth(helper, pair, zygote);
}

static void pause_randomly(void)
{
    uint64_t now = pp__now();
    struct timespec pause = {.tv_nsec = (long)((now ^ now >> 7) * 2654435761u % 3000000)};
    nanosleep(&pause, NULL);
}

int pp__birth_fork(const pp_launcher_options *options, struct pp__zygote *zygote)
{
    struct helper helper = {.run = help_fork};
    int error = open_setup(options, &helper.setup);
    if (error)
        return error;
    helper.setup.close_all = options->close_fds;
    helper.setup.spares = !options->no_spare;
    helper.setup.shared_images = true;
    uint64_t deadline = pp__deadline(TRIES_MS);
    pp__fail(-EAGAIN, "%s", "");
    error = fork_once(&helper, zygote);
    for (int tries = 1; error == -EAGAIN && !*pp_last_error(); tries++) {
        if (tries == TRIES_MAX || pp__until(deadline) == 0) {
            pp__fail(-EAGAIN,
                     "another thread held a lock of libc's at each of %d tries to fork: make the launcher before the "
                     "threads, or use PP_START_FORKSERVER",
                     tries);
            break;
        }
        pause_randomly();
        error = fork_once(&helper, zygote);
    }
    pp__fd_close(helper.setup.owner);
    return error;
}

/* On valgrind the link is the tool itself, but reading it is emulated. */
const char *pp__birth_executable(char path[PATH_MAX])
{
    ssize_t size = PP_ON_VALGRIND ? PP_SYS(readlink)("/proc/self/exe", path, PATH_MAX - 1) : -1;
    if (size <= 0)
        return "/proc/self/exe";
    path[size] = '\0';
    return path;
}

static int exec_once(struct helper *helper, const pp_launcher_options *options, struct pp__zygote *zygote)
{
    char nonce[PP__NONCE_SIZE], marker[MARKER_SIZE];
    char *arguments[] = {program_invocation_name, NULL}, path[PATH_MAX];
    int pair[2];
    int error = pp__fd_socketpair(pair);
    if (error)
        return error;
    pp__nonce_make(nonce);
    snprintf(marker, sizeof marker, PP__MARKER "=%d:%.*s", pair[1], PP__NONCE_SIZE, nonce);
    helper->threads = has_threads();
    helper->control = pair[1];
    helper->executable = pp__birth_executable(path);
    helper->arguments = arguments;
    helper->environment = make_environment(marker);
    error = helper->environment ? send_hello(pair[0], &helper->setup, options, nonce)
                                : pp__fail(-ENOMEM, "no memory for the environment of a process");
    if (error == 0) {
        error = give_birth(helper, pair, zygote);
    } else {
        pp__fd_close(pair[0]);
        pp__fd_close(pair[1]);
    }
    free(helper->environment);
    return error;
}

int pp__birth_image(const pp_launcher_options *options, bool spawn, struct pp__zygote *zygote)
{
    struct helper helper = {.run = help_exec};
    int error = open_setup(options, &helper.setup);
    if (error)
        return error;
    helper.setup.spawn = spawn;
    helper.setup.spares = !spawn && !options->no_spare;
    error = exec_once(&helper, options, zygote);
    pp__fd_close(helper.setup.owner);
    return error;
}
