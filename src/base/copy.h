/* SPDX-License-Identifier: MIT */
/*
 * Copies of few bytes, without a call where the size is a frequent one. By words of 8 bytes: what was stored a moment
 * ago as words can be loaded as words at once, but as one vector only when it has reached the cache.
 */
#ifndef PP_BASE_COPY_H
#define PP_BASE_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* As memmove. */
static inline void pp__copy_few(void *to, const void *from, size_t size)
{
    uint64_t words[2];
    if (size == 16) {
        memcpy(words, from, 16);
        __asm__("" : "+r"(words[0]), "+r"(words[1])); /* keeps them apart */
        memcpy(to, words, 16);
    } else if (size == 8) {
        memmove(to, from, 8);
    } else if (size == 4) {
        memmove(to, from, 4);
    } else if (size > 0) {
        memmove(to, from, size);
    }
}

/* As memcpy, of a multiple of 16 bytes. */
static inline void pp__copy_words(void *to, const void *from, size_t size)
{
    for (size_t at = 0; at < size; at += 16) {
        uint64_t words[2];
        memcpy(words, (const char *)from + at, 16);
        __asm__("" : "+r"(words[0]), "+r"(words[1]));
        memcpy((char *)to + at, words, 16);
    }
}

#endif
