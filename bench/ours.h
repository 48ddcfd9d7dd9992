/* SPDX-License-Identifier: MIT */
/* procpool's adapter, and the workloads that only it has. */
#ifndef PP_BENCH_OURS_H
#define PP_BENCH_OURS_H

#include "pool.h"

#include <procpool.h>

extern pp_pool *ours; /* the pool, during pool_run */

pp_function ours_serve; /* bench_serve in a worker; an argument of 16 bytes, a result of 16 */
pp_function ours_begin; /* the initializer of all pools here: notes who it is */

void ours_must(int code);
pp_pool *ours_make(unsigned workers, pp_launcher *launcher);

/* Calls that last until pool_pass_gate, begun by so many workers; their answers' value is when they were let through.
 */
void ours_occupy(struct bench_job *jobs, unsigned workers);

/* ours_calls.c: what a call costs */
void ours_asleep(char **params), ours_map(char **params), ours_echo(char **params), ours_mapping(char **params);

/* ours_stream.c: streams in arrays, and what else they cost */
void ours_arrays(char **params), ours_manager(char **params);

/* ours_lives.c: starts and deaths */
void ours_start(char **params), ours_crash(char **params), ours_kill(char **params);

/* ours_scale.c: many workers, many threads, many futures at once */
void ours_workers(char **params), ours_threads(char **params), ours_waiters(char **params);
void ours_pending(char **params);
void ours_completed(char **params);
void ours_waited(char **params);
void ours_beside(char **params);

#endif
