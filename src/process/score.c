/* SPDX-License-Identifier: MIT */
#include "process/score.h"

#include "base/fd.h"
#include "base/seam.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define RAISED 200
#define HIGHEST 1000

/* By hand: a fork that has this behind it touches fewer pages than with stdio's. */
static int parse(const char *text)
{
    int value = 0, sign = *text == '-' ? -1 : 1;
    for (text += *text == '-'; *text >= '0' && *text <= '9'; text++)
        value = 10 * value + (*text - '0');
    return sign * value;
}

static size_t print(char *end, int value)
{
    char *at = end;
    unsigned rest = value < 0 ? (unsigned)-value : (unsigned)value;
    do
        *--at = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (value < 0)
        *--at = '-';
    return (size_t)(end - at);
}

int pp__score_open(void)
{
    return pp__fd_adopt(PP_SYS(open)("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC), "the score for want of memory");
}

void pp__score_raise(int score, struct pp__score *before)
{
    char text[16];
    *before = (struct pp__score){.raised = false};
    before->size = PP_SYS(pread)(score, before->text, sizeof before->text - 1, 0);
    if (before->size <= 0)
        return;
    int raised = parse(before->text) + RAISED;
    size_t size = print(text + sizeof text, raised < HIGHEST ? raised : HIGHEST);
    before->raised = PP_SYS(pwrite)(score, text + sizeof text - size, size, 0) > 0;
}

/* A process may always go back to what it had: the kernel refuses what is lower than that alone. */
void pp__score_lower(int score, const struct pp__score *before)
{
    if (before->raised && PP_SYS(pwrite)(score, before->text, (size_t)before->size, 0) < 0)
        errno = 0;
}
