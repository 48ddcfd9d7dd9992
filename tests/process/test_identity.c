/* SPDX-License-Identifier: MIT */
/* Functions by (module, offset): found in the owner, opened in a child, never mistaken for others. */
#include "kit.h"
#include "process/elf.h"
#include "process/identity.h"

#include <dlfcn.h>
#include <math.h>
#include <sys/auxv.h>
#include <sys/stat.h>

#define PLUGIN PP_TEST_PLUGINS "/libprocess_plugin.so"

typedef int function(int);

static __attribute__((noinline)) int static_square(int value)
{
    return value * value;
}

/* ------------------------------------------------------------------------------------------ the child's side */

struct question {
    uint64_t offset;
    int32_t value;
    uint32_t size;
    unsigned char travel[PP__MODULE_TRAVEL_MAX];
};

struct answer {
    int32_t error, result, constructor_ran, reserved;
    char text[500];
};

static void body_answer(const int *fds, size_t count, const void *data, size_t size, int shared)
{
    (void)count, (void)data, (void)size;
    static struct question question;
    while (recv(fds[0], &question, sizeof question, 0) == sizeof question) {
        uintptr_t base = 0;
        struct answer answer = {.error = pp__module_open(question.travel, question.size, shared, &base)};
        if (answer.error)
            snprintf(answer.text, sizeof answer.text, "%s", pp_last_error());
        else
            answer.result = ((function *)(base + question.offset))(question.value);
        answer.constructor_ran = getenv("CONSTRUCTOR_RAN") != NULL;
        kit_say(fds[0], &answer, sizeof answer);
    }
}

static int start_child(pp_start_method method)
{
    int talk;
    kit_talker((int)CHECK_OK(pp__launcher_connect(kit_launcher(method))), 1, body_answer, "", 0, &talk);
    return talk;
}

static struct answer ask_with(int talk, const struct pp__module *module, uint64_t offset)
{
    static struct question question;
    struct {
        struct answer answer;
        char nul;
    } room;
    memset(&question, 0, sizeof question);
    question.offset = offset;
    question.value = 5;
    question.size = (uint32_t)pp__module_travel(module, question.travel);
    CHECK(question.size <= PP__MODULE_TRAVEL_MAX);
    kit_say(talk, &question, sizeof question);
    CHECK_INT(kit_hear(talk, &room, sizeof room), sizeof room.answer);
    return room.answer;
}

/* What the child gets from f(5). */
static struct answer ask(int talk, function *f)
{
    struct pp__module *module;
    uint64_t offset;
    CHECK_OK(pp__module_find((const void *)f, &module, &offset));
    CHECK_INT(pp__module_base(module) + offset, (uintptr_t)f);
    struct answer answer = ask_with(talk, module, offset);
    pp__module_unref(module);
    return answer;
}

static void check_calls(int talk, function *f)
{
    struct answer answer = ask(talk, f);
    CHECK_STR(answer.text, "");
    CHECK_INT(answer.error, 0);
    CHECK_INT(answer.result, f(5));
}

static function *symbol(void *handle, const char *name)
{
    function *f = (function *)(uintptr_t)dlsym(handle, name);
    CHECK(f != NULL);
    return f;
}

static void *open_module(const char *path)
{
    void *handle = dlopen(path, RTLD_NOW);
    if (!handle)
        harness_fail(__FILE__, __LINE__, "%s", dlerror());
    return handle;
}

static function *hidden(void *handle)
{
    return (function *)((void *(*)(void))(uintptr_t)dlsym(handle, "plugin_hidden"))();
}

/* ------------------------------------------------------------------------------------------ modules made here */

static char directory[64];

static void remove_directory(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    if (*directory && system(command) != 0)
        abort();
}

/* Builds the plugin with these flags into a directory of the test's. */
static const char *build(const char *name, const char *flags)
{
    static char path[8][128];
    static int used;
    char command[1024], *mine = path[used++ % 8];
    if (!*directory) {
        strcpy(directory, "/tmp/pp-identity-XXXXXX");
        CHECK(mkdtemp(directory) != NULL);
        atexit(remove_directory);
    }
    snprintf(mine, sizeof path[0], "%s/%s", directory, name);
    snprintf(command, sizeof command,
             "cc -shared -fPIC -O1 -w %s -o %s.new %s/tests/process/plugins/process_plugin.c && mv %s.new %s", flags,
             mine, PP_TEST_SOURCE, mine, mine);
    if (system(command) != 0)
        LEFT_OUT("there is no compiler to build a module with");
    return mine;
}

