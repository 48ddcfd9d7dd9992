/* SPDX-License-Identifier: MIT */
#include "pool/descriptors.h"

#include "base/cancel.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/linger.h"
#include "base/seam.h"
#include "pool/future.h"
#include "pool/pool.h"
#include "pool/task.h"
#include "pool/wish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static_assert(PP_MAX_DESCRIPTORS + 1 == PP__FD_SEND_MAX, "one message takes all of them, and the payload's");
static_assert(PP_MAX_BUFFERS <= PP__KNOWN, "a worker has places for all buffers of a call");

/* -------------------------------------------------------------------------------------------- owner's */

static void close_all(const int *fds, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        pp__fd_close(fds[i]);
}

static struct pp__descriptors *create(uint32_t count)
{
    struct pp__descriptors *made = PP_SYS(malloc)(sizeof *made + count * sizeof *made->fds);
    if (made)
        made->count = count;
    return made;
}

static int copy(struct pp__descriptors *made, const int *fds)
{
    for (uint32_t i = 0; i < made->count; i++) {
        made->fds[i] = pp__fd_copy(fds[i], "a call's descriptor");
        if (made->fds[i] < 0) {
            close_all(made->fds, i);
            return made->fds[i];
        }
    }
    return 0;
}

int pp__descriptors_copy(const pp_call *call, struct pp__descriptors **made)
{
    if (!call->descriptors)
        return pp__fail(-EINVAL, "descriptors is NULL and descriptor_count is %zu", call->descriptor_count);
    if (call->descriptor_count > PP_MAX_DESCRIPTORS - call->buffer_count) /* which was checked */
        return pp__fail(-EINVAL, "descriptor_count is %zu; it must be at most %zu", call->descriptor_count,
                        PP_MAX_DESCRIPTORS - call->buffer_count);
    struct pp__descriptors *copies = create((uint32_t)call->descriptor_count);
    if (!copies)
        return pp__fail(-ENOMEM, "no memory for a call's descriptors");
    int error = copy(copies, call->descriptors);
    if (error)
        free(copies);
    else
        *made = copies;
    return error;
}

struct pp__descriptors *pp__descriptors_keep(const int *fds, uint32_t count)
{
    struct pp__descriptors *made = create(count);
    if (made)
        memcpy(made->fds, fds, count * sizeof *fds);
    else
        close_all(fds, count);
    return made;
}

/* Often under the lock, and often the last that have the file open. */
void pp__descriptors_free(struct pp__descriptors *descriptors)
{
    for (uint32_t i = 0; descriptors && i < descriptors->count; i++)
        pp__linger_close(descriptors->fds[i]);
    free(descriptors);
}

void pp__descriptors_bring_back(struct pp__item *item, struct pp__descriptors *descriptors)
{
    if (item->wishes) {
        item->x.wish->back = descriptors;
        return;
    }
    pp__item_forget_tries(item);
    item->has_back = true;
    item->back = descriptors;
}

/* ------------------------------------------------------------------------------------------- the message */

int pp__ahead_send(int socket, uint64_t id, uint64_t size, int fd, const int *fds, uint32_t count)
{
    struct pp__attachment message = {.id = id, .size = size};
    int all[PP__FD_SEND_MAX];
    size_t one = fd >= 0;
    all[0] = fd;
    if (count > 0)
        memcpy(all + one, fds, count * sizeof *fds);
    return pp__fd_send(socket, &message, sizeof message, all, one + count);
}

int pp__ahead_receive(int socket, uint64_t id, uint64_t *size, int *fd, int *fds, uint32_t count)
{
    struct pp__attachment message = {0};
    int all[PP__FD_SEND_MAX];
    size_t one = fd != NULL, came = one + count;
    ssize_t got = pp__fd_receive(socket, &message, sizeof message, all, &came, MSG_DONTWAIT);
    if (got == -EMFILE || got == -ENFILE)
        return (int)got; /* in words already */
    if (got < 0 && got != -EAGAIN && got != -EMSGSIZE)
        return pp__fail((int)got, "%s", pp__strerror((int)-got));
    if (got != sizeof message || came != one + count || message.id != id) {
        close_all(all, (uint32_t)came);
        return -EPROTO;
    }
    if (fd) {
        *fd = all[0];
        *size = message.size;
    }
    if (count > 0)
        memcpy(fds, all + one, count * sizeof *fds);
    return 0;
}

