/* SPDX-License-Identifier: MIT */
#include "pool/backtrace.h"

#include "base/atomic.h"
#include "base/seam.h"
#include "pool/workers.h"
#include "process/crash.h"
#include "process/owner.h"
#include "process/symbols.h"

#include <stdlib.h>
#include <string.h>

/* The trace is checked and never written again; the text is there once it was asked for. */
struct pp_backtrace {
    char *_Atomic text;
    uint32_t owner; /* pp__owner_token() of the process that made it */
    uint32_t size;
    struct pp__trace trace; /* with `size` bytes in all */
};

/* Copied first; the copy alone is looked at. */
static struct pp_backtrace *keep(const void *raw, size_t size)
{
    if (size < sizeof(struct pp__trace) || size > PP__TRACE_MAX)
        return NULL;
    struct pp_backtrace *kept = PP_SYS(malloc)(offsetof(struct pp_backtrace, trace) + size);
    if (!kept)
        return NULL;
    pp__store_relaxed(&kept->text, NULL);
    kept->owner = pp__owner_token();
    kept->size = (uint32_t)size;
    pp__shm_copy(&kept->trace, raw, size);
    if (pp__trace_is_sound(&kept->trace, size))
        return kept;
    free(kept);
    return NULL;
}

void pp__error_trace(pp_error *error, const void *raw, size_t size)
{
    if (pp__error_is_own(error))
        error->backtrace = keep(raw, size);
}

/* A trace of another signal is one that its thread got over, or a lie. */
void pp__error_crashed_at(pp_error *error, const void *raw, size_t size)
{
    if (!pp__error_is_own(error) || error->signal == 0)
        return;
    struct pp_backtrace *kept = keep(raw, size);
    if (!kept)
        return;
    if (kept->trace.signal != (uint32_t)error->signal) {
        pp__backtrace_free(kept);
        return;
    }
    error->backtrace = kept;
    error->address = (const void *)(uintptr_t)kept->trace.address; // NOLINT: for showing only
}

/* Of the trace that a worker which is gone has left; 0: there is none, or it can't be. */
static size_t crash_size(const struct pp__worker *worker)
{
    const struct pp__result_side *side = worker->result_side;
    uint32_t size = pp__load_acquire(&side->crash_size); /* pairs with the store in publish (crash.c) */
    return size <= sizeof side->crash ? size : 0;
}

void pp__error_crashed(pp_error *error, const struct pp__worker *worker)
{
    pp__error_crashed_at(error, worker->result_side->crash, crash_size(worker));
}

int pp__crash_signal(const struct pp__worker *worker)
{
    struct pp_backtrace *kept = keep(worker->result_side->crash, crash_size(worker));
    uint32_t signal = kept ? kept->trace.signal : 0;
    pp__backtrace_free(kept);
    return pp__crash_reports(signal) ? (int)signal : 0;
}

void pp__backtrace_free(struct pp_backtrace *backtrace)
{
    if (!backtrace)
        return;
    free(pp__load_relaxed(&backtrace->text));
    free(backtrace);
}

const char *pp_error_backtrace(const pp_error *error)
{
    struct pp_backtrace *backtrace = error ? error->backtrace : NULL;
    if (!backtrace)
        return "";
    char *text = pp__load_acquire(&backtrace->text), *before = NULL; /* pairs with the exchange below */
    if (text || backtrace->owner != pp__owner_token())
        return text ? text : "";
    text = pp__symbols_text(&backtrace->trace, backtrace->size, error->function);
    if (!text)
        return "";
    if (atomic_compare_exchange_strong(&backtrace->text, &before,
                                       text)) /* pairs with the load above, and with itself */
        return text;
    free(text); /* another thread was first */
    return before;
}
