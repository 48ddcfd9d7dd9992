/* SPDX-License-Identifier: MIT */
/* Collecting: from result rings and the zygote's reports to outcomes. All under the pool's lock. */
#ifndef PP_POOL_COLLECT_H
#define PP_POOL_COLLECT_H

#include "pool/pool.h"

/* Takes what is there now, and what follows from it: deaths, timeouts, dispatch. Never sleeps. */
void pp__collect(pp_pool *pool);

/* For a submitter: takes results, whoever has the duty (who has it sleeps, or spins, or the lock would not be ours). */
void pp__collect_results(pp_pool *pool);

/* There are calls for which no worker has room: the sleeping manager is to be rung when one runs dry. */
void pp__collect_ask(pp_pool *pool);

/* Whoever collects sleeps, and any result of what is outstanding wakes it. */
bool pp__collect_hears(const pp_pool *pool);

/* If who collects sleeps, and results wake it: from now on those of all that has an id by now do. For who is about to
 * sleep beside it. True: something came, and what the caller waits for may be among it. */
bool pp__collect_claim(pp_pool *pool);

/* The same for one worker's results. */
struct pp__worker;
void pp__collect_worker(struct pp__worker *worker);

/* Takes the result of its only call, which is plain or simple and has nobody to be told, if that is a result which lies
 * in its record and nothing is the matter: else nothing was done. No cancellation point. */
bool pp__collect_plain(struct pp__worker *worker);

/*
 * For a thread that waits for results and has the duty: looks at the rings of busy workers for as long as a wake would
 * cost, the lock released. True: something came and was collected, or somebody asks for another look. False: it is time
 * to sleep, or there are calls for all processors. *in_vain is the waiter's: what had been delivered when it last found
 * nothing, UINT64_MAX at first. Until there is more it only sleeps, whatever wakes it: who is to report a death may
 * need the processor.
 */
bool pp__collect_spin(pp_pool *pool, uint64_t deadline, uint64_t *in_vain);

/*
 * For one that has not: the same while another waiting thread has the duty and sleeps, which so is not woken for what
 * this one waits for. False: nothing came, or it has to sleep on its word at once.
 */
bool pp__collect_beside(pp_pool *pool, uint64_t deadline);

/*
 * Sleeps in epoll (the lock released) until something happens or `deadline`, then collects. `every`: a thread waits for
 * results; else (the manager) only attention is wanted. `hold`: the wait's, or NULL. 0 or -EINTR.
 */
struct pp__hold;
int pp__collect_sleep(pp_pool *pool, uint64_t deadline, bool every, struct pp__hold *hold);

/* Nobody has the duty from here on, but workers that run dry wake the napping manager; until a thread has it again. */
void pp__collect_leave(pp_pool *pool);
void pp__collect_return(pp_pool *pool);

/*
 * The same in two halves, for a host's event loop that has the manager's place (loop.h). Arming ends as if the loop
 * slept in epoll from then on, to come back at *next at the latest; true: something is there already. The other half
 * takes what the loop was woken for.
 */
bool pp__collect_arm(pp_pool *pool, uint64_t *next);
void pp__collect_events(pp_pool *pool);

#endif
