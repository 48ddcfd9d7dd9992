/* SPDX-License-Identifier: MIT */
#include "base/linger.h"

#include "base/fd.h"
#include "base/seam.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool may_linger(int fd)
{
    struct linger linger;
    socklen_t size = sizeof linger;
    return PP_SYS(getsockopt)(fd, SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && linger.l_onoff && linger.l_linger > 0;
}

/* Something else is put in the socket's place, which closes it: the number is registered until that is done, and the
 * registry's lock not held. */
static void *close_apart(void *argument)
{
    int fd = (int)(intptr_t)argument, empty = pp__fd_event();
    prctl(PR_SET_NAME, "pp-close");
    if (empty >= 0)
        PP_SYS(dup3)(empty, fd, O_CLOEXEC);
    pp__fd_close(empty);
    pp__fd_close(fd);
    return NULL;
}

/* With all signals blocked: the host's handlers run in the host's threads. */
static bool start_thread(int fd)
{
    sigset_t all, before;
    pthread_t thread;
    void *argument = (void *)(intptr_t)fd; /* NOLINT(performance-no-int-to-ptr): read as a number */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = PP_SYS(pthread_create)(&thread, NULL, close_apart, argument) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started)
        pthread_detach(thread);
    return started;
}

void pp__linger_close(int fd)
{
    if (fd < 0 || (may_linger(fd) && start_thread(fd)))
        return;
    pp__fd_close(fd);
}
