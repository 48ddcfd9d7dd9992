/* SPDX-License-Identifier: MIT */
#include "say.h"

#include "interrupt.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define INPUT_SHOWN 200
#define TEXT_SHOWN 1023
#define NUDGE_MS 100
#define WIDEST 4 /* one byte becomes at most \xNN */

/* The length of the printable UTF-8 character at `text`, of which `size` bytes are there; 0 if there is none. */
static size_t printable(const unsigned char *text, size_t size)
{
    unsigned char lead = text[0];
    if (lead < 0x80)
        return lead >= 0x20 && lead != 0x7f;
    size_t length = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (length == 0 || length > size)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if (lead == 0xc2 && text[1] < 0xa0) /* the second set of control characters */
        return 0;
    if ((lead == 0xe0 && text[1] < 0xa0) || (lead == 0xf0 && text[1] < 0x90)) /* longer than need be */
        return 0;
    if ((lead == 0xed && text[1] > 0x9f) || (lead == 0xf4 && text[1] > 0x8f)) /* surrogates, and above U+10FFFF */
        return 0;
    return length;
}

static size_t escape_byte(char *out, unsigned char byte)
{
    static const char letters[] = "abtnvfr"; /* the names of the bytes from 7 to 13 */
    if (byte >= 7 && byte <= 13)
        return (size_t)sprintf(out, "\\%c", letters[byte - 7]);
    return (size_t)sprintf(out, "\\x%02x", byte);
}

/* Copies `size` bytes to `out`, which has room for WIDEST times as many and a NUL. Returns the new length. */
static size_t escape(char *out, const void *data, size_t size)
{
    const unsigned char *text = data;
    size_t length = 0;
    for (size_t i = 0; i < size;) {
        size_t whole = printable(text + i, size - i);
        if (whole == 0) {
            length += escape_byte(out + length, text[i++]);
            continue;
        }
        memcpy(out + length, text + i, whole);
        length += whole;
        i += whole;
    }
    out[length] = '\0';
    return length;
}

/* Where a text of `size` bytes is cut to `limit`: not inside a character. */
static size_t cut(const void *data, size_t size, size_t limit)
{
    const unsigned char *text = data;
    if (size <= limit)
        return size;
    for (size_t back = 0; back < 4; back++)
        if ((text[limit - back] & 0xc0) != 0x80)
            return limit - back;
    return limit;
}

/* Whether to try again after a write that wrote nothing. The end by a signal is not held up by a reader that sleeps. */
static bool may_write_again(void)
{
    if (errno == EAGAIN) { /* somebody else made the descriptor non-blocking */
        struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
        poll(&ready, 1, NUDGE_MS);
    } else if (errno != EINTR) {
        return false;
    }
    return !interrupt_signal();
}

static void write_line(const char *line, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, line, size);
        if (written < 0 && !may_write_again())
            return;
        if (written > 0) {
            line += written;
            size -= (size_t)written;
        }
    }
}

static void say_pair(const void *input, size_t size, const char *text)
{
    char line[(INPUT_SHOWN + TEXT_SHOWN) * WIDEST + 16];
    size_t shown = cut(input, size, INPUT_SHOWN);
    size_t length = escape(line, input, shown);
    length += (size_t)sprintf(line + length, "%s: ", shown < size ? "..." : "");
    length += escape(line + length, text, strnlen(text, TEXT_SHOWN));
    line[length++] = '\n';
    write_line(line, length);
}

void say(const char *format, ...)
{
    char text[TEXT_SHOWN + 1];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say_pair("procpool", 8, text);
}

void say_below(const char *text)
{
    char line[TEXT_SHOWN * WIDEST + 8];
    for (size_t size; *text; text += size + (text[size] == '\n')) {
        size = strcspn(text, "\n");
        size_t length = (size_t)sprintf(line, "    ");
        length += escape(line + length, text, cut(text, size, TEXT_SHOWN));
        line[length++] = '\n';
        write_line(line, length);
    }
}

void say_failure(const void *input, size_t size, const char *reason)
{
    say_pair(size ? input : "", size, reason);
}
