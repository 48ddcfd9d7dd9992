/* SPDX-License-Identifier: MIT */
#include "pool/output.h"

#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/seam.h"
#include "pool/tidy.h"
#include "pool/wish.h"
#include "pool/workers.h"
#include "shm/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* While a call runs it is looked so often whether it writes more than is kept, and whether it goes on with that. */
#define TRIM_EACH (100 * PP__MILLISECOND)
#define TRIM_SOON (10 * PP__MILLISECOND)

struct pp__output {
    pp_output streams[PP__STREAMS]; /* their bytes lie behind this */
};

/* For all calls for whose output there was no memory; never written. */
static const struct pp__output memoryless;

void pp__output_free(struct pp__output *output)
{
    if (output != &memoryless)
        free(output);
}

static size_t limit_in(const pp_pool_options *o)
{
    return o->capture_limit ? o->capture_limit : PP__CAPTURE_LIMIT;
}

/* A call that writes more than a file may hold dies (SIGXFSZ). */
static int check_file_size(size_t limit)
{
    struct rlimit most;
    if (getrlimit(RLIMIT_FSIZE, &most) != 0 || limit <= most.rlim_cur)
        return 0;
    return pp__fail(-EFBIG,
                    "capture_limit, %zu bytes, exceeds RLIMIT_FSIZE, %llu bytes (lower it, or raise that with ulimit "
                    "-f or setrlimit)",
                    limit, (unsigned long long)most.rlim_cur);
}

int pp__output_check(const pp_pool_options *o)
{
    if (o->capture & ~((unsigned)PP_STDOUT | (unsigned)PP_STDERR))
        return pp__fail(-EINVAL, "capture is %#x, which names no streams", o->capture);
    if (o->capture_limit && !o->capture)
        return pp__fail(-EINVAL, "capture_limit is for a pool with capture");
    if (o->capture_limit > PP__CAPTURE_MAX)
        return pp__fail(-EINVAL, "capture_limit is %zu; it must be at most %zu", o->capture_limit, PP__CAPTURE_MAX);
    return o->capture && o->start_method != PP_START_INLINE ? check_file_size(limit_in(o)) : 0;
}

static size_t limit_of(const pp_pool *pool)
{
    return limit_in(&pool->options);
}

/* ------------------------------------------------------------------------------------------- the files */

static int make_files(struct pp__worker *worker, int fds[PP__STREAMS], size_t *count)
{
    static const char *const names[PP__STREAMS] = {"procpool-stdout", "procpool-stderr"};
    for (unsigned i = 0; i < PP__STREAMS; i++) {
        if (!(worker->pool->options.capture >> i & 1))
            continue;
        worker->output[i] = pp__segment_file(names[i]);
        if (worker->output[i] < 0)
            return worker->output[i];
        fds[(*count)++] = worker->output[i];
    }
    return 0;
}

int pp__output_order(struct pp__worker *worker)
{
    int fds[PP__STREAMS];
    size_t count = 0;
    const struct pp__capture_order order = {.limit = limit_of(worker->pool), .streams = worker->pool->options.capture};
    const struct pp__attachment message = {.id = order.streams};
    int error = make_files(worker, fds, &count);
    if (error)
        return error;
    error = pp__fd_send(worker->socket, &message, sizeof message, fds, count);
    if (error && error != -EPIPE) /* a standby that has died takes no order: its end is on the way */
        return pp__fail(-EAGAIN, "the files for a worker's output can't be sent");
    void *payload = pp__ring_reserve(&worker->calls, PP__RECORD_CAPTURE, 0, sizeof order);
    if (payload)
        memcpy(payload, &order, sizeof order);
    return payload ? 0 : -EAGAIN;
}

void pp__output_close(struct pp__worker *worker)
{
    for (unsigned i = 0; i < PP__STREAMS; i++)
        pp__fd_close(worker->output[i]);
}

/* --------------------------------------------------------------------------------------------- read */

/* How many bytes from `begin` on are there now. */
static uint64_t written_since(int fd, uint64_t begin)
{
    struct stat status;
    if (fd < 0 || PP_SYS(fstat)(fd, &status) != 0 || (uint64_t)status.st_size <= begin)
        return 0;
    return (uint64_t)status.st_size - begin;
}

/* What lies there, which may be less by now. */
static size_t read_bytes(int fd, char *bytes, size_t size, uint64_t begin)
{
    size_t got = 0;
    while (got < size) {
        ssize_t more = PP_SYS(pread)(fd, bytes + got, size - got, (off_t)(begin + got));
        if (more < 0 && errno == EINTR)
            continue;
        if (more <= 0)
            break;
        got += (size_t)more;
    }
    return got;
}

static size_t room_for(size_t size)
{
    return (size + 1 + 15) & ~(size_t)15;
}

/* `sizes` bytes of each stream, from `begin` on. */
static struct pp__output *read_output(const struct pp__worker *worker, const uint64_t begin[PP__STREAMS],
                                      const size_t sizes[PP__STREAMS], const uint64_t dropped[PP__STREAMS])
{
    struct pp__output *output = PP_SYS(malloc)(sizeof *output + room_for(sizes[0]) + room_for(sizes[1]));
    if (!output)
        return (struct pp__output *)(uintptr_t)&memoryless;
    char *bytes = (char *)(output + 1);
    for (unsigned i = 0; i < PP__STREAMS; i++) {
        size_t got = read_bytes(worker->output[i], bytes, sizes[i], begin[i]);
        bytes[got] = 0;
        output->streams[i] = (pp_output){.data = bytes, .size = got, .dropped = (size_t)dropped[i]};
        bytes += room_for(sizes[i]);
    }
    return output;
}

