/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_COLUMNS 250
#define BAR_MAX 40
#define BAR_MIN 5

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void progress_open(struct progress *progress, bool wanted, uint64_t total_inputs, uint64_t total_bytes)
{
    *progress = (struct progress){
        .enabled = wanted && isatty(STDERR_FILENO),
        .started = now_ms(),
        .total_inputs = total_inputs,
        .total_bytes = total_bytes,
    };
}

static size_t screen_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 10)
        return 80;
    return size.ws_col < LINE_MAX_COLUMNS ? size.ws_col : LINE_MAX_COLUMNS;
}

/* The part of the work that is done, 0 to 1; below 0 if nobody knows. */
static double fraction(const struct progress *progress, const struct progress_state *state)
{
    double part = -1;
    if (progress->total_inputs)
        part = (double)state->done / (double)progress->total_inputs;
    else if (progress->total_bytes)
        part = (double)state->bytes / (double)progress->total_bytes;
    return part > 1 ? 1 : part;
}

static int format_time(char *out, size_t size, double seconds)
{
    uint64_t whole = seconds < 360000 ? (uint64_t)(seconds + 0.5) : 359999;
    if (whole >= 3600)
        return snprintf(out, size, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, whole / 3600, whole / 60 % 60, whole % 60);
    return snprintf(out, size, "%" PRIu64 ":%02" PRIu64, whole / 60, whole % 60);
}

/* Count, rate, failures and time left. */
static void describe(char *out, size_t size, const struct progress *progress, const struct progress_state *state,
                     double part, double elapsed)
{
    char of[32] = "";
    char left[48] = "";
    if (progress->total_inputs)
        snprintf(of, sizeof of, "/%" PRIu64, progress->total_inputs);
    if (part > 0 && elapsed > 0) {
        memcpy(left, ", ", 2);
        int length = format_time(left + 2, sizeof left - 8, elapsed * (1 - part) / part);
        memcpy(left + 2 + length, " left", 6);
    }
    double rate = elapsed > 0 ? (double)state->done / elapsed : 0;
    snprintf(out, size, "%" PRIu64 "%s done, %.*f/s, %" PRIu64 " failed%s", state->done, of, rate < 10 ? 1 : 0, rate,
             state->failed, left);
}

static size_t format_bar(char *out, double part, size_t room)
{
    if (part < 0 || room < BAR_MIN + 8)
        return 0;
    size_t width = room - 8 < BAR_MAX ? room - 8 : BAR_MAX;
    size_t full = (size_t)(part * (double)width);
    size_t length = (size_t)sprintf(out, "%3d%% [", (int)(part * 100));
    memset(out + length, '#', full);
    memset(out + length + full, '.', width - full);
    memcpy(out + length + width, "] ", 2);
    return length + width + 2;
}

/* The drawn line ends where it began, in the first column; blanks cover what is left of a longer one. */
static void put_line(struct progress *progress, const char *line, size_t size)
{
    char out[LINE_MAX_COLUMNS + 2];
    size_t covered = size > progress->columns ? size : progress->columns;
    memset(out, ' ', sizeof out);
    memcpy(out, line, size);
    out[covered] = '\r';
    ssize_t written = write(STDERR_FILENO, out, covered + 1);
    (void)written;
    progress->columns = size;
}

static void draw(struct progress *progress, const struct progress_state *state)
{
    char text[160];
    char line[sizeof text + BAR_MAX + 16];
    double part = fraction(progress, state);
    double elapsed = (double)(progress->drawn - progress->started) / 1000;
    size_t columns = screen_columns() - 1;
    describe(text, sizeof text, progress, state, part, elapsed);
    size_t length = strlen(text);
    size_t bar = format_bar(line, part, columns > length ? columns - length : 0);
    memcpy(line + bar, text, length);
    length += bar;
    put_line(progress, line, length < columns ? length : columns);
}

void progress_update(struct progress *progress, const struct progress_state *state)
{
    if (!progress->enabled)
        return;
    uint64_t now = now_ms();
    if (progress->drawn && now - progress->drawn < PROGRESS_EVERY_MS)
        return;
    progress->drawn = now;
    draw(progress, state);
}

void progress_clear(struct progress *progress)
{
    if (progress->columns == 0)
        return;
    put_line(progress, "", 0);
}
