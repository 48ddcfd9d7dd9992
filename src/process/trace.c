/* SPDX-License-Identifier: MIT */
/*
 * Traces of the running process. The unwinder is libgcc's, linked into the library, and finds modules by
 * _dl_find_object: neither takes a lock, allocates or loads anything, so all this can be done by a handler that has
 * interrupted malloc, the loader, or whatever else. Frame pointers, which most libraries have none of, are not needed.
 */
#include "process/trace.h"

#include "process/elf.h"
#include "process/identity.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <unwind.h>

/* -------------------------------------------------------------------------------------------- writing */

#define BOTTOM_ROOM 4096

static uintptr_t bottom; /* 0: none */

void pp__trace_set_bottom(const void *frame)
{
    bottom = (uintptr_t)frame;
}

void pp__trace_begin(struct pp__tracer *tracer, void *room, size_t size)
{
    *tracer = (struct pp__tracer){.trace = room, .room = size, .used = sizeof *tracer->trace};
    *tracer->trace = (struct pp__trace){0};
}

void pp__trace_add(struct pp__tracer *tracer, uintptr_t pc)
{
    struct pp__trace *trace = tracer->trace;
    trace->pcs[trace->count++] = pc;
    tracer->used = pp__trace_modules(trace);
}

/* A frame that a signal has interrupted has no call before its pc: it is noted as if there were one. */
static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *data)
{
    struct pp__tracer *tracer = data;
    int interrupted = 0;
    uintptr_t pc = _Unwind_GetIPInfo(context, &interrupted);
    if (bottom && _Unwind_GetCFA(context) - bottom < BOTTOM_ROOM)
        return _URC_END_OF_STACK;
    if (!tracer->inside && pc != tracer->from)
        return _URC_NO_REASON;
    if (pc == 0 || tracer->trace->count == PP__TRACE_FRAMES)
        return _URC_END_OF_STACK;
    bool exact = tracer->trace->exact && tracer->trace->count == 0;
    tracer->inside = true;
    pp__trace_add(tracer, interrupted && !exact ? pc + 1 : pc);
    return _URC_NO_REASON;
}

void pp__trace_unwind(struct pp__tracer *tracer, uintptr_t from)
{
    tracer->from = from;
    _Unwind_Backtrace(step, tracer);
    if (!tracer->inside)
        pp__trace_add(tracer, from);
    tracer->inside = true;
}

static bool is_named(const struct pp__tracer *tracer, uint64_t address)
{
    const struct pp__trace_module *module = NULL;
    while ((module = pp__trace_next(tracer->trace, tracer->used, module)))
        if (address >= module->start && address < module->end)
            return true;
    return false;
}

/* By the headers that lie where the module begins, as linkers have it; a module that is built otherwise has no id here.
 */
static uint32_t read_id(const struct dl_find_object *found, unsigned char *id)
{
    const ElfW(Ehdr) *header = found->dlfo_map_start;
    size_t size = (size_t)((const char *)found->dlfo_map_end - (const char *)found->dlfo_map_start);
    if (size < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_phoff + header->e_phnum * sizeof(ElfW(Phdr)) > size)
        return 0;
    struct dl_phdr_info info = {.dlpi_addr = found->dlfo_link_map->l_addr,
                                .dlpi_phdr = (const ElfW(Phdr) *)(const void *)((const char *)header + header->e_phoff),
                                .dlpi_phnum = header->e_phnum};
    return (uint32_t)pp__elf_module_build_id(&info, id, PP__BUILD_ID_MAX);
}

static void name_module(struct pp__tracer *tracer, uint64_t address)
{
    struct dl_find_object found;
    unsigned char id[PP__BUILD_ID_MAX];
    if (_dl_find_object((void *)(uintptr_t)address, &found) != 0) // NOLINT: an address as it was found
        return;
    const char *name = found.dlfo_link_map->l_name;
    struct pp__trace_module module = {.start = (uintptr_t)found.dlfo_map_start,
                                      .end = (uintptr_t)found.dlfo_map_end,
                                      .base = found.dlfo_link_map->l_addr,
                                      .id_size = read_id(&found, id),
                                      .name_size = (uint32_t)strlen(name) + 1};
    size_t size = (sizeof module + module.id_size + module.name_size + 7) & ~(size_t)7;
    if (size > tracer->room - tracer->used)
        return;
    char *place = (char *)tracer->trace + tracer->used;
    memset(place, 0, size);
    memcpy(place, &module, sizeof module);
    memcpy(place + sizeof module, id, module.id_size);
    memcpy(place + sizeof module + module.id_size, name, module.name_size);
    tracer->used += size;
}

void pp__trace_name(struct pp__tracer *tracer)
{
    for (uint32_t i = 0; i < tracer->trace->count; i++) {
        uint64_t address = pp__trace_place(tracer->trace, i);
        if (!is_named(tracer, address))
            name_module(tracer, address);
    }
}

size_t pp__trace_here(void *room, size_t size, uintptr_t from)
{
    struct pp__tracer tracer;
    pp__trace_begin(&tracer, room, size);
    pp__trace_unwind(&tracer, from);
    pp__trace_name(&tracer);
    return tracer.used;
}

bool pp__trace_is_code(uintptr_t address)
{
    struct dl_find_object found;
    return _dl_find_object((void *)address, &found) == 0; // NOLINT: an address as it was found
}

/* -------------------------------------------------------------------------------------------- reading */

static size_t size_of(const struct pp__trace_module *module)
{
    return (sizeof *module + (size_t)module->id_size + module->name_size + 7) & ~(size_t)7;
}

const struct pp__trace_module *pp__trace_next(const struct pp__trace *trace, size_t size,
                                              const struct pp__trace_module *module)
{
    size_t at =
        module ? (size_t)((const char *)module - (const char *)trace) + size_of(module) : pp__trace_modules(trace);
    return at < size ? (const struct pp__trace_module *)(const void *)((const char *)trace + at) : NULL;
}

static bool module_is_sound(const struct pp__trace_module *module, size_t left)
{
    if (left < sizeof *module || module->id_size > PP__BUILD_ID_MAX || module->name_size == 0 ||
        module->name_size > left || size_of(module) > left)
        return false;
    const char *name = pp__trace_name_of(module);
    return memchr(name, 0, module->name_size) == name + module->name_size - 1;
}

bool pp__trace_is_sound(const struct pp__trace *trace, size_t size)
{
    if (size < sizeof *trace || size > PP__TRACE_MAX || size % 8 != 0 || trace->count > PP__TRACE_FRAMES ||
        pp__trace_modules(trace) > size)
        return false;
    const struct pp__trace_module *module = NULL;
    while ((module = pp__trace_next(trace, size, module)))
        if (!module_is_sound(module, size - (size_t)((const char *)module - (const char *)trace)))
            return false;
    return true;
}