static_assert(sizeof(struct pp__output) % 16 == 0, "the bytes behind it are aligned to 16");

/* Where the output of a call that has not ended lies; NULL: nobody wants it. */
static struct pp__output **place_of(struct pp__item *item)
{
    if (!item->in_future)
        return &item->x.receiver->output;
    return item->wanted && item->wishes ? &item->x.wish->output : NULL;
}

/* In place of an earlier try's. */
static void keep(struct pp__output **place, struct pp__output *output)
{
    pp__output_free(*place);
    *place = output;
}

static size_t least(uint64_t one, uint64_t other)
{
    return (size_t)(one < other ? one : other);
}

const char *pp__output_told(struct pp__worker *worker, struct pp__item *item, const struct pp__output_record *told)
{
    struct pp__output **place = place_of(item);
    size_t sizes[PP__STREAMS];
    if (worker->output_told == item->id + 1)
        return "output of a call that has told its own"; /* or its reading would have no end */
    worker->output_told = item->id + 1;
    pp__tidy_later(worker->pool);
    if (!place)
        return NULL;
    for (unsigned i = 0; i < PP__STREAMS; i++) {
        uint64_t size = told->end[i] > told->begin[i] ? told->end[i] - told->begin[i] : 0;
        sizes[i] = least(least(size, limit_of(worker->pool)), written_since(worker->output[i], told->begin[i]));
    }
    keep(place, read_output(worker, told->begin, sizes, told->dropped));
    return NULL;
}

/* The words pair with the stores in place_output (worker_run.c), which the slot's cas has published. */
void pp__output_salvage(struct pp__worker *worker, struct pp__item *item)
{
    struct pp__output **place = place_of(item);
    uint64_t begin[PP__STREAMS], dropped[PP__STREAMS];
    size_t sizes[PP__STREAMS];
    if (!worker->pool->options.capture || !place || worker->output_told == item->id + 1)
        return;
    for (unsigned i = 0; i < PP__STREAMS; i++) {
        begin[i] = pp__load_relaxed(&worker->result_side->output[i]);
        uint64_t size = written_since(worker->output[i], begin[i]);
        sizes[i] = least(size, limit_of(worker->pool));
        dropped[i] = size - sizes[i];
    }
    keep(place, read_output(worker, begin, sizes, dropped));
}

/* ------------------------------------------------------------------------------------------- memory */

/*
 * All that it told was read when it had no call any more, and before its next one it asks anew where that begins: there
 * is nothing to be kept. A call that was taken back while it asked does not begin.
 */
bool pp__output_tidy(struct pp__worker *worker)
{
    bool some = false;
    for (unsigned i = 0; i < PP__STREAMS; i++) {
        some |= worker->output[i] >= 0;
        if (written_since(worker->output[i], 0) > 0 && PP_SYS(ftruncate)(worker->output[i], 0) != 0)
            errno = 0; /* the worker has sealed it */
    }
    return some;
}

/*
 * What lies behind what is kept of the call that runs. Where it begins did not change while the size was asked for, so
 * nothing before the size is a later call's: to begin at an earlier place than one before it, it would have to empty
 * the file, and it does not before all was read that it has told, which takes the lock that is held here. The word
 * pairs with the store in place_output (worker_run.c), which is before the call writes.
 */
static bool trim(struct pp__worker *worker, unsigned i)
{
    uint64_t begin = pp__load_acquire(&worker->result_side->output[i]), limit = limit_of(worker->pool);
    uint64_t size = written_since(worker->output[i], begin);
    pp__fence();
    if (size <= limit || size > INT64_MAX - begin || begin != pp__load_relaxed(&worker->result_side->output[i]))
        return false;
    return PP_SYS(fallocate)(worker->output[i], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(begin + limit),
                             (off_t)(size - limit)) == 0;
}

uint64_t pp__output_trim(struct pp__worker *worker, uint64_t now)
{
    bool some = false;
    if (!worker->pool->options.capture)
        return PP__NEVER;
    if (now < worker->output_trim_at)
        return worker->output_trim_at;
    for (unsigned i = 0; i < PP__STREAMS; i++)
        some |= trim(worker, i);
    worker->output_trim_at = now + (some ? TRIM_SOON : TRIM_EACH);
    return worker->output_trim_at;
}

/* --------------------------------------------------------------------------------------------- show */

int pp__output_show(const struct pp__output *output, pp_stream stream, pp_output *shown)
{
    if (output == &memoryless)
        return pp__fail(-ENOMEM, "there was no memory to keep what it wrote");
    *shown = output ? output->streams[stream - 1] : (pp_output){.data = ""};
    return 0;
}

int pp__output_is_captured(const pp_pool *pool, pp_stream stream)
{
    if (stream != PP_STDOUT && stream != PP_STDERR)
        return pp__fail(-EINVAL, "%d is no stream", (int)stream);
    if (pool->options.capture & (unsigned)stream)
        return 0;
    return pp__fail(-ENOTSUP, "the pool does not capture what calls write there");
}
