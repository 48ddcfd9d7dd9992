/* SPDX-License-Identifier: MIT */
#include "base/lines.h"

#include "base/seam.h"

#include <fcntl.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

void pp__lines_open(struct pp__lines *lines, const char *path)
{
    lines->fd = PP_SYS(open)(path, O_RDONLY | O_CLOEXEC);
    lines->at = lines->used = 0;
    lines->passing = false;
}

/* Puts more behind what is there and has no end yet. False: there is no more. */
static bool fill(struct pp__lines *lines)
{
    memmove(lines->text, lines->text + lines->at, lines->used - lines->at);
    lines->used -= lines->at;
    lines->at = 0;
    if (lines->used == sizeof lines->text - 1) {
        lines->used = 0;
        lines->passing = true;
    }
    ssize_t got =
        lines->fd < 0 ? 0 : PP_SYS(read)(lines->fd, lines->text + lines->used, sizeof lines->text - 1 - lines->used);
    lines->used += got > 0 ? (size_t)got : 0;
    return got > 0;
}

/* The last one may have no end. */
static char *take_last(struct pp__lines *lines)
{
    char *line = lines->text + lines->at;
    if (lines->passing || lines->at == lines->used)
        return NULL;
    lines->text[lines->used] = '\0';
    lines->at = lines->used;
    return line;
}

char *pp__lines_next(struct pp__lines *lines)
{
    for (;;) {
        char *line = lines->text + lines->at, *end = memchr(line, '\n', lines->used - lines->at);
        if (!end) {
            if (!fill(lines))
                return take_last(lines);
            continue;
        }
        lines->at = (size_t)(end + 1 - lines->text);
        if (!lines->passing) {
            *end = '\0';
            return line;
        }
        lines->passing = false;
    }
}

void pp__lines_close(struct pp__lines *lines)
{
    if (lines->fd >= 0)
        close(lines->fd);
}
