/* SPDX-License-Identifier: MIT */
/* A process for each URL puts what it has found into a dictionary that all share. One that hangs or crashes has put
 * nothing; all else is there. */
#include "common.h"
#include "page.h"

#include <procpool.h>
#include <string.h>

static pp_dict *results; /* forked processes have it from before the fork */

static int request_url(void *url, size_t size)
{
    struct answer answer = request_page(url);
    return check(pp_dict_put(results, url, size, &answer, sizeof answer));
}

int main(int argc, char **argv)
{
    pp_worker_main();
    pp_process *tasks[argc];
    const pp_process_options options = {.start_method = PP_START_FORK};
    check(pp_dict_create(NULL, &results));
    for (int i = 1; i < argc; i++)
        check(pp_process_start(request_url, argv[i], strlen(argv[i]), &options, &tasks[i]));
    for (int i = 1; i < argc; i++) {
        struct answer answer = {"no result"};
        finish(tasks[i], argv[i]);
        pp_dict_get(results, argv[i], strlen(argv[i]), &answer, sizeof answer, NULL);
        printf("%s: %s\n", argv[i], answer.text);
    }
    pp_dict_unref(results);
}
