/* SPDX-License-Identifier: MIT */
#include "map.h"

#include "input.h"
#include "interrupt.h"
#include "load.h"
#include "options.h"
#include "output.h"
#include "progress.h"
#include "say.h"

#include <errno.h>
#include <inttypes.h>
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WINDOW 16     /* chunks for each worker between the oldest unfinished input and the newest */
#define MEASURED 16   /* inputs for which there is room in each of them where the chunks' sizes are measured */
#define REST_MS 250   /* the longest sleep; a signal ends it, whatever thread it hit */
#define NUDGE_MS 20   /* how long a new line of a slow pipe may wait while calls run */
#define GATHER_MS 2   /* how long a finished result may wait for company */
#define HARD_TIMES 50 /* sleeps of PROGRESS_EVERY_MS for memory or descriptors that are short */

struct run {
    const struct map_options *options;
    struct input input;
    struct output output;
    struct progress progress;
    struct progress_state state;
    pp_pool *pool;
    pp_map *map;
    int hard_times;       /* in a row */
    char broken[1024];    /* why the pool broke; "": it did not */
    int64_t looked_at;    /* whether somebody reads; ms of the monotonic clock */
    const char *unusable; /* why the work could not go on otherwise; NULL: it could */
};

/* ------------------------------------------------------------------------------------ one result */

static int print_result(struct run *run, const pp_map_result *result)
{
    struct output *output = &run->output;
    if (run->options->tag &&
        (output_put(output, result->input, result->input_size) != 0 || output_put(output, "\t", 1) != 0))
        return -1;
    if (output_put(output, result->data, result->size) != 0)
        return -1;
    return output_end_line(output, run->options->ending);
}

/* A crash that breaks the pool is one event, however many calls it takes with it: their lines would say the same. */
static int report_failure(struct run *run, const pp_map_result *result)
{
    const pp_error *error = result->error;
    const char *message = error && error->message[0] ? error->message : strerror(-result->code);
    char reason[1100];
    if (result->code == -ENOTRECOVERABLE) {
        if (!run->broken[0])
            snprintf(run->broken, sizeof run->broken, "%s", message);
        return 0;
    }
    if (output_flush(&run->output) != 0) /* on a screen, or in one file, lines stand in the order of the results */
        return -1;
    progress_clear(&run->progress);
    if (error && error->tries > 1)
        snprintf(reason, sizeof reason, "%s (tried %" PRIu32 " times)", message, error->tries);
    else
        snprintf(reason, sizeof reason, "%s", message);
    say_failure(result->input, result->input_size, reason);
    if (run->options->backtrace)
        say_below(pp_error_backtrace(error));
    return 0;
}

static int take(struct run *run, const pp_map_result *result)
{
    run->state.done++;
    run->state.bytes += result->input_size + 1;
    run->hard_times = 0;
    input_done(&run->input, result->input_size);
    if (result->code == 0)
        return print_result(run, result);
    run->state.failed++;
    return report_failure(run, result);
}

/* ------------------------------------------------------------------------------------ the loop */

static int patience(const struct run *run)
{
    if (run->output.used > 0)
        return GATHER_MS;
    if (run->input.waiting)
        return NUDGE_MS;
    return run->progress.enabled ? PROGRESS_EVERY_MS : REST_MS;
}

/* Nothing came for a while: what is gathered goes out, and if nobody reads it any more that is the end. */
static int rest(struct run *run)
{
    if (output_flush(&run->output) != 0 || output_abandoned(&run->output))
        return -1;
    return 0;
}

/* Memory or descriptors are short: nothing is lost, others may give some back. */
static int bear(struct run *run)
{
    if (++run->hard_times > HARD_TIMES) {
        run->unusable = pp_last_error();
        return -1;
    }
    usleep(PROGRESS_EVERY_MS * 1000);
    return rest(run);
}

/* What pp_map_next said instead of giving a result. 0: go on. */
static int no_result(struct run *run, int code)
{
    switch (code) {
    case -ETIMEDOUT:
    case -EINTR:
        return rest(run);
    case -EAGAIN:
        if (rest(run) != 0)
            return -1;
        input_wait(&run->input, run->progress.enabled ? PROGRESS_EVERY_MS : REST_MS);
        return 0;
    case -ENOMEM:
    case -EMFILE:
    case -ENFILE:
        if (!run->input.error)
            return bear(run);
        break;
    }
    if (code == -ENOTRECOVERABLE && !run->broken[0])
        snprintf(run->broken, sizeof run->broken, "%s", pp_last_error());
    else if (code < 0 && !run->input.error && !run->broken[0])
        run->unusable = pp_last_error();
    return -1;
}

