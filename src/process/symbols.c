/* SPDX-License-Identifier: MIT */
/*
 * Names come from elfutils' libdw. It brings four more libraries with it, so it is loaded when the first name is wanted: a program without crashes
 * does not pay for it at each start, nor do its workers. Where it is missing there are names of functions, from the symbol tables, and no lines.
 *
 * The trace may be a lie, and its modules' names those of any file. Only regular files are opened, and none is looked into that has not the build-id
 * which the trace says; what is printed has no control characters.
 */
#include "process/symbols.h"

#include "base/atomic.h"
#include "base/seam.h"
#include "process/elf.h"
#include "process/identity.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if __has_include(<elfutils/libdwfl.h>)
#include <elfutils/libdwfl.h>
#define HAVE_LIBDW 1
#else
#define HAVE_LIBDW 0
#endif

#define NAME_MAX_SHOWN 512

/* What is known of one frame. */
struct place {
    uint64_t address;                      /* inside of the call or instruction */
    const struct pp__trace_module *module; /* NULL: in none */
    char function[NAME_MAX_SHOWN];         /* "": unknown */
    char file[NAME_MAX_SHOWN];             /* "": unknown */
    int line;
};

static const char *path_of(const struct pp__trace_module *module)
{
    const char *name = pp__trace_name_of(module);
    return *name ? name : "/proc/self/exe"; /* the main program is the owner's own in all workers */
}

/* The file of the module, if it is still what the worker had; -1. Opening must not wait, as it would for a pipe. */
static int open_module(const struct pp__trace_module *module)
{
    unsigned char id[PP__BUILD_ID_MAX];
    struct stat status;
    int fd = open(path_of(module), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -1;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
        pp__elf_file_build_id(fd, id, sizeof id) == (int)module->id_size &&
        memcmp(id, pp__trace_id(module), module->id_size) == 0)
        return fd;
    close(fd);
    return -1;
}

/* --------------------------------------------------------------------------------------------- libdw */

#if HAVE_LIBDW

#define FUNCTIONS(each)                                                                                                \
    each(dwfl_begin) each(dwfl_end) each(dwfl_report_begin) each(dwfl_report_elf) each(dwfl_report_end)                \
        each(dwfl_addrmodule) each(dwfl_module_addrinfo) each(dwfl_module_getsrc) each(dwfl_lineinfo)                  \
            each(dwfl_build_id_find_debuginfo) each(dwfl_offline_section_address)

#define MEMBER(name) __typeof__(name) *name;
struct library {
    FUNCTIONS(MEMBER)
};

