/* SPDX-License-Identifier: MIT */
/* Which functions can be tasks, and that a worker runs the very function that was submitted or none. */
#include "call_kit.h"

#include <dlfcn.h>
#include <elf.h>
#include <grp.h>
#include <limits.h>
#include <sys/auxv.h>

#define TWIN_A PP_TEST_PLUGINS "/libpool_twin_a.so"
#define TWIN_B PP_TEST_PLUGINS "/libpool_twin_b.so"

enum { BEGUN, GATE };

/* ------------------------------------------------------------------------------------------- plugins */

static pp_function *function_at(void *address)
{
    pp_function *function;
    memcpy(&function, &address, sizeof function);
    return function;
}

static void *open_plugin(const char *path)
{
    void *plugin = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!plugin)
        harness_fail(__FILE__, __LINE__, "%s", dlerror());
    return plugin;
}

static pp_function *plugin_function(void *plugin, const char *name)
{
    void *address = dlsym(plugin, name);
    CHECK(address != NULL);
    return function_at(address);
}

/* A directory of this test's own, to copy plugins to, and a path in it. */
static char place[PATH_MAX / 2];

static const char *in_place(const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    if (!*place) {
        const char *where = getenv("TMPDIR");
        snprintf(place, sizeof place, "%s/procpool-XXXXXX", where ? where : "/tmp");
        CHECK(mkdtemp(place) != NULL);
        char *real = realpath(place, NULL);
        CHECK(real != NULL);
        snprintf(place, sizeof place, "%s", real);
        free(real);
    }
    snprintf(path, PATH_MAX, "%s/%s", place, name);
    return path;
}

static void remove_place(void)
{
    DIR *directory = opendir(place);
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory));)
        unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    CHECK_INT(rmdir(place), 0);
}

static size_t read_file(const char *path, unsigned char **bytes)
{
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &s) == 0);
    *bytes = malloc((size_t)s.st_size);
    CHECK(*bytes != NULL);
    CHECK_INT(read(fd, *bytes, (size_t)s.st_size), s.st_size);
    close(fd);
    return (size_t)s.st_size;
}

/* As programs are installed: written under another name, then renamed. */
static void write_file(const char *path, const void *bytes, size_t size)
{
    const char *new = in_place("new");
    int fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    CHECK(fd >= 0);
    CHECK_INT(write(fd, bytes, size), size);
    close(fd);
    CHECK_INT(rename(new, path), 0);
}

static void copy_file(const char *from, const char *to)
{
    unsigned char *bytes;
    size_t size = read_file(from, &bytes);
    write_file(to, bytes, size);
    free(bytes);
}

/* The same module, its build-id made a note of a kind that nobody knows. */
static void copy_without_build_id(const char *from, const char *to)
{
    static const Elf64_Nhdr wanted = {.n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID};
    unsigned char *bytes;
    size_t size = read_file(from, &bytes), found = 0;
    for (size_t i = 0; i + sizeof wanted + 4 <= size; i += 4) {
        if (memcmp(bytes + i, &wanted, sizeof wanted) != 0 || memcmp(bytes + i + sizeof wanted, "GNU", 4) != 0)
            continue;
        bytes[i + offsetof(Elf64_Nhdr, n_type)] = 0x77;
        found++;
    }
    CHECK_INT(found, 1);
    write_file(to, bytes, size);
    free(bytes);
}

/* The one letter that a twin returns. */
static void expect_letter(pp_pool *pool, pp_function *function, char letter)
{
    char text[2] = "";
    pp_future *future = submit(pool, function, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, text, 1, NULL));
    CHECK_INT(text[0], letter);
    pp_future_unref(future);
}

/* The call fails as one that can't travel, with this in its message. */
static void expect_no_travel(pp_pool *pool, pp_function *function, const char *part)
{
    const pp_error *error;
    pp_future *future = submit(pool, function, NULL, 0);
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK(error != NULL);
    CHECK_INT(error->kind, PP_ERROR_TRAVEL);
    CHECK_INT(error->code, -EBADMSG);
    CHECK_HAS(error->message, part);
    pp_future_unref(future);
}

static pid_t worker_pid(pp_pool *pool)
{
    pid_t pids[2];
    pp_future *future = submit(pool, who, NULL, 0);
    CHECK_OK(pp_future_result(future, -1, pids, sizeof pids, NULL));
    pp_future_unref(future);
    return pids[0];
}

/* -------------------------------------------------------------------------------- functions that run */