/* ------------------------------------------------------------------------------------------ found */

TEST_BOTH(static_functions_of_the_program_are_found)
{
    int talk = start_child(method);
    check_calls(talk, static_square);
    check_calls(talk, abs); /* of libc, or its stub in the program */
}

TEST_BOTH(functions_of_libraries_are_found)
{
    int talk = start_child(method);
    check_calls(talk, symbol(RTLD_DEFAULT, "toupper"));
    check_calls(talk, symbol(RTLD_NEXT, "abs"));
}

TEST_BOTH(functions_of_plugins_are_found_static_ones_too)
{
    void *handle = open_module(PLUGIN);
    int talk = start_child(method);
    check_calls(talk, symbol(handle, "plugin_add"));
    check_calls(talk, hidden(handle));
}

TEST_BOTH(a_plugin_opened_after_the_children_started_is_opened_there)
{
    int talk = start_child(method);
    void *handle = open_module(PLUGIN);
    check_calls(talk, symbol(handle, "plugin_add"));
    check_calls(talk, hidden(handle));
    check_calls(talk, symbol(handle, "plugin_add"));
}

TEST_BOTH(a_plugin_opened_by_a_relative_path_or_a_link_is_found_from_anywhere)
{
    const char *path = build("plain.so", "-DADDEND=3");
    char link[128];
    snprintf(link, sizeof link, "%s/link.so", directory);
    CHECK_INT(symlink(path, link), 0);
    int talk = start_child(method);
    CHECK_INT(chdir(directory), 0);
    void *handle = open_module("./link.so");
    struct pp__module *module;
    uint64_t offset;
    CHECK_OK(pp__module_find((const void *)symbol(handle, "plugin_add"), &module, &offset));
    CHECK_INT(chdir("/"), 0);
    CHECK_STR(pp__module_path(module), path);
    CHECK_INT(unlink(link), 0);
    CHECK_INT(ask_with(talk, module, offset).result, 8);
}

TEST_BOTH(a_module_without_a_build_id_is_known_by_its_file)
{
    const char *path = build("no_id.so", "-DADDEND=4 -Wl,--build-id=none");
    int talk = start_child(method);
    void *handle = open_module(path);
    struct pp__module *module;
    uint64_t offset;
    CHECK_OK(pp__module_find((const void *)symbol(handle, "plugin_add"), &module, &offset));
    CHECK(pp__module_without_build_id(module));
    check_calls(talk, symbol(handle, "plugin_add"));
    check_calls(start_child(method), symbol(handle, "plugin_add"));
    CHECK_INT(utimensat(AT_FDCWD, path, NULL, 0), 0);
    struct answer answer = ask(start_child(PP_START_FORKSERVER), symbol(handle, "plugin_add"));
    CHECK_INT(answer.error, -EBADMSG);
    CHECK_HAS(answer.text, "replaced");
    CHECK_HAS(answer.text, "no_id.so");
}

TEST(a_module_is_known_to_have_a_build_id)
{
    struct pp__module *module;
    uint64_t offset;
    CHECK_OK(pp__module_find((const void *)static_square, &module, &offset));
    CHECK(!pp__module_without_build_id(module));
    CHECK_HAS(pp__module_path(module), "test_process_identity");
    pp__module_unref(module);
    pp__module_unref(NULL);
}

/* ------------------------------------------------------------------------------------------ not found, or not the same
 */

static void check_is_no_function(const void *address)
{
    struct pp__module *module = NULL;
    uint64_t offset = 77;
    CHECK_INT(pp__module_find(address, &module, &offset), -EINVAL);
    CHECK_HAS(pp_last_error(), "not in the code");
    CHECK(!module && offset == 77);
}

