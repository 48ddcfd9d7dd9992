/* SPDX-License-Identifier: MIT */
/*
 * Function identity. In the owner: from an address to a module, pinned, with its build-id and real path. In a worker:
 * from those back to a base address. Called from any thread of the owner, and from the main thread of a worker.
 *
 * A module is described by what the loader has in memory; its file is asked only where a worker must open it, and then
 * it must prove, before any constructor of it runs, that it is the same.
 */
#include "process/identity.h"

#include "base/error.h"
#include "base/seam.h"
#include "process/elf.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file as the file system knows it; all zero: it could not be looked at. */
struct file_identity {
    uint64_t device, inode, size, seconds, nanoseconds;
};

/* What a module's memory is mapped from, as /proc/self/maps has it: an inode is not given away while it is mapped
 * anywhere. */
struct mapped_file {
    uint64_t device, inode;
};

/* The identity of a module, and the head of what travels. */
struct identity {
    uint64_t base; /* in the owner */
    struct file_identity file;
    struct mapped_file mapped; /* of a module without build-id: what was loaded, whatever its path leads to by now */
    uint32_t is_main;
    uint32_t id_size; /* 0: no build-id, `file` counts */
    unsigned char id[PP__BUILD_ID_MAX];
    uint32_t path_size; /* with its NUL; the path follows */
    uint32_t reserved;
};

/* A name that was found in the module's file; it lasts as long as the module is known. */
struct name {
    struct name *next;
    uint64_t offset;
    char text[PP__FUNCTION_NAME_MAX];
};

struct pp__module {
    struct pp__module *next;
    uint32_t references;
    void *pin;
    uintptr_t text, text_size; /* its executable segment */
    struct name *names;        /* under the lock */
    struct identity identity;
    char path[PATH_MAX];
};

_Static_assert(sizeof(struct identity) + PATH_MAX <= PP__MODULE_TRAVEL_MAX, "what travels fits");

/* Guards the list, the counts and the names. The loader is never asked with it held. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct pp__module *modules;

/* --------------------------------------------------------------------------------------- looking at modules */

static bool look_at_file(const char *path, struct file_identity *file)
{
    struct stat s;
    *file = (struct file_identity){0};
    if (PP_SYS(stat)(path, &s) != 0)
        return false;
    *file = (struct file_identity){.device = s.st_dev,
                                   .inode = s.st_ino,
                                   .size = (uint64_t)s.st_size,
                                   .seconds = (uint64_t)s.st_mtim.tv_sec,
                                   .nanoseconds = (uint64_t)s.st_mtim.tv_nsec};
    return true;
}

static bool same_file(const struct file_identity *a, const struct file_identity *b)
{
    return a->inode != 0 && memcmp(a, b, sizeof *a) == 0;
}

static bool same_mapped(const struct mapped_file *a, const struct mapped_file *b)
{
    return a->inode != 0 && a->inode == b->inode && a->device == b->device;
}

static bool same_id(const struct identity *a, const struct identity *b)
{
    return a->id_size != 0 && a->id_size == b->id_size && memcmp(a->id, b->id, a->id_size) == 0;
}

/* Neither is the main program. */
static bool same_module(const struct identity *a, const struct identity *b)
{
    return a->id_size != 0 ? same_id(a, b) : b->id_size == 0 && same_mapped(&a->mapped, &b->mapped);
}

/* What the loader says of a module; copied out, since the loader's own goes with the module. */
struct view {
    uintptr_t wanted; /* find_*: the address, or the base, that it must have */
    const struct identity *like;
    bool found;
    bool is_main;
    bool in_code;
    uintptr_t text, text_size;
    struct identity identity;
    char name[PATH_MAX];
};

static bool find_text(const struct dl_phdr_info *info, uintptr_t address, bool code_only, uintptr_t *start,
                      uintptr_t *size)
{
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_LOAD || (code_only && !(segment->p_flags & PF_X)))
            continue;
        *start = info->dlpi_addr + segment->p_vaddr;
        *size = code_only ? segment->p_filesz : segment->p_memsz;
        if (address - *start < *size)
            return true;
    }
    return false;
}

