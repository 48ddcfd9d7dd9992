/* SPDX-License-Identifier: MIT */
/*
 * Names come from elfutils' libdw. It brings four more libraries with it, so it is loaded when the first name is
 * wanted: a program without crashes does not pay for it at each start, nor do its workers. Where it is missing there
 * are names of functions, from the symbol tables, and no lines.
 *
 * The trace may be a lie, and its modules' names those of any file, even one that the worker has written for libdw to
 * read. Only regular files are opened, and none is looked into that has not the build-id which the trace says; what is
 * printed has no control characters. That is all: a worker is trusted as far as libdw and what it makes of a file can
 * be.
 *
 * libdw maps what it reads, so it gets copies: a file that is cut short meanwhile, as by a compiler that writes it
 * anew, can't kill the owner.
 */
#include "process/symbols.h"

#include "base/atomic.h"
#include "base/seam.h"
#include "process/copy.h"
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
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#define HAVE_LIBDW 1
#else
#define HAVE_LIBDW 0
#endif

#define LINE_MAX_SHOWN ((size_t)512) /* bytes of each part of a line */
#define DEPTH 16                     /* functions that were made part of one another */
#define COPIES_MAX ((size_t)1 << 29) /* bytes of all files of one trace */

/* One line of the text. A function that its compiler has made a part of another has one too. */
struct place {
    const char *function; /* NULL: unknown */
    const char *file;     /* NULL: unknown */
    int line;
};

/* A frame: the innermost function first. The names are the session's. */
struct frame {
    const struct pp__trace_module *module; /* NULL: in none */
    struct place places[DEPTH];
    int count; /* at least 1 */
};

static const char *path_of(const struct pp__trace_module *module)
{
    const char *name = pp__trace_name_of(module);
    return *name ? name : "/proc/self/exe"; /* the main program is the owner's own in all workers */
}

static bool has_id(int fd, const void *wanted, size_t size)
{
    unsigned char id[PP__BUILD_ID_MAX];
    struct stat status;
    return PP_SYS(fstat)(fd, &status) == 0 && S_ISREG(status.st_mode) &&
           pp__elf_file_build_id(fd, id, sizeof id) == (int)size && memcmp(id, wanted, size) == 0;
}

/* The file with this build-id; -1. Opening must not wait, as it would for a pipe. */
static int open_file(const char *path, const void *id, size_t size)
{
    int fd = PP_SYS(open)(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || has_id(fd, id, size))
        return fd;
    close(fd);
    return -1;
}

/* The file of the module, if it is still what the worker had; -1. */
static int open_module(const struct pp__trace_module *module)
{
    return open_file(path_of(module), pp__trace_id(module), module->id_size);
}

/* --------------------------------------------------------------------------------------------- libdw */

#if HAVE_LIBDW

#define FUNCTIONS(each)                                                                                                \
    each(dwfl_begin) each(dwfl_end) each(dwfl_report_begin) each(dwfl_report_elf) each(dwfl_report_end)                \
        each(dwfl_addrmodule) each(dwfl_module_addrinfo) each(dwfl_module_nextcu) each(dwarf_haspc)                    \
            each(dwfl_module_build_id) each(dwfl_module_info) each(dwfl_offline_section_address)                       \
                each(dwfl_module_addrdie) each(dwarf_getscopes) each(dwarf_getscopes_die) each(dwarf_tag)              \
                    each(dwarf_diename) each(dwarf_attr) each(dwarf_formudata) each(dwarf_getsrcfiles)                 \
                        each(dwarf_filesrc) each(dwarf_getsrc_die) each(dwarf_lineno) each(dwarf_linesrc)

#define MEMBER(name) __typeof__(name) *(name);
struct library {
    FUNCTIONS(MEMBER)
};

static bool find(void *handle, const char *name, void *function)
{
    void *found = PP_SYS(dlsym)(handle, name);
    memcpy(function, &found, sizeof found);
    return found != NULL;
}

static bool load(struct library *library)
{
    void *handle = PP_SYS(dlopen)("libdw.so.1", RTLD_LAZY | RTLD_LOCAL);
    bool whole = handle != NULL;
#define FIND(name) whole = whole && find(handle, #name, &library->name);
    FUNCTIONS(FIND)
    return whole;
}

/* Loaded by each thread that comes before the first is done, without a lock: the loader may be waiting for one of them.
 * It stays loaded. */
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
        if (!atomic_compare_exchange_strong(&loaded, &first, have)) { /* pairs with the load above, and with itself */
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
    size_t left;                 /* bytes that may yet be copied */
    char symbol[LINE_MAX_SHOWN]; /* the last one from a symbol table */
};