TEST(what_is_in_no_modules_code_is_refused)
{
    static int data = 1;
    int local;
    void *handle = open_module(PLUGIN);
    void *heap = malloc(10);
    void *code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check_is_no_function(NULL);
    check_is_no_function(&data);
    check_is_no_function(&local);
    check_is_no_function(heap);
    check_is_no_function(code);
    check_is_no_function("text");
    check_is_no_function(dlsym(handle, "plugin_data"));
    check_is_no_function(dlsym(handle, "plugin_constant"));
    check_is_no_function((const void *)UINTPTR_MAX);
    if (getauxval(AT_SYSINFO_EHDR))
        check_is_no_function((const char *)getauxval(AT_SYSINFO_EHDR) + 0x500);
    free(heap);
}

TEST_BOTH(a_plugin_replaced_on_disk_is_refused_before_its_constructors_run)
{
    const char *path = build("a.so", "-DADDEND=5");
    int talk = start_child(method);
    void *handle = open_module(path);
    build("a.so", "-DADDEND=6 -DON_OPEN");
    struct answer answer = ask(talk, symbol(handle, "plugin_add"));
    CHECK_INT(answer.error, -EBADMSG);
    CHECK_HAS(answer.text, "a.so");
    CHECK_HAS(answer.text, "replaced on disk");
    CHECK(!answer.constructor_ran);
    CHECK_INT(ask(talk, symbol(handle, "plugin_add")).error, -EBADMSG);
}

TEST_BOTH(a_plugin_without_build_id_that_was_replaced_is_refused)
{
    const char *path = build("b.so", "-DADDEND=5 -Wl,--build-id=none");
    int talk = start_child(method);
    void *handle = open_module(path);
    build("b.so", "-DADDEND=6 -DON_OPEN -Wl,--build-id=none");
    struct answer answer = ask(talk, symbol(handle, "plugin_add"));
    CHECK_INT(answer.error, -EBADMSG);
    CHECK(!answer.constructor_ran);
}

TEST_BOTH(a_plugin_replaced_by_no_module_or_deleted_is_refused)
{
    const char *path = build("c.so", "-DADDEND=5");
    int talk = start_child(method);
    void *handle = open_module(path);
    char command[256];
    snprintf(command, sizeof command, "rm %s && echo text > %s", path, path);
    CHECK_INT(system(command), 0);
    struct answer answer = ask(talk, symbol(handle, "plugin_add"));
    CHECK_INT(answer.error, -EBADMSG);
    CHECK_HAS(answer.text, "replaced on disk");
    CHECK_INT(unlink(path), 0);
    answer = ask(talk, symbol(handle, "plugin_add"));
    CHECK_INT(answer.error, -EBADMSG);
    CHECK_HAS(answer.text, "No such file");
}

TEST(under_fork_modules_loaded_before_are_trusted_although_their_files_are_gone)
{
    const char *path = build("d.so", "-DADDEND=5"), *bare = build("e.so", "-DADDEND=6 -Wl,--build-id=none");
    void *handle = open_module(path), *without = open_module(bare);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(unlink(bare), 0);
    int talk = start_child(PP_START_FORK);
    check_calls(talk, symbol(handle, "plugin_add"));
    check_calls(talk, hidden(without));
}

static int measure(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    uintptr_t *place = data; /* base, then length */
    if (info->dlpi_addr != place[0])
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD && segment->p_vaddr + segment->p_memsz > place[1])
            place[1] = segment->p_vaddr + segment->p_memsz;
    }
    return 1;
}

/* Closes the first module and opens the second where it was: all other holes that it would fit into are filled. */
static function *open_in_place_of(void *first, const char *second)
{
    struct pp__module *module;
    uint64_t offset;
    CHECK_OK(pp__module_find((const void *)symbol(first, "plugin_add"), &module, &offset));
    uintptr_t place[2] = {pp__module_base(module), 0};
    pp__module_unref(module);
    CHECK_INT(dl_iterate_phdr(measure, place), 1);
    size_t length = (place[1] + 4095) / 4096 * 4096;
    CHECK_INT(dlclose(first), 0);
    void *hole = NULL;
    for (int i = 0; i < 200 && hole != (void *)place[0]; i++)
        hole = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(hole == (void *)place[0]);
    munmap(hole, length);
    function *f = symbol(open_module(second), "plugin_add");
    if (place[0] + offset != (uintptr_t)f)
        LEFT_OUT("the loader chose another place");
    return f;
}