static bool find(void *handle, const char *name, void *function)
{
    void *found = dlsym(handle, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static bool load(struct library *library)
{
    void *handle = dlopen("libdw.so.1", RTLD_LAZY | RTLD_LOCAL);
    bool whole = handle != NULL;
#define FIND(name) whole = whole && find(handle, #name, &library->name);
    FUNCTIONS(FIND)
    return whole;
}

/* Loaded by each thread that comes before the first is done, without a lock: the loader may be waiting for one of them. It stays loaded. */
static const struct library *get_library(void)
{
    static struct library none;
    static struct library *_Atomic loaded;
    struct library *have = pp__load_acquire(&loaded), *first = NULL; /* pairs with the exchange below */
    if (!have) {
        have = PP_SYS(calloc)(1, sizeof *have);
        if (!have)
            return NULL;
        if (!load(have)) {
            free(have);
            have = &none;
        }
        if (!atomic_compare_exchange_strong(&loaded, &first, have)) {
            if (have != &none)
                free(have);
            have = first;
        }
    }
    return have != &none ? have : NULL;
}

/* What runs through all names of one trace. */
struct session {
    const struct library *library;
    Dwfl *dwfl; /* NULL: there is no libdw */
    Dwfl_Callbacks callbacks;
    char *debug_path;
};

/* Debug information is looked for on this machine only. */
static void open_session(struct session *session, const struct pp__trace *trace, size_t size)
{
    static char no_path[] = ":.debug:/usr/lib/debug";
    const struct library *library = get_library();
    *session = (struct session){.library = library, .debug_path = no_path};
    if (!library)
        return;
    session->callbacks.find_debuginfo = library->dwfl_build_id_find_debuginfo;
    session->callbacks.section_address = library->dwfl_offline_section_address;
    session->callbacks.debuginfo_path = &session->debug_path;
    session->dwfl = library->dwfl_begin(&session->callbacks);
    if (!session->dwfl)
        return;
    library->dwfl_report_begin(session->dwfl);
    for (const struct pp__trace_module *module = NULL; (module = pp__trace_next(trace, size, module));) {
        int fd = open_module(module);
        if (fd >= 0 && !library->dwfl_report_elf(session->dwfl, pp__trace_name_of(module), path_of(module), fd,
                                                 module->base, true))
            close(fd);
    }
    library->dwfl_report_end(session->dwfl, NULL, NULL);
}

static void close_session(struct session *session)
{
    if (session->dwfl)
        session->library->dwfl_end(session->dwfl);
}

static bool look_up(const struct session *session, struct place *place)
{
    const struct library *library = session->library;
    Dwfl_Module *module = session->dwfl ? library->dwfl_addrmodule(session->dwfl, place->address) : NULL;
    if (!session->dwfl)
        return false;
    if (!module)
        return true;
    GElf_Sym symbol;
    GElf_Off offset;
    const char *name = library->dwfl_module_addrinfo(module, place->address, &offset, &symbol, NULL, NULL, NULL);
    snprintf(place->function, sizeof place->function, "%s", name ? name : "");
    Dwfl_Line *line = library->dwfl_module_getsrc(module, place->address);
    const char *file = line ? library->dwfl_lineinfo(line, NULL, &place->line, NULL, NULL, NULL) : NULL;
    snprintf(place->file, sizeof place->file, "%s", file ? file : "");
    return true;
}

#else

struct session {
    int none;
};

static void open_session(struct session *session, const struct pp__trace *trace, size_t size)
{
    (void)session, (void)trace, (void)size;
}

static void close_session(struct session *session)
{
    (void)session;
}

static bool look_up(const struct session *session, struct place *place)
{
    (void)session, (void)place;
    return false;
}

#endif

/* ---------------------------------------------------------------------------------------------- frames */

static const struct pp__trace_module *module_of(const struct pp__trace *trace, size_t size, uint64_t address)
{
    const struct pp__trace_module *module = NULL;
    while ((module = pp__trace_next(trace, size, module)))
        if (address >= module->start && address < module->end)
            break;
    return module;
}

static void find_place(const struct session *session, const struct pp__trace *trace, size_t size, uint32_t i,
                       struct place *place)
{
    *place = (struct place){.address = pp__trace_place(trace, i)};
    place->module = module_of(trace, size, place->address);
    if (!place->module || look_up(session, place))
        return;
    int fd = open_module(place->module);
    if (fd >= 0)
        pp__elf_symbol(path_of(place->module), place->address - place->module->base, place->function,
                       sizeof place->function);
    if (fd >= 0)
        close(fd);
}

/* ------------------------------------------------------------------------------------------------ text */

struct text {
    char *at; /* NULL: there is no memory */
    size_t used, room;
};

/* A line at least; everything that is printed is bounded. */
static bool make_room(struct text *text)
{
    size_t room = text->used + 3 * NAME_MAX_SHOWN;
    if (room <= text->room)
        return true;
    char *grown = PP_SYS(realloc)(text->at, 2 * room);
    if (!grown)
        return false;
    text->at = grown;
    text->room = 2 * room;
    return true;
}

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
    char *from = text->at + text->used;
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(from, NAME_MAX_SHOWN, format, arguments);
    va_end(arguments);
    text->used += size < NAME_MAX_SHOWN ? (size_t)size : NAME_MAX_SHOWN - 1;
    for (; *from; from++)
        if (iscntrl((unsigned char)*from))
            *from = '?';
}

static const char *short_name(const struct pp__trace_module *module)
{
    const char *name = pp__trace_name_of(module), *slash = strrchr(name, '/');
    return !*name ? program_invocation_short_name : slash ? slash + 1 : name;
}

static void put_frame(struct text *text, uint32_t i, uint64_t pc, const struct place *place)
{
    put(text, "#%u ", i);
    if (place->function[0])
        put(text, "%s ", place->function);
    if (place->file[0])
        put(text, "at %s:%d ", place->file, place->line);
    if (place->module)
        put(text, "(%s+0x%llx)", short_name(place->module), (unsigned long long)(pc - place->module->base));
    else
        put(text, "0x%llx", (unsigned long long)pc);
    text->at[text->used++] = '\n';
    text->at[text->used] = 0;
}

/* `end` is where the text ends behind the outermost frame of the function, 0 if there is none. */
static bool put_frames(struct text *text, const struct session *session, const struct pp__trace *trace, size_t size,
                       const char *function, size_t *end)
{
    struct place place;
    for (uint32_t i = 0; i < trace->count; i++) {
        if (!make_room(text))
            return false;
        find_place(session, trace, size, i, &place);
        put_frame(text, i, trace->pcs[i], &place);
        if (place.function[0] && strcmp(place.function, function) == 0)
            *end = text->used;
    }
    return make_room(text);
}

char *pp__symbols_text(const struct pp__trace *trace, size_t size, const char *function)
{
    struct text text = {0};
    struct session session;
    size_t end = 0;
    open_session(&session, trace, size);
    bool whole = put_frames(&text, &session, trace, size, function, &end);
    close_session(&session);
    if (!whole) {
        free(text.at);
        return NULL;
    }
    text.at[end > 0 ? end : text.used] = 0;
    return text.at;
}
