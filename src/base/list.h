/* SPDX-License-Identifier: MIT */
/* Doubly linked lists with the link inside the element; an unlinked link points to itself. */
#ifndef PP_BASE_LIST_H
#define PP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct pp__link {
    struct pp__link *previous, *next;
};

#define pp__container(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void pp__list_init(struct pp__link *list)
{
    list->previous = list->next = list;
}

static inline bool pp__list_empty(const struct pp__link *list)
{
    return list->next == list;
}

/* Puts `link` before `place`: with the list's head as place, at the end. */
static inline void pp__list_insert(struct pp__link *place, struct pp__link *link)
{
    link->previous = place->previous;
    link->next = place;
    place->previous->next = link;
    place->previous = link;
}

static inline void pp__list_remove(struct pp__link *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
    pp__list_init(link);
}

#endif
