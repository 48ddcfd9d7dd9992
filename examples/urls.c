/* SPDX-License-Identifier: MIT */
/* A process for each URL. One that fails, hangs, or crashes, costs its own page. */
#include "page.h"

#include <procpool.h>
#include <string.h>

static int request_url(void *url, size_t size)
{
    char error[CURL_ERROR_SIZE];
    char *page = load_page(url, &size, error);
    if (page && strstr(page, "crash"))
        abort(); /* as a parser might that meets a broken page */
    int code = page ? 0 : 1;
    printf("%s: %s\n", (char *)url, page ? "there" : error);
    free(page);
    return code;
}

/* One second more for who is not done by now. */
static void finish(pp_process *process, const char *url)
{
    int code = 0;
    if (pp_process_join(process, 1000) != 0) {
        pp_process_kill(process);
        pp_process_join(process, -1);
    }
    pp_process_exit_code(process, &code);
    if (code < 0)
        printf("%s: its process was ended by signal %d\n", url, -code);
    pp_process_unref(process);
}

int main(int argc, char **argv)
{
    pp_worker_main();
    pp_process *tasks[argc];
    for (int i = 1; i < argc; i++)
        if (pp_process_start(request_url, argv[i], strlen(argv[i]), NULL, &tasks[i]) != 0)
            return fprintf(stderr, "urls: %s\n", pp_last_error()), 1;
    for (int i = 1; i < argc; i++)
        finish(tasks[i], argv[i]);
}