/* Failures that come all the time leave no rest, and write nothing. Whether nobody would read it if they did. */
static bool is_in_vain(struct run *run)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t milliseconds = now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
    if (milliseconds - run->looked_at < REST_MS)
        return false;
    run->looked_at = milliseconds;
    return output_abandoned(&run->output);
}

static void loop(struct run *run)
{
    pp_map_result result;
    int stop = 0;
    while (!stop && !interrupt_signal()) {
        int code = pp_map_next(run->map, patience(run), &result);
        stop = code == 1 ? take(run, &result) : no_result(run, code);
        if (!stop && code == 1 && result.code != 0)
            stop = is_in_vain(run);
        progress_update(&run->progress, &run->state);
    }
}

/* ------------------------------------------------------------------------------------ begin and end */

/* Calls that run may run for ever, so nothing is waited for: workers are gone with their owner. */
static _Noreturn void end_by_signal(struct run *run)
{
    int signal_number = interrupt_signal();
    output_flush(&run->output);
    progress_clear(&run->progress);
    say("interrupted by SIG%s (%" PRIu64 " done, %" PRIu64 " failed)", sigabbrev_np(signal_number),
        run->state.done - run->state.failed, run->state.failed);
    interrupt_die(signal_number);
}

/* The environment's word comes before the option's, as in the library. */
static bool is_inline(const struct map_options *options)
{
    const char *asked = secure_getenv("PROCPOOL_START");
    return asked && *asked ? strcmp(asked, "inline") == 0 : options->start_method == PP_START_INLINE;
}

static int open_pool(struct run *run, pp_function *function)
{
    const struct map_options *options = run->options;
    pp_pool_options pool = {
        .max_workers = options->jobs,
        .on_crash = options->on_crash,
        .start_method = options->start_method,
        .backtraces = options->backtrace,
    };
    size_t workers = (size_t)(options->jobs ? options->jobs : pp_usable_processors());
    pp_map_options map = {
        .chunk_size = options->chunk,
        .max_in_flight = WINDOW * workers * (options->chunk ? options->chunk : MEASURED),
        .unordered = options->unordered,
        .fail_fast = options->fail_fast,
        .timeout = options->timeout,
        .retries = options->retries,
    };
    int code = pp_pool_create(&pool, &run->pool);
    if (code != 0) {
        say("%s", pp_last_error());
        return code == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
    }
    code = pp_map_open(run->pool, function, input_next, &run->input, &map, &run->map);
    if (code != 0) {
        say("%s: %s", options->task, pp_last_error());
        pp_pool_destroy(run->pool);
        return code == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
    }
    return EXIT_DONE;
}

static int open_run(struct run *run, const struct map_options *options)
{
    run->options = options;
    interrupt_install(); /* constructors of the library may take their time */
    pp_function *function = load_task(options->task);
    if (interrupt_signal())
        end_by_signal(run);
    if (!function)
        return EXIT_USAGE;
    if (input_open(&run->input, options->inputs, options->input_count, options->ending) != 0 ||
        output_open(&run->output, &run->progress) != 0) {
        say("%s", strerror(ENOMEM));
        return EXIT_FAILED;
    }
    run->output.by_lines = is_inline(options); /* calls print here, too: behind all results of those before them */
    output_flush(&run->output);                /* what constructors printed; an error is kept for the next write */
    int status = open_pool(run, function);
    progress_open(&run->progress, options->progress, options->input_count, run->input.length);
    return status;
}

/* The one line that says why the work ended before its time. Returns whether it did. */
static bool explain(struct run *run)
{
    progress_clear(&run->progress);
    if (run->output.error)
        say("standard output: %s", strerror(run->output.error));
    else if (run->broken[0])
        say("%s", run->broken);
    else if (run->unusable)
        say("%s", run->unusable);
    else if (run->input.error)
        say("standard input: %s", strerror(run->input.error));
    else
        return false;
    return true;
}

static void close_run(struct run *run)
{
    pp_map_close(run->map);
    pp_pool_destroy(run->pool);
    input_close(&run->input);
}

int map_main(int argc, char **argv)
{
    static struct run run;
    struct map_options options;
    int status = options_parse(argc, argv, &options);
    if (status == 0 && options.help)
        return output_only(options_help);
    if (status == 0)
        status = open_run(&run, &options);
    if (status != 0)
        return status;
    loop(&run);
    if (interrupt_signal())
        end_by_signal(&run);
    output_close(&run.output);
    if (interrupt_signal()) /* it ended the last write; what that left is lost, as in end_by_signal */
        end_by_signal(&run);
    bool early = explain(&run);
    /* An end before its time does not wait for calls that still run: their workers are gone with this process. */
    if (early || (options.fail_fast && run.state.failed))
        _exit(EXIT_FAILED);
    close_run(&run);
    return run.state.failed ? EXIT_FAILED : EXIT_DONE;
}
