/* SPDX-License-Identifier: MIT */
/* A process for each URL. One that fails, or crashes, costs its own page. */
#include "page.h"

#include <procpool.h>
#include <string.h>

static int request_url(void *url, size_t size)
{
    char error[CURL_ERROR_SIZE];
    char *page = load_page(url, &size, error);
    printf("%s: %s\n", (char *)url, page ? "there" : error);
    return page ? 0 : 1;
}

int main(int argc, char **argv)
{
    pp_worker_main();
    pp_process *tasks[argc];
    for (int i = 1; i < argc; i++)
        if (pp_process_start(request_url, argv[i], strlen(argv[i]), NULL, &tasks[i]) != 0)
            return fprintf(stderr, "urls: %s\n", pp_last_error()), 1;
    for (int i = 1; i < argc; i++) {
        pp_process_join(tasks[i], -1);
        pp_process_unref(tasks[i]);
    }
}
