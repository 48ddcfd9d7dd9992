/* SPDX-License-Identifier: MIT */
/* A process for each URL. One that fails, hangs, or crashes, costs its own page. */
#include "common.h"
#include "page.h"

#include <procpool.h>
#include <string.h>

static int request_url(void *url, size_t size)
{
    struct answer answer = request_page(url);
    printf("%.*s: %s\n", (int)size, (char *)url, answer.text);
    return 0;
}

int main(int argc, char **argv)
{
    pp_worker_main();
    pp_process *tasks[argc];
    for (int i = 1; i < argc; i++)
        check(pp_process_start(request_url, argv[i], strlen(argv[i]), NULL, &tasks[i]));
    for (int i = 1; i < argc; i++)
        finish(tasks[i], argv[i]);
}
