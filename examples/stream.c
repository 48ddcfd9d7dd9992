/* SPDX-License-Identifier: MIT */
/*
 * Lines of standard input, reversed in worker processes and printed in order, with as little memory for a hundred
 * million of them as for a hundred. A line that says "crash" costs itself and nothing else.
 */
#include <procpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int reverse(pp_task *task, const void *arg, size_t size)
{
    const char *line = arg;
    char *out = pp_task_reserve(task, size);
    if (!out)
        return pp_task_fail(task, -1, "%s", pp_last_error());
    if (strcmp(line, "crash") == 0)
        abort();
    for (size_t i = 0; i < size; i++)
        out[i] = line[size - 1 - i];
    return 0;
}

/* A pp_map_source. The map copies what it is given, so one buffer serves all lines. */
static int next_line(void *context, pp_map_input *input)
{
    static char line[4096];
    if (!fgets(line, sizeof line, context))
        return 0;
    input->data = line;
    input->size = strcspn(line, "\n");
    return 1;
}

int main(void)
{
    pp_worker_main();
    PP_CLEANUP_POOL pp_pool *pool = NULL;
    pp_map *map;
    pp_map_result result;
    int code = pp_pool_create(NULL, &pool);
    if (code == 0)
        code = pp_map_open(pool, reverse, next_line, stdin, NULL, &map);
    if (code != 0) {
        fprintf(stderr, "stream: %s\n", pp_last_error());
        return 1;
    }
    while ((code = pp_map_next(map, -1, &result)) == 1) {
        if (result.code == 0)
            printf("%s\n", (const char *)result.data);
        else
            fprintf(stderr, "%.*s: %s\n", (int)result.input_size, (const char *)result.input, result.error->message);
    }
    pp_map_close(map);
    return code != 0;
}
