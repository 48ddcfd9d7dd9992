/* SPDX-License-Identifier: MIT */
/* Pages of the web, by libcurl. */
#ifndef PP_EXAMPLES_PAGE_H
#define PP_EXAMPLES_PAGE_H

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The page at `url` and its size, for free(); NULL: it can't be had, and `error` says why. */
static inline char *load_page(const char *url, size_t *size, char error[CURL_ERROR_SIZE])
{
    char *page = NULL;
    CURL *curl = curl_easy_init();
    FILE *memory = open_memstream(&page, size);
    error[0] = '\0';
    CURLcode code = CURLE_OUT_OF_MEMORY;
    if (curl && memory) {
        curl_easy_setopt(curl, CURLOPT_URL, url);
        curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
        curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, memory); /* by fwrite */
        code = curl_easy_perform(curl);
    }
    if (memory && fclose(memory) != 0)
        code = CURLE_OUT_OF_MEMORY;
    curl_easy_cleanup(curl);
    if (code == CURLE_OK && strstr(page, "crash"))
        abort(); /* as a parser might that meets a broken page */
    if (code == CURLE_OK)
        return page;
    if (!error[0])
        snprintf(error, CURL_ERROR_SIZE, "%s", curl_easy_strerror(code));
    free(page);
    return NULL;
}

/* How large a page is, or why it can't be had. */
struct answer {
    char text[CURL_ERROR_SIZE];
};

static inline struct answer request_page(const char *url)
{
    struct answer answer = {""};
    size_t size;
    char *page = load_page(url, &size, answer.text);
    if (page)
        snprintf(answer.text, sizeof answer.text, "%zu bytes", size);
    free(page);
    return answer;
}

#endif