/* What was opened is copied, and what was copied is looked at: the file may have changed in between. -1: none. */
static int copy_file(int fd, const void *id, size_t size, size_t *left)
{
    int copy = fd < 0 ? -1 : pp__copy_file(fd, left);
    if (fd >= 0)
        close(fd);
    if (copy < 0 || has_id(copy, id, size))
        return copy;
    close(copy);
    return -1;
}

/* libdw's question: debug information is looked for on this machine only, by the build-id, where distributions put it.
 */
static int find_debug_file(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base, const char *file,
                           const char *link, GElf_Word sum, char **path)
{
    struct session *session = *data;
    const unsigned char *id = NULL;
    GElf_Addr place;
    char text[64 + 2 * PP__BUILD_ID_MAX];
    (void)name, (void)base, (void)file, (void)link, (void)sum;
    int size = session->library->dwfl_module_build_id(module, &id, &place);
    if (size < 2 || size > PP__BUILD_ID_MAX)
        return -1;
    int used = snprintf(text, sizeof text, "/usr/lib/debug/.build-id/%02x/", id[0]);
    for (int i = 1; i < size; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%02x", id[i]);
    snprintf(text + used, sizeof text - (size_t)used, ".debug");
    int fd = copy_file(open_file(text, id, (size_t)size), id, (size_t)size, &session->left);
    *path = fd < 0 ? NULL : PP_SYS(strdup)(text);
    return fd;
}

/* libdw takes the descriptor over with the module. */
static void report_module(struct session *session, const struct pp__trace_module *module)
{
    void **data;
    int fd = copy_file(open_module(module), pp__trace_id(module), module->id_size, &session->left);
    if (fd < 0)
        return;
    Dwfl_Module *made = session->library->dwfl_report_elf(session->dwfl, pp__trace_name_of(module), path_of(module), fd,
                                                          module->base, true);
    if (!made) {
        close(fd);
        return;
    }
    session->library->dwfl_module_info(made, &data, NULL, NULL, NULL, NULL, NULL, NULL);
    *data = session;
}

static void open_session(struct session *session, const struct pp__trace *trace, size_t size)
{
    const struct library *library = get_library();
    *session = (struct session){.library = library, .left = COPIES_MAX};
    if (!library)
        return;
    session->callbacks.find_debuginfo = find_debug_file;
    session->callbacks.section_address = library->dwfl_offline_section_address;
    session->dwfl = library->dwfl_begin(&session->callbacks);
    if (!session->dwfl)
        return;
    library->dwfl_report_begin(session->dwfl);
    for (const struct pp__trace_module *module = NULL; (module = pp__trace_next(trace, size, module));)
        report_module(session, module);
    library->dwfl_report_end(session->dwfl, NULL, NULL);
}

static void close_session(struct session *session)
{
    if (session->dwfl)
        session->library->dwfl_end(session->dwfl);
}

/* The unit that was compiled to what lies there. Some compilers leave no index of addresses: then each unit is asked.
 */
static Dwarf_Die *find_unit(const struct library *library, Dwfl_Module *module, uint64_t address, Dwarf_Addr *bias)
{
    Dwarf_Die *unit = library->dwfl_module_addrdie(module, address, bias);
    if (unit)
        return unit;
    while ((unit = library->dwfl_module_nextcu(module, unit, bias)))
        if (library->dwarf_haspc(unit, address - *bias) == 1)
            break;
    return unit;
}

static void find_line(const struct library *library, Dwarf_Die *unit, uint64_t address, struct place *place)
{
    Dwarf_Line *line = library->dwarf_getsrc_die(unit, address);
    if (line && library->dwarf_lineno(line, &place->line) == 0)
        place->file = library->dwarf_linesrc(line, NULL, NULL);
}

/* Where an inlined function was called. */
static void find_call(const struct library *library, Dwarf_Die *unit, Dwarf_Die *function, struct place *place)
{
    Dwarf_Attribute attribute;
    Dwarf_Files *files;
    Dwarf_Word file = 0, line = 0;
    size_t count = 0;
    if (library->dwarf_formudata(library->dwarf_attr(function, DW_AT_call_file, &attribute), &file) == 0 &&
        library->dwarf_formudata(library->dwarf_attr(function, DW_AT_call_line, &attribute), &line) == 0 &&
        library->dwarf_getsrcfiles(unit, &files, &count) == 0 && file < count)
        *place = (struct place){.file = library->dwarf_filesrc(files, file, NULL, NULL), .line = (int)line};
}

/* From the innermost scope outwards: each inlined function gets the place that was known so far, and where it was
 * called is that of the next. */
static void unfold(const struct library *library, Dwarf_Die *unit, Dwarf_Die *scopes, int count, struct frame *frame)
{
    for (int i = 0; i < count && frame->count < DEPTH; i++) {
        int tag = library->dwarf_tag(&scopes[i]);
        if (tag == DW_TAG_subprogram)
            return;
        if (tag != DW_TAG_inlined_subroutine)
            continue;
        struct place *outer = &frame->places[frame->count];
        outer[-1].function = library->dwarf_diename(&scopes[i]);
        *outer = (struct place){0};
        frame->count++;
        find_call(library, unit, &scopes[i], outer);
    }
}

static void find_inlined(const struct library *library, Dwarf_Die *unit, uint64_t address, struct frame *frame)
{
    Dwarf_Die *at = NULL, *scopes = NULL;
    if (library->dwarf_getscopes(unit, address, &at) > 0) {
        int count = library->dwarf_getscopes_die(&at[0], &scopes);
        unfold(library, unit, scopes, count, frame);
    }
    free(scopes);
    free(at);
}

static bool look_up(const struct session *session, uint64_t address, struct frame *frame)
{
    const struct library *library = session->library;
    Dwfl_Module *module = session->dwfl ? library->dwfl_addrmodule(session->dwfl, address) : NULL;
    if (!module)
        return false;
    GElf_Sym symbol;
    GElf_Off offset;
    Dwarf_Addr bias;
    Dwarf_Die *unit = find_unit(library, module, address, &bias);
    if (unit) {
        find_line(library, unit, address - bias, &frame->places[0]);
        find_inlined(library, unit, address - bias, frame);
    }
    frame->places[frame->count - 1].function =
        library->dwfl_module_addrinfo(module, address, &offset, &symbol, NULL, NULL, NULL);
    return true;
}

#else

struct session {
    char symbol[LINE_MAX_SHOWN];
};

static void open_session(struct session *session, const struct pp__trace *trace, size_t size)
{
    (void)session, (void)trace, (void)size;
}

static void close_session(struct session *session)
{
    (void)session;
}

static bool look_up(const struct session *session, uint64_t address, struct frame *frame)
{
    (void)session, (void)address, (void)frame;
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

static void find_frame(struct session *session, const struct pp__trace *trace, size_t size, uint64_t address,
                       struct frame *frame)
{
    *frame = (struct frame){.module = module_of(trace, size, address), .count = 1};
    if (!frame->module || look_up(session, address, frame))
        return;
    int fd = open_module(frame->module);
    if (fd >= 0 &&
        pp__elf_symbol(path_of(frame->module), address - frame->module->base, session->symbol, sizeof session->symbol))
        frame->places[0].function = session->symbol;
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
    size_t room = text->used + 4 * LINE_MAX_SHOWN;
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
    int size = vsnprintf(from, LINE_MAX_SHOWN, format, arguments);
    va_end(arguments);
    text->used += (size_t)size < LINE_MAX_SHOWN ? (size_t)size : LINE_MAX_SHOWN - 1;
    for (; *from; from++)
        if (iscntrl((unsigned char)*from))
            *from = '?';
}

static const char *short_name(const struct pp__trace_module *module)
{
    const char *name = pp__trace_name_of(module), *slash = strrchr(name, '/');
    return !*name ? program_invocation_short_name : slash ? slash + 1 : name;
}

/* Without what a compiler adds to the name where it takes a function apart, as ".cold". */
static int name_size(const char *function)
{
    return (int)(1 + strcspn(function + 1, "."));
}

static void put_line(struct text *text, unsigned number, uint64_t pc, const struct frame *frame,
                     const struct place *place)
{
    put(text, "#%u ", number);
    if (place->function && place->function[0])
        put(text, "%.*s ", name_size(place->function), place->function);
    if (place->file)
        put(text, "at %s:%d ", place->file, place->line);
    if (frame->module)
        put(text, "(%s+0x%llx)", short_name(frame->module), (unsigned long long)(pc - frame->module->base));
    else
        put(text, "0x%llx", (unsigned long long)pc);
    text->at[text->used++] = '\n';
    text->at[text->used] = 0;
}

static bool is_function(const struct place *place, const char *function)
{
    size_t size = strlen(function);
    return place->function && size > 0 && strncmp(place->function, function, size) == 0 &&
           (place->function[size] == '\0' || place->function[size] == '.');
}

/* `end` is where the text ends behind the outermost frame of the function, 0 if there is none. */
static bool put_frames(struct text *text, struct session *session, const struct pp__trace *trace, size_t size,
                       const char *function, size_t *end)
{
    struct frame frame;
    unsigned number = 0;
    for (uint32_t i = 0; i < trace->count; i++) {
        find_frame(session, trace, size, pp__trace_place(trace, i), &frame);
        for (int k = 0; k < frame.count; k++) {
            if (!make_room(text))
                return false;
            put_line(text, number++, trace->pcs[i], &frame, &frame.places[k]);
        }
        if (is_function(&frame.places[frame.count - 1], function))
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