static void check_not_taken_for_another(const char *flags)
{
    char all[128];
    snprintf(all, sizeof all, "-DADDEND=5 %s", flags);
    void *handle = open_module(build("f.so", all));
    snprintf(all, sizeof all, "-DADDEND=50 %s", flags);
    const char *second = build("g.so", all);
    int talk = start_child(PP_START_FORK);
    function *f = open_in_place_of(handle, second);
    CHECK_INT(ask(talk, f).result, 55);
}

TEST(under_fork_a_module_closed_since_is_not_taken_for_the_one_at_its_place)
{
    check_not_taken_for_another("");
}

TEST(under_fork_the_same_holds_without_build_ids)
{
    check_not_taken_for_another("-Wl,--build-id=none");
}

TEST_BOTH(a_module_that_the_child_cannot_open_says_why)
{
    const char *path = build("j.so", "-DADDEND=5");
    int talk = start_child(method);
    void *handle = open_module(path);
    /* The same build-id, but a library that it needs is gone. */
    build("libneeded.so", "-DADDEND=7");
    char flags[256];
    snprintf(flags, sizeof flags,
             "-DADDEND=5 -Wl,--no-as-needed -L%s -lneeded -Wl,-rpath,%s -Wl,--build-id=0x1234567890", directory,
             directory);
    dlclose(handle);
    handle = open_module(build("k.so", flags));
    char needed[128];
    snprintf(needed, sizeof needed, "%s/libneeded.so", directory);
    CHECK_INT(unlink(needed), 0);
    (void)path;
    struct answer answer = ask(talk, symbol(handle, "plugin_add"));
    CHECK_INT(answer.error, -EBADMSG);
    CHECK_HAS(answer.text, "libneeded.so");
}

/* ------------------------------------------------------------------------------------------ pins */

TEST(a_found_module_stays_until_the_last_reference)
{
    void *handle = open_module(PLUGIN);
    function *f = symbol(handle, "plugin_add");
    struct pp__module *module, *again;
    uint64_t offset;
    CHECK_OK(pp__module_find((const void *)f, &module, &offset));
    CHECK_OK(pp__module_find((const void *)hidden(handle), &again, &offset));
    CHECK(module == again);
    dlclose(handle);
    CHECK_INT(f(1), 101);
    pp__module_unref(module);
    CHECK(dlopen(PLUGIN, RTLD_NOLOAD | RTLD_LAZY) != NULL);
    handle = dlopen(PLUGIN, RTLD_NOLOAD | RTLD_LAZY);
    dlclose(handle);
    dlclose(handle);
    CHECK_INT(f(1), 101);
    pp__module_unref(again);
    CHECK(dlopen(PLUGIN, RTLD_NOLOAD | RTLD_LAZY) == NULL);
    struct pp__module *none = NULL;
    CHECK_INT(pp__module_find((const void *)f, &none, &offset), -EINVAL);
}

/* ------------------------------------------------------------------------------------------ damage */

TEST(a_damaged_description_is_refused)
{
    static unsigned char travel[PP__MODULE_TRAVEL_MAX], damaged[PP__MODULE_TRAVEL_MAX];
    struct pp__module *module;
    uint64_t offset;
    uintptr_t base = 3;
    CHECK_OK(pp__module_find((const void *)static_square, &module, &offset));
    size_t size = pp__module_travel(module, travel);
    CHECK_OK(pp__module_open(travel, size, 0, &base));
    CHECK_INT(base, pp__module_base(module));
    base = 3;
    for (size_t cut = 0; cut < size; cut++)
        CHECK_INT(pp__module_open(travel, cut, 1, &base), -EBADMSG);
    CHECK_HAS(pp_last_error(), "damaged");
    srandom(1);
    for (int i = 0; i < 20000; i++) {
        memcpy(damaged, travel, size);
        for (int k = 0; k < 1 + i % 4; k++)
            damaged[(size_t)random() % size] = (unsigned char)random();
        uintptr_t ignored;
        int error = pp__module_open(damaged, size, i & 1, &ignored);
        CHECK(error == 0 || error == -EBADMSG);
    }
    CHECK_INT(base, 3);
}

