/* SPDX-License-Identifier: MIT */
#include "harness.h"

#include "base/list.h"

struct element {
    int number;
    struct pp__link link;
};

static int number(struct pp__link *link)
{
    return pp__container(link, struct element, link)->number;
}

/* The numbers along `next`, as the digits of one number; checks that `previous` mirrors it. */
static int digits(struct pp__link *list)
{
    int all = 0;
    for (struct pp__link *link = list->next; link != list; link = link->next) {
        CHECK(link->next->previous == link);
        CHECK(link->previous->next == link);
        all = all * 10 + number(link);
    }
    CHECK(list->next->previous == list);
    return all;
}

TEST(an_initialized_list_is_empty)
{
    struct pp__link list;
    pp__list_init(&list);
    CHECK(pp__list_empty(&list));
    CHECK_INT(digits(&list), 0);
}

TEST(inserting_before_the_head_appends)
{
    struct pp__link list;
    struct element elements[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    pp__list_init(&list);
    for (int i = 0; i < 3; i++)
        pp__list_insert(&list, &elements[i].link);
    CHECK(!pp__list_empty(&list));
    CHECK_INT(digits(&list), 123);
}

TEST(inserting_before_the_first_prepends)
{
    struct pp__link list;
    struct element elements[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    pp__list_init(&list);
    for (int i = 0; i < 3; i++)
        pp__list_insert(list.next, &elements[i].link);
    CHECK_INT(digits(&list), 321);
}

TEST(inserting_before_an_element_puts_it_in_the_middle)
{
    struct pp__link list;
    struct element elements[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    pp__list_init(&list);
    pp__list_insert(&list, &elements[0].link);
    pp__list_insert(&list, &elements[1].link);
    pp__list_insert(&elements[1].link, &elements[2].link);
    CHECK_INT(digits(&list), 132);
}

TEST(removing_takes_first_middle_and_last)
{
    struct pp__link list;
    struct element elements[5];
    pp__list_init(&list);
    for (int i = 0; i < 5; i++) {
        elements[i].number = i + 1;
        pp__list_insert(&list, &elements[i].link);
    }
    pp__list_remove(&elements[2].link);
    CHECK_INT(digits(&list), 1245);
    pp__list_remove(&elements[0].link);
    CHECK_INT(digits(&list), 245);
    pp__list_remove(&elements[4].link);
    CHECK_INT(digits(&list), 24);
    pp__list_remove(&elements[1].link);
    pp__list_remove(&elements[3].link);
    CHECK(pp__list_empty(&list));
}

TEST(a_removed_element_may_be_removed_again_and_put_in_again)
{
    struct pp__link list;
    struct element elements[2] = {{.number = 1}, {.number = 2}};
    pp__list_init(&list);
    pp__list_insert(&list, &elements[0].link);
    pp__list_insert(&list, &elements[1].link);
    pp__list_remove(&elements[0].link);
    CHECK(pp__list_empty(&elements[0].link));
    pp__list_remove(&elements[0].link);
    CHECK_INT(digits(&list), 2);
    pp__list_insert(&list, &elements[0].link);
    CHECK_INT(digits(&list), 21);
}