BOTH(a_static_function_runs_and_is_named)
{
    pp_pool *pool = kit_pool(method, 1);
    const pp_error *error;
    expect_usable(pool);
    pp_future *future = submit(pool, refuse, NULL, 0);
    CHECK_OK(pp_future_error(future, -1, &error));
    CHECK_INT(error->kind, PP_ERROR_TASK);
    CHECK_STR(error->function, "refuse");
    pp_future_unref(future);
    pp_pool_destroy(pool);
}

/* memcmp of nothing has a task's signature and its good end. */
BOTH(a_function_of_a_shared_library_runs)
{
    pp_pool *pool = kit_pool(method, 1);
    void *libc = dlopen("libc.so.6", RTLD_LAZY);
    CHECK(libc != NULL);
    expect_end(submit(pool, plugin_function(libc, "memcmp"), "", 0), 0);
    pp_pool_destroy(pool);
    dlclose(libc);
}

BOTH(a_function_of_a_plugin_opened_before_the_pool_runs)
{
    void *plugin = open_plugin(TWIN_A);
    pp_pool *pool = kit_pool(method, 2);
    expect_letter(pool, plugin_function(plugin, "twin"), 'A');
    pp_pool_destroy(pool);
    dlclose(plugin);
}

BOTH(a_function_of_a_plugin_opened_after_the_workers_have_started_runs_in_each_of_them)
{
    pp_future *futures[4];
    board_make();
    pp_pool *pool = kit_pool(method, 2);
    occupy(pool, BEGUN, GATE, 2, futures);
    void *plugin = open_plugin(TWIN_A);
    pp_function *twin = plugin_function(plugin, "twin");
    for (int i = 2; i < 4; i++)
        futures[i] = submit(pool, twin, NULL, 0);
    open_gate(GATE);
    for (int i = 0; i < 4; i++)
        expect_end(futures[i], 0);
    for (int i = 0; i < 50; i++)
        expect_letter(pool, twin, 'A');
    pp_pool_destroy(pool);
    dlclose(plugin);
}

BOTH(functions_of_the_same_name_in_two_plugins_are_told_apart)
{
    void *a = open_plugin(TWIN_A);
    pp_pool *pool = kit_pool(method, 1);
    void *b = open_plugin(TWIN_B);
    for (int i = 0; i < 10; i++) {
        expect_letter(pool, plugin_function(a, "twin"), 'A');
        expect_letter(pool, plugin_function(b, "twin"), 'B');
    }
    pp_pool_destroy(pool);
    dlclose(a);
    dlclose(b);
}

/* Two files with one build-id are one module to a worker, which is all the same: so is their code. */
BOTH(two_copies_of_one_plugin_both_run)
{
    pp_pool *pool = kit_pool(method, 1);
    copy_file(TWIN_A, in_place("one.so"));
    copy_file(TWIN_A, in_place("two.so"));
    void *one = open_plugin(in_place("one.so")), *two = open_plugin(in_place("two.so"));
    CHECK(plugin_function(one, "twin") != plugin_function(two, "twin"));
    expect_letter(pool, plugin_function(one, "twin"), 'A');
    expect_letter(pool, plugin_function(two, "twin"), 'A');
    pp_pool_destroy(pool);
    remove_place();
}

/* The worker is elsewhere: it needs the real path. */
BOTH(a_plugin_opened_by_a_relative_path_runs)
{
    copy_file(TWIN_A, in_place("relative.so"));
    pp_pool *pool = kit_pool(method, 1);
    expect_usable(pool);
    CHECK_INT(chdir(place), 0);
    void *plugin = open_plugin("./relative.so");
    expect_letter(pool, plugin_function(plugin, "twin"), 'A');
    CHECK_INT(chdir("/"), 0);
    expect_letter(pool, plugin_function(plugin, "twin"), 'A');
    pp_pool_destroy(pool);
    remove_place();
}

static void become_nobody(void)
{
    CHECK_INT(setgroups(0, NULL), 0);
    CHECK_INT(setresgid(65534, 65534, 65534), 0);
    CHECK_INT(setresuid(65534, 65534, 65534), 0);
}