TEST(a_damaged_file_is_no_module_and_names_nothing)
{
    const char *path = build("whole.so", "-g -DADDEND=5");
    static char whole[1 << 20];
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ssize_t size = read(fd, whole, sizeof whole);
    CHECK(size > 1000);
    unsigned char id[PP__BUILD_ID_MAX];
    char name[64];
    CHECK(pp__elf_file_build_id(fd, id, sizeof id) > 0);
    srandom(2);
    for (int i = 0; i < 3000; i++) {
        /* Half of the damage goes where the headers are. */
        ssize_t section_headers;
        memcpy(&section_headers, whole + 0x28, sizeof section_headers);
        long at = i % 4 == 0   ? random() % 64
                  : i % 4 == 1 ? 64 + random() % 600
                               : section_headers + random() % (size - section_headers);
        char old[8], new[8];
        for (size_t k = 0; k < sizeof new; k++)
            new[k] = (char)(random() % 3 == 0 ? 0xff : random());
        CHECK_INT(pread(fd, old, sizeof old, at), at + 8 <= size ? 8 : size - at);
        CHECK(pwrite(fd, new, 1 + (size_t)random() % 8, at) > 0);
        pp__elf_file_build_id(fd, id, sizeof id);
        pp__elf_symbol(path, 0x1100 + (uint64_t)random() % 256, name, sizeof name);
        CHECK(pwrite(fd, whole, (size_t)size, 0) == size);
        CHECK_INT(ftruncate(fd, size), 0);
    }
    for (ssize_t cut = 0; cut < size; cut += 97) {
        CHECK_INT(ftruncate(fd, cut), 0);
        pp__elf_file_build_id(fd, id, sizeof id);
        pp__elf_symbol(path, 0x1100, name, sizeof name);
        CHECK(pwrite(fd, whole, (size_t)size, 0) == size);
    }
}

/* ------------------------------------------------------------------------------------------ names */

TEST(functions_have_names_static_ones_too)
{
    char text[256];
    void *handle = open_module(PLUGIN);
    pp__function_name((const void *)static_square, text, sizeof text);
    CHECK_STR(text, "static_square");
    pp__function_name((const void *)symbol(handle, "plugin_add"), text, sizeof text);
    CHECK_STR(text, "plugin_add");
    pp__function_name((const void *)hidden(handle), text, sizeof text);
    CHECK_STR(text, "secret_multiply");
    pp__function_name((const char *)hidden(handle) + 1, text, sizeof text);
    CHECK_STR(text, "secret_multiply");
    pp__function_name((const void *)hidden(handle), text, 7);
    CHECK_STR(text, "secret");
    pp__function_name((const void *)hidden(handle), text, 0);
    CHECK_STR(text, "secret");
}

static void check_name(function *f, const char *expected)
{
    char text[PP__FUNCTION_NAME_MAX];
    struct pp__module *module;
    uint64_t offset;
    CHECK_OK(pp__module_find((const void *)f, &module, &offset));
    for (int i = 0; i < 2; i++) {
        memset(text, '?', sizeof text);
        pp__module_name(module, offset, text);
        CHECK_STR(text, expected);
    }
    pp__module_unref(module);
}

TEST(a_modules_functions_keep_their_names_and_another_that_comes_to_lie_there_has_its_own)
{
    void *handle = open_module(build("first.so", ""));
    check_name(static_square, "static_square");
    check_name(hidden(handle), "secret_multiply");
    check_name(symbol(handle, "plugin_add"), "plugin_add");
    dlclose(handle);
    handle = open_module(build("second.so", "-Dsecret_multiply=other_multiply"));
    check_name(hidden(handle), "other_multiply");
    check_name(static_square, "static_square");
}

TEST(without_a_symbol_a_function_is_module_and_offset)
{
    char text[256], wanted[64];
    void *handle = open_module(build("stripped.so", "-s"));
    function *f = hidden(handle);
    struct pp__module *module;
    uint64_t offset;
    CHECK_OK(pp__module_find((const void *)f, &module, &offset));
    snprintf(wanted, sizeof wanted, "stripped.so+0x%llx", (unsigned long long)offset);
    pp__function_name((const void *)f, text, sizeof text);
    CHECK_STR(text, wanted);
    check_name(f, wanted);
    pp__function_name(&text, text, sizeof text);
    snprintf(wanted, sizeof wanted, "%p", (void *)&text);
    CHECK_STR(text, wanted);
}
