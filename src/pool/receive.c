/* SPDX-License-Identifier: MIT */
#include "pool/receive.h"

#include "base/atomic.h"
#include "base/error.h"
#include "base/fd.h"
#include "process/child.h"
#include "shm/segment.h"

#include <errno.h>
#include <stdlib.h>

void pp__received_init(struct pp__received *received, int socket, struct pp__carried *carried)
{
    received->socket = socket;
    received->carried = carried;
    carried->given = received->given;
}

/* What came ahead of the record: the descriptor of its elements, unless `fd` is NULL, and those of the call. */
static int receive_ahead(struct pp__received *received, const struct pp__call_record *call, uint64_t id, uint64_t *size,
                         int *fd)
{
    uint32_t count = pp__flags_count(call->flags);
    int error = pp__ahead_receive(received->socket, id, size, fd, received->given, count);
    received->carried->given = received->given;
    if (error == -EBADF || error == -ENOTSOCK)
        pp__child_exit(EXIT_FAILURE); /* a task has closed the socket: between tasks that costs nothing */
    if (!error)
        received->carried->given_count = count;
    else if (error == -EPROTO)
        pp__fail(error, "what goes with its argument did not arrive");
    else
        pp__fail(error, "%s can't be received: %s", count > 0 ? "its descriptors" : "its argument", pp_last_error());
    return error;
}

static void forget_buffer(struct pp__received_place *place)
{
    pp__segment_unmap(place->memory, place->room);
    place->memory = NULL;
}

/* What was in this place is no more, whether or not the new one can be had: `error`. */
static int take_buffer(struct pp__received *received, struct pp__received_place *place, int fd, uint64_t room,
                       bool writable, int error)
{
    forget_buffer(place);
    place->count++;
    place->room = room;
    place->error = error ? error : pp__segment_map(fd, room, writable, &place->memory);
    received->keeps = true;
    return place->error;
}

static int take_program_buffer(struct pp__received *received, const struct pp__buffer_record *entry, int fd, int error)
{
    struct pp__received_place *place = &received->known[entry->place];
    place->serial = entry->serial;
    place->size = entry->size;
    place->shared = entry->shared;
    return take_buffer(received, place, fd, entry->room, entry->shared, error);
}

/* A call behind the one that should have brought it fails for the same reason. */
static int fail_for_want(int error, const char *what)
{
    error = error ? error : -EPROTO;
    return pp__fail(error, "%s did not arrive: %s", what, pp__strerror(-error));
}

/* Whether the program's buffer with this serial has come for this place, and is there. */
static int check_program_buffer(const struct pp__received_place *place, uint64_t serial)
{
    bool same = place->serial == serial;
    return place->memory && same ? 0 : fail_for_want(same ? place->error : 0, "one of its buffers");
}

/* Its beginning is asked for: most tasks will look there first. */
static void show(struct pp__carried *carried, uint32_t index, const struct pp__received_place *place)
{
    __builtin_prefetch(place->memory);
    carried->buffers[index].data = place->memory;
    carried->buffers[index].size = place->size;
    carried->buffers[index].shared = place->shared;
}

static int use_program_buffer(struct pp__received *received, const struct pp__buffer_record *entry, uint32_t index,
                              const char **elements)
{
    const struct pp__received_place *place = &received->known[entry->place];
    char *memory = place->memory;
    int error = check_program_buffer(place, entry->serial);
    if (error)
        return error;
    if (entry->use == PP__USE_INPUTS) {
        *elements = memory + entry->at;
    } else if (entry->use == PP__USE_RESULTS) {
        received->results = memory + entry->at;
        received->each = entry->each;
    } else {
        show(received->carried, index, place);
    }
    return 0;
}

int pp__receive_lent(struct pp__received *received, const uint64_t *words, uint32_t count)
{
    int error = 0;
    for (uint32_t i = 0; i < count && !error; i++) {
        const struct pp__received_place *place = &received->known[pp__lent_place(words[i])];
        error = check_program_buffer(place, pp__lent_serial(words[i]));
        show(received->carried, i, place);
    }
    received->carried->buffer_count = count;
    return error;
}

/* The buffers of a call, or of a chunk, which show in no task. The first of the descriptors that came beside it, unless
 * there was an `error`, are those of new ones; the others are its own. */
static int open_buffers(struct pp__received *received, const struct pp__call_record *call, int error,
                        const char **elements)
{
    const struct pp__buffer_record *entries =
        (const void *)((const char *)(call + 1) + (call->flags & PP__BIG ? 0 : pp__padded(call->size)));
    uint32_t fresh = 0;
    for (uint32_t place = 0; place < PP__KNOWN; place++)
        if (call->dropped >> place & 1)
            forget_buffer(&received->known[place]);
    for (uint32_t i = 0; i < call->buffers; i++) {
        if (entries[i].fresh) {
            int taken = take_program_buffer(received, &entries[i], received->carried->given[fresh], error);
            error = error ? error : taken;
            fresh += received->carried->given_count > 0;
        }
        if (!error)
            error = use_program_buffer(received, &entries[i], i, elements);
    }
    for (uint32_t i = 0; i < fresh; i++)
        pp__fd_close(received->given[i]);
    received->carried->given += fresh;
    received->carried->given_count -= fresh;
    received->carried->buffer_count = error || call->flags & PP__ELEMENT ? 0 : call->buffers;
    return error;
}

static int open_kept(struct pp__received *received, const struct pp__call_record *call, int fd, uint64_t room,
                     int error, const char **elements)
{
    uint32_t place = pp__flags_place(call->flags);
    if (call->flags & PP__FRESH)
        error = take_buffer(received, &received->arguments[place], fd, room, false, error);
    else if (!error && !received->arguments[place].memory)
        error = fail_for_want(received->arguments[place].error, "its argument's buffer");
    if (!error)
        *elements = (const char *)received->arguments[place].memory + PP__ELEMENTS_AT;
    return error;
}

int pp__receive(struct pp__received *received, const struct pp__call_record *call, uint64_t id, const char **elements,
                const void **mapped)
{
    uint64_t room = 0;
    int fd = -1, error = 0;
    bool brings = pp__flags_bring_payload(call->flags);
    if (pp__flags_bring_any(call->flags))
        error = receive_ahead(received, call, id, &room, brings ? &fd : NULL);
    if (call->flags & PP__KEPT) {
        error = open_kept(received, call, fd, room, error, elements);
    } else if (brings && !error) {
        error = pp__payload_map(fd, call->size, mapped);
        *elements = *mapped;
    }
    pp__fd_close(fd);
    return call->flags & PP__WITH ? open_buffers(received, call, error, elements) : error;
}

/* Acquire: pairs with the stores in tell_discarded (shelf.c) and pp__known_tidy (known.c). True: some are left. */
static bool drop_given_up(struct pp__received_place *places, unsigned count, const _Atomic uint32_t *given_up)
{
    bool left = false;
    for (unsigned i = 0; i < count; i++) {
        if (places[i].memory && pp__load_acquire(&given_up[i]) == places[i].count)
            forget_buffer(&places[i]);
        left |= places[i].memory != NULL;
    }
    return left;
}

void pp__received_tidy(struct pp__received *received, const struct pp__call_side *call_side)
{
    bool arguments = drop_given_up(received->arguments, PP__PLACES, call_side->discarded);
    bool known = drop_given_up(received->known, PP__KNOWN, call_side->forgotten);
    received->keeps = arguments || known;
}
