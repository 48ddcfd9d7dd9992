/* SPDX-License-Identifier: MIT */
#include "pool/finalized.h"

#include "base/clock.h"
#include "base/seam.h"
#include "pool/block.h"
#include "pool/function.h"
#include "pool/log.h"
#include "pool/workers.h"

#include <stdlib.h>
#include <sys/wait.h>

struct pp__finalized {
    pp_finalized told;
    struct pp__outcome outcome;
};

struct pp__item pp__finalized_duty(pp_pool *pool)
{
    return (struct pp__item){.function = pp__functions_find(pool->functions, pool->options.finalizer),
                             .x = {.fd = -1, .count = 1}};
}

void pp__finalized_add(pp_pool *pool, int worker, pid_t pid, struct pp__outcome outcome)
{
    struct pp__finalized *end = pool->options.finalized ? PP_SYS(malloc)(sizeof *end) : NULL;
    if (!end) {
        pp__outcome_free(&outcome);
        return;
    }
    end->outcome = outcome;
    end->told = (pp_finalized){.worker = worker,
                               .pid = pid,
                               .code = outcome.code,
                               .data = outcome.code ? NULL : outcome.data,
                               .size = outcome.size,
                               .error = outcome.code ? outcome.error : NULL};
    if (!pp__log_finalized(pool, end))
        pp__finalized_free(end);
}

void pp__finalized_lost(struct pp__worker *worker, int code, int status, const char *how)
{
    pp_pool *pool = worker->pool;
    struct pp__item duty = pp__finalized_duty(pool);
    uint64_t run_time = pp__now() - worker->free_at;
    pp_error *error = worker->overdue ? pp__item_error(&duty, PP_ERROR_TIMEOUT, 0, worker, run_time,
                                                       "outlived finalizer_timeout of %u ms; worker %d was killed",
                                                       pool->options.finalizer_timeout, worker->number)
                                      : pp__item_error(&duty, PP_ERROR_CRASH, 0, worker, run_time, "its worker %d %s",
                                                       worker->number, how);
    if (!worker->overdue && pp__error_is_own(error)) {
        error->signal = code == CLD_EXITED ? 0 : status;
        error->status = code == CLD_EXITED ? status : -1;
    }
    pp__finalized_add(pool, worker->number, worker->pid, (struct pp__outcome){.code = error->code, .error = error});
}

void pp__finalized_hand_out(const pp_pool *pool, struct pp__finalized *end)
{
    pool->options.finalized(pool->options.finalized_data, &end->told);
    pp__finalized_free(end);
}

void pp__finalized_free(struct pp__finalized *end)
{
    pp__outcome_free(&end->outcome);
    free(end);
}