/* ------------------------------------------------------------------------------------------ the task's */

void pp__carried_drop_given(struct pp__carried *carried)
{
    for (; carried->given_count > 0; carried->given_count--)
        pp__fd_close(carried->given[carried->given_count - 1]);
    carried->buffer_count = 0;
}

void pp__carried_drop_back(struct pp__carried *carried)
{
    close_all(carried->back, carried->back_count);
    carried->back_count = 0;
}

size_t pp_task_fd_count(const pp_task *task)
{
    return task && task->carried ? task->carried->given_count : 0;
}

int pp_task_fd(const pp_task *task, size_t index)
{
    if (!task)
        return pp__fail(-EINVAL, "pp_task_fd: no task");
    if (index >= pp_task_fd_count(task))
        return pp__fail(-EINVAL, "there is no descriptor %zu: the call has %zu", index, pp_task_fd_count(task));
    return task->carried->given[index];
}

int pp_task_return_fd(pp_task *task, int fd)
{
    if (!task)
        return pp__fail(-EINVAL, "pp_task_return_fd: no task");
    struct pp__carried *carried = task->carried;
    if (!carried)
        return pp__fail(-ENOTSUP, "no descriptor goes back from an initializer, a finalizer or an element of a map");
    if (carried->back_count == PP_MAX_DESCRIPTORS)
        return pp__fail(-EINVAL, "no more than %d descriptors go back with a result", PP_MAX_DESCRIPTORS);
    int copied = pp__fd_copy(fd, "a descriptor to go back");
    if (copied < 0)
        return task->travel = copied;
    carried->back[carried->back_count++] = copied;
    return 0;
}

/* ------------------------------------------------------------------------------------------- the future's */

/* Waits for a result, which is there then. */
static int wait_for_result(pp_future *future, int timeout, const char *caller)
{
    if (!future)
        return pp__fail(-EINVAL, "%s: no future", caller);
    int error = pp_future_wait(future, timeout);
    const struct pp__outcome *outcome = &future->item.outcome;
    if (error || !outcome->code)
        return error;
    return pp__fail(outcome->code, "call %llu, %s: %s", (unsigned long long)future->item.id, outcome->error->function,
                    outcome->error->message);
}

/* Under the lock, of a future that is done. */
static struct pp__descriptors *back_of(const struct pp__item *item)
{
    return item->keeps ? item->kept->back : item->has_back ? item->back : NULL;
}

/* Of a future that is done. The lock: a call is done some moments before its future has them. */
static uint32_t count_back(const pp_future *future)
{
    pp__pool_lock(pp__future_pool(future));
    const struct pp__descriptors *back = back_of(&future->item);
    uint32_t count = back ? back->count : 0;
    pp__pool_unlock(pp__future_pool(future));
    return count;
}

int pp_future_fd_count(pp_future *future, int timeout)
{
    int error = wait_for_result(future, timeout, "pp_future_fd_count");
    return error ? error : (int)count_back(future);
}

static int take_out(const pp_future *future, size_t index)
{
    int fd = -EINVAL;
    pp__pool_lock(pp__future_pool(future));
    struct pp__descriptors *back = back_of(&future->item);
    if (back && index < back->count) {
        fd = back->fds[index] < 0 ? -ENODATA : back->fds[index];
        back->fds[index] = -1;
    }
    pp__pool_unlock(pp__future_pool(future));
    return fd;
}

int pp_future_take_fd(pp_future *future, int timeout, size_t index)
{
    PP__NO_CANCELLATION();
    int error = wait_for_result(future, timeout, "pp_future_take_fd");
    if (error)
        return error;
    int fd = take_out(future, index);
    if (fd == -EINVAL)
        return pp__fail(fd, "there is no descriptor %zu: %u came back with the result of call %llu", index,
                        count_back(future), (unsigned long long)future->item.id);
    if (fd < 0)
        return pp__fail(fd, "descriptor %zu of call %llu was taken", index, (unsigned long long)future->item.id);
    pp__fd_hand_out(fd);
    return fd;
}