/* Root may read whatever it likes. A fork has what its parent had open. */
TEST(a_plugin_that_a_worker_may_not_read_fails_the_call_alone)
{
    if (TEST_ON_VALGRIND)
        LEFT_OUT("as another user valgrind can't write a log for a fork, and ends it");
    const char *path = in_place("unreadable.so");
    copy_file(TWIN_A, path);
    CHECK_INT(chmod(place, 0777), 0);
    void *plugin = open_plugin(path);
    CHECK_INT(chmod(path, 0), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (geteuid() == 0)
            become_nobody();
        CHECK(geteuid() != 0);
        pp_pool *pool = kit_pool(PP_START_SPAWN, 1);
        expect_usable(pool);
        pp_future *future = submit(pool, plugin_function(plugin, "twin"), NULL, 0);
        const pp_error *error;
        CHECK_OK(pp_future_error(future, -1, &error));
        CHECK(error && error->kind == PP_ERROR_TRAVEL && error->task_code == -EBADMSG);
        CHECK_HAS(error->message, "can't be opened in the worker: Permission denied");
        pp_future_unref(future);
        expect_usable(pool);
        pp_pool_destroy(pool);
        _exit(0);
    }
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    dlclose(plugin);
    remove_place();
}

static bool is_open(const char *path)
{
    void *plugin = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (plugin)
        dlclose(plugin);
    return plugin != NULL;
}

/* A plugin under thread sanitizer is never unloaded. */
BOTH(a_plugin_that_the_owner_closes_stays_callable_until_the_pool_is_gone)
{
    copy_file(TWIN_A, in_place("closed.so"));
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pp_future *running, *behind;
    occupy(pool, BEGUN, GATE, 1, &running);
    void *plugin = open_plugin(in_place("closed.so"));
    pp_function *twin = plugin_function(plugin, "twin");
    behind = submit(pool, twin, NULL, 0);
    CHECK_INT(dlclose(plugin), 0);
    CHECK(is_open(in_place("closed.so")));
    open_gate(GATE);
    expect_end(running, 0);
    expect_end(behind, 0);
    expect_letter(pool, twin, 'A');
    pp_pool_destroy(pool);
    if (!KIT_TSAN)
        CHECK(!is_open(in_place("closed.so")));
    remove_place();
}

/* ----------------------------------------------------------------------------- files that are others */

/* A plugin opened by the owner, then replaced: the worker that must open it meets another one. */
static void check_replaced(pp_start_method method, void (*replace)(const char *path), const char *part)
{
    board_make();
    pp_pool *pool = kit_pool(method, 1);
    pid_t worker = worker_pid(pool);
    copy_file(TWIN_A, in_place("plugin.so"));
    void *plugin = open_plugin(in_place("plugin.so"));
    pp_function *twin = plugin_function(plugin, "twin");
    replace(in_place("plugin.so"));
    expect_no_travel(pool, twin, part);
    expect_no_travel(pool, twin, in_place("plugin.so"));
    expect_usable(pool);
    CHECK_INT(worker_pid(pool), worker);
    void *other = open_plugin(TWIN_B);
    expect_letter(pool, plugin_function(other, "twin"), 'B');
    pp_future *before = submit_u32(pool, echo, 1), *call = submit(pool, twin, NULL, 0),
              *behind = submit_u32(pool, echo, 2);
    expect_end(before, 0);
    expect_end(call, -EBADMSG);
    expect_end(behind, 0);
    CHECK_INT(worker_pid(pool), worker);
    pp_pool_destroy(pool);
    remove_place();
}

static void replace_by_twin(const char *path)
{
    copy_file(TWIN_B, path);
}

static void replace_by_text(const char *path)
{
    write_file(path, "no library\n", 11);
}

static void remove_file(const char *path)
{
    CHECK_INT(unlink(path), 0);
}

static void replace_by_twin_without_build_id(const char *path)
{
    copy_without_build_id(TWIN_A, path);
}

BOTH(a_plugin_replaced_by_another_is_not_run)
{
    check_replaced(method, replace_by_twin, "replaced on disk");
}

BOTH(a_plugin_replaced_by_one_without_build_id_is_not_run)
{
    check_replaced(method, replace_by_twin_without_build_id, "replaced on disk");
}

BOTH(a_plugin_replaced_by_what_is_no_library_is_not_run)
{
    check_replaced(method, replace_by_text, "is no library any more");
}

BOTH(a_plugin_whose_file_is_gone_is_not_run)
{
    check_replaced(method, remove_file, "No such file or directory");
}

