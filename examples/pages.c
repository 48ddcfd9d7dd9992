/* SPDX-License-Identifier: MIT */
/* Pages, loaded by three workers, each given out with its URL. One that can't be had, hangs, or crashes its worker
 * costs itself alone. */
#include "common.h"
#include "page.h"

#include <procpool.h>
#include <string.h>

static int load_url(pp_task *task, const void *url, size_t size)
{
    char error[CURL_ERROR_SIZE];
    char *page = load_page(url, &size, error);
    int code = page ? pp_task_return(task, page, size) : pp_task_fail(task, -1, "%s", error);
    free(page);
    return code;
}

/* A pp_map_source: the arguments. */
static int next_url(void *arguments, pp_map_input *input)
{
    input->data = input->tag = *(*(char ***)arguments)++;
    input->size = input->data ? strlen(input->data) : 0;
    return input->data != NULL;
}

int main(int argc, char **argv)
{
    pp_worker_main();
    PP_CLEANUP_POOL pp_pool *pool = NULL;
    char **urls = argv + (argc > 0);
    pp_map *map;
    pp_map_result page;
    check(pp_pool_create(&(pp_pool_options){.max_workers = 3}, &pool));
    check(pp_map_open(pool, load_url, next_url, &urls, &(pp_map_options){.timeout = 3000}, &map));
    while (check(pp_map_next(map, -1, &page)) > 0)
        if (page.code == 0)
            printf("'%s' page is %zu bytes\n", (char *)page.tag, page.size);
        else
            printf("'%s' page is not there: %s\n", (char *)page.tag, page.error->message);
    pp_map_close(map);
}
