/* SPDX-License-Identifier: MIT */
/* A process for each URL puts what it has found into a dictionary that all share. One that hangs or crashes has put
 * nothing; all else is there. */
#include "page.h"

#include <procpool.h>
#include <string.h>

/* What a process is given: the dictionary's descriptor, which it inherits, and its URL. */
struct request {
    int results;
    char url[PP_DICT_KEY_MAX + 1];
};

static int request_url(void *given, size_t size)
{
    struct request *request = given;
    pp_dict *results;
    char error[CURL_ERROR_SIZE], answer[CURL_ERROR_SIZE];
    if (pp_dict_open(request->results, &results) != 0)
        return 1;
    char *page = load_page(request->url, &size, error);
    if (page && strstr(page, "crash"))
        abort(); /* as a parser might that meets a broken page */
    if (page)
        snprintf(answer, sizeof answer, "%zu bytes", size);
    const char *found = page ? answer : error;
    int code = pp_dict_put(results, request->url, strlen(request->url), found, strlen(found)) != 0;
    free(page);
    pp_dict_unref(results);
    return code;
}

static pp_process *start(pp_dict *results, const char *url)
{
    pp_process *process;
    struct request request = {.results = pp_dict_fd(results)};
    const pp_process_options options = {.inherit_fds = &request.results, .inherit_fd_count = 1};
    if (strlen(url) >= sizeof request.url) {
        fprintf(stderr, "results: a URL of more than %d bytes is no key\n", PP_DICT_KEY_MAX);
        exit(1);
    }
    memcpy(request.url, url, strlen(url) + 1);
    if (pp_process_start(request_url, &request, sizeof request, &options, &process) == 0)
        return process;
    fprintf(stderr, "results: %s\n", pp_last_error());
    exit(1);
}

static void print_result(pp_dict *results, const char *url)
{
    void *found = NULL;
    size_t size;
    if (pp_dict_copy(results, url, strnlen(url, PP_DICT_KEY_MAX), &found, &size) == 0)
        printf("%s: %s\n", url, (char *)found);
    else
        printf("%s: no result\n", url);
    pp_free(found);
}

int main(int argc, char **argv)
{
    pp_worker_main();
    pp_dict *results;
    pp_process *tasks[argc];
    if (pp_dict_create(NULL, &results) != 0)
        return fprintf(stderr, "results: %s\n", pp_last_error()), 1;
    for (int i = 1; i < argc; i++)
        tasks[i] = start(results, argv[i]);
    for (int i = 1; i < argc; i++) {
        pp_process_join(tasks[i], 1000);
        pp_process_unref(tasks[i]); /* kills it if it is not done */
    }
    for (int i = 1; i < argc; i++)
        print_result(results, argv[i]);
    pp_dict_unref(results);
}
