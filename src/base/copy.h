/* SPDX-License-Identifier: MIT */
/*
 * Copies of few bytes, without a call where the size is a frequent one. What was stored a moment ago can be loaded at
 * once by who loads no more than one store has stored; else only when it has reached the cache, 15 cycles later. So
 * what a program has just written is loaded by halves of words, and stored by words.
 */
#ifndef PP_BASE_COPY_H
#define PP_BASE_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t pp__load_halves(const void *from)
{
    uint32_t low, high;
    memcpy(&low, from, 4);
    memcpy(&high, (const char *)from + 4, 4);
    __asm__("" : "+r"(low), "+r"(high)); /* keeps them apart */
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return high | (uint64_t)low << 32;
#else
    return low | (uint64_t)high << 32;
#endif
}

/* As memmove, of what a program may just have written. */
static inline void pp__copy_few(void *to, const void *from, size_t size)
{
    if (size == 16) {
        uint64_t words[2] = {pp__load_halves(from), pp__load_halves((const char *)from + 8)};
        __asm__("" : "+r"(words[0]), "+r"(words[1]));
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
