/* SPDX-License-Identifier: MIT */
/*
 * Several inputs at once: pairs of lines of two files, compared in worker processes and printed in order. The callback
 * that gives the inputs puts a pair together, and stops when the shorter file does. The numbers of lines that differ
 * are printed with how they do.
 */
#include <procpool.h>
#include <stdio.h>
#include <string.h>

struct pair {
    char left[512], right[512];
};

struct files {
    FILE *left, *right;
    struct pair pair;
};

/* A pp_map_source. */
static int next_pair(void *context, pp_map_input *input)
{
    struct files *files = context;
    struct pair *pair = &files->pair;
    if (!fgets(pair->left, sizeof pair->left, files->left) || !fgets(pair->right, sizeof pair->right, files->right))
        return 0;
    input->data = pair;
    input->size = sizeof *pair;
    return 1;
}

/* How many characters are the same from the left on; nothing where all are. */
static int compare(pp_task *task, const void *arg, size_t size)
{
    const struct pair *pair = arg;
    (void)size;
    if (strcmp(pair->left, pair->right) == 0)
        return 0;
    size_t same = 0;
    while (pair->left[same] == pair->right[same])
        same++;
    return pp_task_return(task, &same, sizeof same);
}

static int print_differences(pp_map *map)
{
    pp_map_result result;
    int code;
    while ((code = pp_map_next(map, -1, &result)) == 1) {
        size_t same;
        if (result.code != 0)
            fprintf(stderr, "%llu: %s\n", (unsigned long long)result.index + 1, result.error->message);
        if (result.size != sizeof same)
            continue;
        memcpy(&same, result.data, sizeof same);
        printf("%llu: from character %zu on\n", (unsigned long long)result.index + 1, same + 1);
    }
    return code;
}

int main(int argc, char **argv)
{
    pp_worker_main();
    PP_CLEANUP_POOL pp_pool *pool = NULL;
    pp_map *map;
    struct files files = {.left = argc == 3 ? fopen(argv[1], "r") : NULL,
                          .right = argc == 3 ? fopen(argv[2], "r") : NULL};
    if (!files.left || !files.right) {
        fprintf(stderr, "usage: pairs FILE FILE\n");
        return 2;
    }
    int code = pp_pool_create(NULL, &pool);
    if (code == 0)
        code = pp_map_open(pool, compare, next_pair, &files, NULL, &map);
    if (code == 0) {
        code = print_differences(map);
        pp_map_close(map);
    }
    if (code != 0)
        fprintf(stderr, "pairs: %s\n", pp_last_error());
    fclose(files.left);
    fclose(files.right);
    return code != 0;
}
