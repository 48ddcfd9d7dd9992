/* SPDX-License-Identifier: MIT */
/*
 * A launcher: the owner's handle to one zygote, by whatever start method it came to be. Each pool has a connection of
 * its own (a seqpacket socket), on which it asks for children and for their deaths and is told how they ended. When a
 * connection is shut down, the zygote kills that connection's children; when the owner ends (its pidfd, or end of file
 * on the control socket), all of them and itself. Those that outlive their owner are spared by both, unless their
 * deaths were asked for before.
 */
#ifndef PP_PROCESS_LAUNCHER_H
#define PP_PROCESS_LAUNCHER_H

#include "base/cgroup.h"
#include "process/child.h"
#include "process/wire.h"
#include "procpool.h"

#include <stdbool.h>

/* The start method of a launcher; never PP_START_DEFAULT. */
pp_start_method pp__launcher_method(const pp_launcher *launcher);

/* As pp_launcher_create, for one process and no pool: nobody will ask for its groups. */
int pp__launcher_create_for_process(const pp_launcher_options *options, pp_launcher **launcher);

/* The control groups, for processes, that it was made in; and those that its zygote, and so its workers, are in by now.
 * Not for inline. */
const struct pp__cgroup *pp__launcher_groups(const pp_launcher *launcher);
void pp__launcher_find_groups(const pp_launcher *launcher, struct pp__cgroup groups[PP__CGROUP_VERSIONS]);

/* A new connection: its descriptor (in base/fd.h's care), or -EPIPE (the zygote is gone; the text says how), -EMFILE,
 * -ENFILE, -ENOMEM. Not for inline. */
int pp__launcher_connect(pp_launcher *launcher);

/* Shuts a connection down (also for copies of it that forked children hold) and closes it. */
void pp__launcher_disconnect(int connection);

/* The functions that start its workers, or NULL. */
const pp_starter *pp__launcher_starter(const pp_launcher *launcher);

/* What the zygote tells. */
enum pp__report_type {
    PP__REPORT_STARTED = 1, /* pid is set; of a plan that is watched a pidfd comes with it, or error is the errno for
                               which there is none */
    PP__REPORT_INVITED,     /* before that, where the owner is to have it started: invitation is set */
    PP__REPORT_FAILED,      /* the fork failed: error is the errno */
    PP__REPORT_ENDED /* pid; code and status as waitid's si_code and si_status; error: ENOMEM if the kernel killed it
                        for want of memory */
};

struct pp__report {
    uint32_t type;
    int32_t error;
    uint64_t serial;
    int32_t pid;
    int32_t code; /* or one of those below */
    int32_t status;
    int32_t reserved;
    char invitation[PP__INVITATION_MAX];
};

/* Codes beside waitid's. UNJOINED comes with another one: it had not taken its plan. */
#define PP__END_UNJOINED 0x100
#define PP__END_EXEC 0x200    /* its program could not be run; status is the errno */
#define PP__END_UNKNOWN 0x400 /* it was nobody's child here */

/* "exited with status 1": how a child has ended, from a report's code and status. */
void pp__launcher_describe_end(int code, int status, char *text, size_t size);

/* What newer kernels (6.15) keep for a pidfd: a wait status. False where nobody knows. */
bool pp__pidfd_exit_code(int pidfd, int *code);

/*
 * None of these blocks. Start, kill (SIGKILL) and terminate (SIGTERM): 0, -EAGAIN (the socket is full: again later),
 * -EPIPE (the zygote is gone); start also -ETOOMANYREFS and -EMFILE. One for a child that has ended, or is not known,
 * does nothing.
 */
int pp__launcher_start(int connection, const struct pp__plan *plan, const int *fds, size_t count);
int pp__launcher_kill(int connection, uint64_t serial);
int pp__launcher_terminate(int connection, uint64_t serial);

/* Whether the zygote is. What was sent to it just before it may not have read, though that succeeded: its newest child
 * holds its end of a connection for a moment. */
bool pp__launcher_is_gone(const pp_launcher *launcher);

/* The next report: 1, 0 if there is none now, -EPIPE when the zygote is gone and everything it said has been read. */
int pp__launcher_report(int connection, struct pp__report *report);

/* The same where plans are watched: *pidfd is set (adopted), to -1 where none has come. -EMFILE, -ENFILE, -ENOMEM
 * besides: it may have come, and there was no room for it. */
int pp__launcher_report_of_watched(int connection, struct pp__report *report, int *pidfd);

/* How the zygote ended, in words ("killed by signal 9"), for the cause of a broken pool; "" if it lives. */
const char *pp__launcher_epitaph(pp_launcher *launcher, char *text, size_t size);

#endif