static struct mapped_file look_at_map(uintptr_t address)
{
    char line[PATH_MAX + 128];
    struct mapped_file mapped = {0};
    FILE *maps = PP_SYS(fopen)("/proc/self/maps", "re");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long start, end, inode;
        unsigned major, minor;
        if (sscanf(line, "%lx-%lx %*s %*x %x:%x %lu", &start, &end, &major, &minor, &inode) != 5)
            continue;
        if (address < start || address >= end)
            continue;
        mapped = (struct mapped_file){.device = (uint64_t)major << 32 | minor, .inode = inode};
        break;
    }
    if (maps)
        fclose(maps);
    return mapped;
}

static struct mapped_file look_at_module(const struct dl_phdr_info *info)
{
    for (size_t i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            return look_at_map(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    return (struct mapped_file){0};
}

/* The main program has no name; the kernel's own module has no file. */
static void describe(const struct dl_phdr_info *info, struct view *view)
{
    view->found = true;
    view->is_main = info->dlpi_name[0] == '\0';
    view->identity = (struct identity){.base = info->dlpi_addr, .is_main = view->is_main};
    view->identity.id_size = (uint32_t)pp__elf_module_build_id(info, view->identity.id, PP__BUILD_ID_MAX);
    if (view->identity.id_size == 0 && !view->is_main)
        view->identity.mapped = look_at_module(info);
    snprintf(view->name, sizeof view->name, "%s", info->dlpi_name);
}

static int visit_for_address(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    struct view *view = data;
    uintptr_t start, length;
    if (!find_text(info, view->wanted, false, &start, &length))
        return 0;
    describe(info, view);
    view->in_code = find_text(info, view->wanted, true, &view->text, &view->text_size);
    return 1;
}

static int visit_for_base(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    struct view *view = data;
    if (info->dlpi_addr != view->wanted)
        return 0;
    describe(info, view);
    return 1;
}

/* The one with the same build-id, or, without one, the same file. */
static int visit_for_identity(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    struct view *view = data;
    describe(info, view);
    if (view->like->is_main || view->is_main) {
        view->found = view->is_main && view->like->is_main;
        return view->found;
    }
    view->found = same_module(view->like, &view->identity);
    return view->found;
}

/* ------------------------------------------------------------------------------------------------ the owner */

static int fail_not_code(const void *function)
{
    return pp__fail(-EINVAL, "%p is not in the code of a loaded module that has a file, so no worker could find it",
                    function);
}

static bool is_kernels(const struct view *view)
{
    return !view->is_main && (!strchr(view->name, '/') || view->identity.base == getauxval(AT_SYSINFO_EHDR));
}

/* Where the file is, for workers that must open it, and for messages. One that is gone leaves the name it was opened
 * by. */
static void find_path(const struct view *view, struct pp__module *module)
{
    const char *from = view->is_main ? "/proc/self/exe" : view->name;
    bool there = look_at_file(from, &module->identity.file);
    if (view->is_main) {
        ssize_t length = PP_SYS(readlink)(from, module->path, sizeof module->path - 1);
        module->path[length > 0 ? length : 0] = '\0';
    } else if (!PP_SYS(realpath)(view->name, module->path)) {
        memcpy(module->path, view->name, sizeof module->path);
    }
    if (there && module->identity.id_size == 0 && !view->is_main &&
        module->identity.mapped.inode !=
            module->identity.file.inode)                   /* devices differ from stat's on some file systems */
        module->identity.file = (struct file_identity){0}; /* replaced: the new file says nothing of the old */
    module->identity.path_size = (uint32_t)strlen(module->path) + 1;
}

/* The main program is never closed: what is known of it is kept for the pools that come, if its file says nothing. */
static bool stays(const struct identity *identity)
{
    return identity->is_main && identity->id_size != 0;
}

/* Pinned first: between the look and the pin another module can have come to lie there. */
static int make_module(const void *function, struct pp__module **made)
{
    struct view view = {.wanted = (uintptr_t)function};
    if (!dl_iterate_phdr(visit_for_address, &view) || !view.in_code || is_kernels(&view))
        return fail_not_code(function);
    struct pp__module *module = PP_SYS(calloc)(1, sizeof *module);
    if (!module)
        return pp__fail(-ENOMEM, "no memory to note a module");
    module->pin = PP_SYS(dlopen)(view.is_main ? NULL : view.name, RTLD_NOLOAD | RTLD_LAZY);
    struct view again = {.wanted = (uintptr_t)function};
    if (!module->pin || !dl_iterate_phdr(visit_for_address, &again) || again.identity.base != view.identity.base ||
        strcmp(again.name, view.name) != 0) {
        if (module->pin)
            dlclose(module->pin);
        free(module);
        return pp__fail(-EINVAL, "%p is in a module that is just being closed, or can't be referenced: %s", function,
                        view.name);
    }
    module->references = 1 + stays(&again.identity);
    module->text = again.text;
    module->text_size = again.text_size;
    module->identity = again.identity;
    find_path(&again, module);
    *made = module;
    return 0;
}

static void free_module(struct pp__module *module)
{
    dlclose(module->pin);
    for (struct name *name = module->names, *next; name; name = next) {
        next = name->next;
        free(name);
    }
    free(module);
}

/* Takes a reference to a module that is known already. A pinned one stays where it is, so addresses are enough. */
static struct pp__module *find_known(uintptr_t address)
{
    for (struct pp__module *module = modules; module; module = module->next) {
        if (address - module->text < module->text_size) {
            module->references++;
            return module;
        }
    }
    return NULL;
}

int pp__module_find(const void *function, struct pp__module **module, uint64_t *offset)
{
    uintptr_t address = (uintptr_t)function;
    pthread_mutex_lock(&lock);
    struct pp__module *found = find_known(address);
    pthread_mutex_unlock(&lock);
    if (!found) {
        struct pp__module *made;
        int error = make_module(function, &made);
        if (error)
            return error;
        pthread_mutex_lock(&lock);
        found = find_known(address); /* another thread may have been first */
        if (!found) {
            made->next = modules;
            modules = found = made;
            made = NULL;
        }
        pthread_mutex_unlock(&lock);
        if (made)
            free_module(made);
    }
    *module = found;
    *offset = address - found->identity.base;
    return 0;
}

void pp__module_unref(struct pp__module *module)
{
    if (!module)
        return;
    pthread_mutex_lock(&lock);
    bool last = --module->references == 0;
    for (struct pp__module **place = &modules; last && *place; place = &(*place)->next) {
        if (*place == module) {
            *place = module->next;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    if (last)
        free_module(module);
}

uintptr_t pp__module_base(const struct pp__module *module)
{
    return module->identity.base;
}

int pp__module_without_build_id(const struct pp__module *module)
{
    return module->identity.id_size == 0;
}

const char *pp__module_path(const struct pp__module *module)
{
    return module->path;
}

size_t pp__module_travel(const struct pp__module *module, void *buffer)
{
    memcpy(buffer, &module->identity, sizeof module->identity);
    memcpy((char *)buffer + sizeof module->identity, module->path, module->identity.path_size);
    return sizeof module->identity + module->identity.path_size;
}

/* ------------------------------------------------------------------------------------------------ the zygote */

#define BIRTH_MAX 1024

/* Modules that lay in the owner where they lie here, since this is its fork; forked children inherit the list. */
static struct identity born[BIRTH_MAX];
static size_t born_count;

static int visit_for_birth(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    (void)data;
    struct view view;
    if (born_count == BIRTH_MAX)
        return 1; /* the rest is found by identity */
    describe(info, &view);
    born[born_count++] = view.identity;
    return 0;
}

void pp__module_lock(void)
{
    pthread_mutex_lock(&lock);
}

void pp__module_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

/* A zygote has one thread, was perhaps forked with the lock held by it, which is over, and has no worker yet: in a
 * nested one the list of the outer one is replaced. */
void pp__module_note_birth(void)
{
    (void)pthread_mutex_trylock(&lock); /* not made anew: thread sanitizer would take it for held */
    pthread_mutex_unlock(&lock);
    born_count = 0;
    dl_iterate_phdr(visit_for_birth, NULL);
}

/* ------------------------------------------------------------------------------------------------ the worker */

static bool decode(const void *travel, size_t size, struct identity *identity)
{
    if (size < sizeof *identity)
        return false;
    memcpy(identity, travel, sizeof *identity);
    if (identity->path_size == 0 || identity->path_size > PATH_MAX || identity->id_size > PP__BUILD_ID_MAX ||
        size != sizeof *identity + identity->path_size)
        return false;
    const char *path = (const char *)travel + sizeof *identity;
    return memchr(path, 0, identity->path_size) == path + identity->path_size - 1;
}

/* In a fork of the owner, by address; the rest of the identity tells it from one that was closed since. */
static bool was_born_with(const struct identity *wanted)
{
    for (size_t i = 0; i < born_count; i++) {
        const struct identity *have = &born[i];
        if (have->base != wanted->base || have->is_main != wanted->is_main)
            continue;
        return wanted->is_main || same_module(wanted, have);
    }
    return false;
}

/* The main program has no path to be opened by: it is the same executable or none. */
static int check_main(const struct identity *wanted, const struct identity *here)
{
    struct file_identity file;
    if (wanted->id_size != 0 ? same_id(wanted, here)
                             : look_at_file("/proc/self/exe", &file) && same_file(&file, &wanted->file))
        return 0;
    return pp__fail(-EBADMSG, "this worker's executable is not the one of the owner");
}

/* As the zygote has noted it; NULL: this process is no fork of one. */
static const struct identity *main_of_birth(void)
{
    for (size_t i = 0; i < born_count; i++)
        if (born[i].is_main)
            return &born[i];
    return NULL;
}

/* Before the loader sees it. */
static int check_file(const struct identity *wanted, const char *path)
{
    struct identity there = {0};
    int fd = PP_SYS(open)(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pp__fail(-EBADMSG, "%s can't be opened in the worker: %s", path, pp__strerror(errno));
    int id_size = pp__elf_file_build_id(fd, there.id, sizeof there.id);
    close(fd);
    if (id_size < 0)
        return pp__fail(-EBADMSG, "%s is no library any more: replaced on disk since it was loaded", path);
    there.id_size = (uint32_t)id_size;
    if (wanted->id_size != 0 && same_id(wanted, &there))
        return 0;
    if (wanted->id_size == 0 && id_size == 0 && look_at_file(path, &there.file) &&
        same_file(&wanted->file, &there.file))
        return 0;
    return pp__fail(-EBADMSG, "%s was replaced on disk since it was loaded", path);
}

/* Never closed again: the worker's end does that. */
static int open_file(const struct identity *wanted, const char *path, uintptr_t *base)
{
    int error = check_file(wanted, path);
    if (error)
        return error;
    void *handle = PP_SYS(dlopen)(path, RTLD_NOW | RTLD_LOCAL);
    struct link_map *map = NULL;
    if (!handle || PP_SYS(dlinfo)(handle, RTLD_DI_LINKMAP, &map) != 0) {
        const char *reason = dlerror();
        return pp__fail(-EBADMSG, "the worker can't open %s", reason ? reason : path);
    }
    struct view view = {.wanted = map->l_addr};
    if (!dl_iterate_phdr(visit_for_base, &view) || !same_module(wanted, &view.identity))
        return pp__fail(-EBADMSG, "%s is another file in the worker than in the owner", path);
    *base = map->l_addr;
    return 0;
}

/* Asks the loader. Apart, for its room on the stack: pages that who does not come here need not touch. */
__attribute__((noinline)) static int find_here(const struct identity *wanted, const char *travelled, uintptr_t *base)
{
    char path[PATH_MAX];
    struct view view = {.like = wanted};
    memcpy(path, travelled, wanted->path_size);
    path[wanted->path_size - 1] = '\0'; /* as it was when it was checked */
    if (!dl_iterate_phdr(visit_for_identity, &view))
        return wanted->is_main ? check_main(wanted, &view.identity) : open_file(wanted, path, base);
    int error = wanted->is_main ? check_main(wanted, &view.identity) : 0;
    if (error)
        return error;
    if (!wanted->is_main)
        PP_SYS(dlopen)(view.name, RTLD_NOLOAD | RTLD_LAZY); /* pinned, for as long as the worker lives */
    *base = view.identity.base;
    return 0;
}

int pp__module_open(const void *travel, size_t size, int shared_images, uintptr_t *base)
{
    struct identity wanted;
    if (!decode(travel, size, &wanted))
        return pp__fail(-EBADMSG, "the description of a module is damaged");
    if (shared_images && was_born_with(&wanted)) {
        *base = wanted.base;
        return 0;
    }
    const struct identity *here = wanted.is_main ? main_of_birth() : NULL;
    if (!here)
        return find_here(&wanted, (const char *)travel + sizeof wanted, base);
    int error = check_main(&wanted, here);
    if (!error)
        *base = here->base;
    return error;
}

/* -------------------------------------------------------------------------------------------------- names */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool dynamic_name(const void *function, char *text, size_t size)
{
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    if (!dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT) || !info.dli_sname || !symbol)
        return false;
    if ((uintptr_t)function - (uintptr_t)info.dli_saddr >= symbol->st_size)
        return false; /* the nearest symbol before it, not its own */
    snprintf(text, size, "%s", info.dli_sname);
    return true;
}

/* Whether it has one. */
static bool find_name(const void *function, char *text, size_t size)
{
    struct view view = {.wanted = (uintptr_t)function};
    if (dynamic_name(function, text, size))
        return true;
    if (!dl_iterate_phdr(visit_for_address, &view)) {
        snprintf(text, size, "%p", function);
        return false;
    }
    uint64_t offset = (uintptr_t)function - view.identity.base;
    if (pp__elf_symbol(view.is_main ? "/proc/self/exe" : view.name, offset, text, size))
        return true;
    const char *name = view.is_main ? program_invocation_short_name : last_part(view.name);
    snprintf(text, size, "%s+0x%llx", name, (unsigned long long)offset);
    return false;
}

void pp__function_name(const void *function, char *text, size_t size)
{
    if (size > 0)
        find_name(function, text, size);
}

static bool recall_name(const struct pp__module *module, uint64_t offset, char text[PP__FUNCTION_NAME_MAX])
{
    pthread_mutex_lock(&lock);
    const struct name *name = module->names;
    while (name && name->offset != offset)
        name = name->next;
    if (name)
        memcpy(text, name->text, sizeof name->text);
    pthread_mutex_unlock(&lock);
    return name != NULL;
}

/* It stands there twice where two threads have found it at once, which does no harm. */
static void keep_name(struct pp__module *module, uint64_t offset, const char *text)
{
    struct name *name = PP_SYS(malloc)(sizeof *name);
    if (!name)
        return;
    name->offset = offset;
    snprintf(name->text, sizeof name->text, "%s", text);
    pthread_mutex_lock(&lock);
    name->next = module->names;
    module->names = name;
    pthread_mutex_unlock(&lock);
}

void pp__module_name(struct pp__module *module, uint64_t offset, char text[PP__FUNCTION_NAME_MAX])
{
    const void *function = (const void *)(module->identity.base + offset); // NOLINT: the loader's own arithmetic
    if (!recall_name(module, offset, text) && find_name(function, text, PP__FUNCTION_NAME_MAX))
        keep_name(module, offset, text);
}