/* What the zygote has from the owner's memory needs no file. */
TEST(under_fork_a_plugin_opened_before_the_pool_runs_though_its_file_is_another)
{
    copy_file(TWIN_A, in_place("plugin.so"));
    void *plugin = open_plugin(in_place("plugin.so"));
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    copy_file(TWIN_B, in_place("plugin.so"));
    expect_letter(pool, plugin_function(plugin, "twin"), 'A');
    pp_pool_destroy(pool);
    CHECK_INT(unlink(in_place("plugin.so")), 0);
    pool = kit_pool(PP_START_FORK, 1);
    expect_letter(pool, plugin_function(plugin, "twin"), 'A');
    pp_pool_destroy(pool);
    remove_place();
}

/* Once it has been opened in the worker, its file may go. */
BOTH(a_plugin_that_a_worker_has_opened_runs_on_though_its_file_is_gone)
{
    copy_file(TWIN_A, in_place("plugin.so"));
    pp_pool *pool = kit_pool(method, 1);
    expect_usable(pool);
    void *plugin = open_plugin(in_place("plugin.so"));
    expect_letter(pool, plugin_function(plugin, "twin"), 'A');
    CHECK_INT(unlink(in_place("plugin.so")), 0);
    expect_letter(pool, plugin_function(plugin, "twin"), 'A');
    pp_pool_destroy(pool);
    remove_place();
}

/* -------------------------------------------------------------------------------------- no build-id */

static void note_line(void *data, const char *line)
{
    if (strstr(line, "has no build-id") && strstr(line, place))
        atomic_fetch_add((atomic_int *)data, 1);
}

BOTH(a_plugin_without_build_id_runs_and_the_log_says_so)
{
    static atomic_int lines;
    copy_without_build_id(TWIN_A, in_place("early.so"));
    copy_without_build_id(TWIN_B, in_place("late.so"));
    void *early = open_plugin(in_place("early.so"));
    pp_pool *pool = kit_pool_with(method, (pp_pool_options){.max_workers = 1, .log = note_line, .log_data = &lines});
    expect_usable(pool);
    CHECK_INT(lines, 0);
    void *late = open_plugin(in_place("late.so"));
    for (int i = 0; i < 3; i++) {
        expect_letter(pool, plugin_function(early, "twin"), 'A');
        expect_letter(pool, plugin_function(late, "twin"), 'B');
    }
    pp_pool_destroy(pool);
    CHECK_INT(lines, 2);
    remove_place();
}

/* The copy is the same to the last byte, and has another inode. */
BOTH(a_plugin_without_build_id_is_not_run_from_a_copy)
{
    copy_without_build_id(TWIN_A, in_place("plugin.so"));
    pp_pool *pool = kit_pool(method, 1);
    expect_usable(pool);
    void *plugin = open_plugin(in_place("plugin.so"));
    copy_without_build_id(TWIN_A, in_place("plugin.so"));
    expect_no_travel(pool, plugin_function(plugin, "twin"), "replaced on disk");
    expect_usable(pool);
    pp_pool_destroy(pool);
    remove_place();
}

/*
 * The zygote has the first plugin in memory, the owner the second one, under the same path and, with luck, at the same
 * address. Whether the worker finds the second one or says that it can't: it does not run the first.
 */
static void check_second_plugin(pp_pool *pool, void (*copy)(const char *from, const char *to))
{
    char text[2] = "";
    copy(TWIN_B, in_place("plugin.so"));
    void *plugin = open_plugin(in_place("plugin.so"));
    pp_future *future = submit(pool, plugin_function(plugin, "twin"), NULL, 0);
    int error = pp_future_result(future, -1, text, 1, NULL);
    if (error != -EBADMSG)
        CHECK_OK(error);
    CHECK_INT(text[0], error ? 0 : 'B');
    pp_future_unref(future);
    expect_usable(pool);
    pp_pool_destroy(pool);
    remove_place();
}

static void close_first_plugin(void (*copy)(const char *from, const char *to))
{
    copy(TWIN_A, in_place("plugin.so"));
    void *plugin = open_plugin(in_place("plugin.so"));
    pp_pool *pool = kit_pool(PP_START_FORK, 1);
    CHECK_INT(dlclose(plugin), 0);
    check_second_plugin(pool, copy);
}

TEST(under_fork_a_plugin_is_told_from_one_that_was_closed_since)
{
    close_first_plugin(copy_file);
}

TEST(under_fork_a_plugin_without_build_id_is_told_from_one_that_was_closed_since)
{
    close_first_plugin(copy_without_build_id);
}

