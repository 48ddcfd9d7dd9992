/* SPDX-License-Identifier: MIT */
/*
 * The lines, words and bytes of a file, as wc(1) prints them in the C locale:
 *
 *     find /usr/include -type f | procpool map ./wc.so:count
 */
#include "wc.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct counts {
    uintmax_t lines, words, bytes;
    int in_word;
};

/* White space ends a word. A printable byte begins one; others, as in binaries, neither begin nor end it. */
static void count_bytes(struct counts *counts, const unsigned char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        counts->lines += text[i] == '\n';
        if (isspace(text[i])) {
            counts->words += (uintmax_t)counts->in_word;
            counts->in_word = 0;
        } else if (isprint(text[i])) {
            counts->in_word = 1;
        }
    }
    counts->bytes += size;
}

int count(pp_task *task, const void *name, size_t size)
{
    struct counts counts = {0};
    static unsigned char buffer[64 << 10]; /* a worker runs one call at a time */
    ssize_t got;
    int file = open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return pp_task_fail(task, -errno, "%s", strerror(errno));
    while ((got = read(file, buffer, sizeof buffer)) > 0)
        count_bytes(&counts, buffer, (size_t)got);
    int error = got < 0 ? errno : 0;
    close(file);
    if (error)
        return pp_task_fail(task, -error, "%s", strerror(error));

    char line[size + 80];
    int width = snprintf(NULL, 0, "%ju", counts.bytes); /* wc's columns are as wide as the widest number */
    int length = sprintf(line, "%*ju %*ju %*ju %s", width, counts.lines, width,
                         counts.words + (uintmax_t)counts.in_word, width, counts.bytes, (const char *)name);
    return pp_task_return(task, line, (size_t)length);
}
