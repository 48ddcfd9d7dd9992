/* SPDX-License-Identifier: MIT */
/*
 * Shared memory on huge pages, where the kernel gives them (MADV_COLLAPSE, Linux 6.1): it is there in a fraction of the
 * time, mapped with a fault for each huge page, protected or unmapped at once, and copied faster; most of all in a
 * virtual machine. Nothing here fails for want of huge pages: without, all is as it was.
 */
#ifndef PP_SHM_HUGE_H
#define PP_SHM_HUGE_H

#include <stddef.h>

/* Bytes, where other pages have 4 KiB. Where these are larger, so are huge ones, and the kernel gives none for this. */
#define PP__HUGE_PAGE ((size_t)2 << 20)

/* `room`, or some more, so that what is left behind whole huge pages is less than half of one. */
size_t pp__huge_room(size_t room);

/*
 * `before` bytes (a multiple of the page size) and `size` more, private and without memory yet, to map a file over the
 * latter: at an address at which huge pages can be mapped as such, if that is long enough for one and there is such an
 * address. NULL: there is none at all.
 */
void *pp__huge_reserve(size_t before, size_t size, int protection);

/* Makes an empty file `size` bytes long and gives it huge pages, from its begin on, as far as they go and the kernel
 * has them; nothing behind. `memory`: where all of it is mapped, for writing. */
void pp__huge_back(int fd, void *memory, size_t size);

#endif