static void preload_first_plugin(void (*copy)(const char *from, const char *to))
{
    pp_launcher *launcher;
    pp_pool *pool;
    copy(TWIN_A, in_place("plugin.so"));
    const char *const preload[] = {in_place("plugin.so"), NULL};
    CHECK_OK(
        pp_launcher_create(&(pp_launcher_options){.start_method = PP_START_FORKSERVER, .preload = preload}, &launcher));
    CHECK_OK(pp_pool_create(&(pp_pool_options){.max_workers = 1, .launcher = launcher}, &pool));
    pp_launcher_unref(launcher);
    check_second_plugin(pool, copy);
}

TEST(a_preloaded_plugin_is_told_from_the_one_that_has_its_path_now)
{
    preload_first_plugin(copy_file);
}

TEST(a_preloaded_plugin_without_build_id_is_told_from_the_one_that_has_its_path_now)
{
    preload_first_plugin(copy_without_build_id);
}

/* --------------------------------------------------------------------------- what a worker can't open */

BOTH(a_plugin_whose_constructor_kills_the_worker_costs_only_its_calls)
{
    pp_pool *pool = kit_pool(method, 2);
    expect_usable(pool);
    void *plugin = open_plugin(PP_TEST_PLUGINS "/libpool_fragile.so");
    pp_function *fragile = plugin_function(plugin, "fragile");
    pp_future *futures[30];
    for (int i = 0; i < 30; i++)
        futures[i] = i % 3 == 1 ? submit(pool, fragile, NULL, 0) : submit_u32(pool, echo, 1);
    for (int i = 0; i < 30; i++)
        expect_end(futures[i], i % 3 == 1 ? -EOWNERDEAD : 0);
    expect_usable(pool);
    pp_pool_destroy(pool);
    dlclose(plugin);
}

BOTH(the_loaders_words_travel_when_a_worker_cannot_open_a_plugin)
{
    void *plugin = open_plugin(PP_TEST_PLUGINS "/libpool_lazy.so");
    dlclose(plugin);
    pp_pool *pool = kit_pool(method, 1);
    pid_t worker = worker_pid(pool);
    plugin = open_plugin(PP_TEST_PLUGINS "/libpool_lazy.so");
    expect_no_travel(pool, plugin_function(plugin, "lazy"), "pool_lazy_is_defined_nowhere");
    CHECK_INT(worker_pid(pool), worker);
    pp_pool_destroy(pool);
    dlclose(plugin);
}

/* ---------------------------------------------------------------------------------- what is no function */

static int data_word = 1;
static const int constant_word = 1;

static void expect_refused(pp_pool *pool, const void *address)
{
    pp_future *future = NULL;
    CHECK_INT(pp_submit(pool, function_at((void *)address), NULL, 0, &future), -EINVAL);
    CHECK(future == NULL);
    CHECK_HAS(pp_last_error(), "not in the code of a loaded module");
}

static void *map_code(int flags, int fd)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, flags, fd, 0);
    CHECK(memory != MAP_FAILED);
    memset(memory, 0xc3, 4096);
    return memory;
}

BOTH(what_is_not_in_the_code_of_a_module_is_refused_at_the_submit)
{
    int local = 1;
    void *heap = malloc(64);
    pp_pool *pool = kit_pool(method, 1);
    expect_refused(pool, &data_word);
    expect_refused(pool, &constant_word);
    expect_refused(pool, &local);
    expect_refused(pool, heap);
    expect_refused(pool, map_code(MAP_PRIVATE | MAP_ANONYMOUS, -1));
    int fd = memfd_create("code", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
    expect_refused(pool, map_code(MAP_SHARED, fd));
    expect_refused(pool, (void *)1);
    expect_refused(pool, (void *)UINTPTR_MAX);
    if (getauxval(AT_SYSINFO_EHDR))
        expect_refused(pool, (char *)getauxval(AT_SYSINFO_EHDR) + 0x600);
    expect_usable(pool);
    pp_pool_destroy(pool);
    free(heap);
    close(fd);
}

TEST(an_initializer_that_is_no_code_is_refused_when_the_pool_is_made)
{
    pp_pool *pool = NULL;
    pp_function *data = function_at(&data_word);
    CHECK_INT(pp_pool_create(&(pp_pool_options){.start_method = PP_START_FORK, .initializer = data}, &pool), -EINVAL);
    CHECK_INT(pp_pool_create(&(pp_pool_options){.start_method = PP_START_FORK, .finalizer = data}, &pool), -EINVAL);
    CHECK(pool == NULL);
}
