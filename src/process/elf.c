/* SPDX-License-Identifier: MIT */
#include "process/elf.h"

#include "base/seam.h"

#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEGMENTS_MAX 256
#define PART_MAX ((uint64_t)1 << 28)

static size_t align_up(size_t size, size_t align)
{
    return (size + align - 1) / align * align;
}

size_t pp__elf_note_build_id(const void *notes, size_t size, size_t align, unsigned char *id, size_t room)
{
    const char *place = notes;
    align = align == 8 ? 8 : 4;
    while (size >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) head;
        memcpy(&head, place, sizeof head);
        if (head.n_namesz > size || head.n_descsz > size)
            return 0;
        size_t content = align_up(sizeof head + head.n_namesz, align);
        size_t next = align_up(content + head.n_descsz, align);
        if (content + head.n_descsz > size)
            return 0;
        if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && memcmp(place + sizeof head, "GNU", 4) == 0) {
            size_t have = head.n_descsz < room ? head.n_descsz : room;
            memcpy(id, place + content, have);
            return have;
        }
        if (next >= size)
            return 0;
        place += next;
        size -= next;
    }
    return 0;
}

size_t pp__elf_module_build_id(const struct dl_phdr_info *info, unsigned char *id, size_t room)
{
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        if (segment->p_type != PT_NOTE)
            continue;
        const void *notes = (const void *)(info->dlpi_addr + segment->p_vaddr); // NOLINT: the loader's own arithmetic
        size_t have = pp__elf_note_build_id(notes, segment->p_memsz, segment->p_align, id, room);
        if (have > 0)
            return have;
    }
    return 0;
}

static bool header_is_ours(const ElfW(Ehdr) * header)
{
    return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 &&
           header->e_ident[EI_CLASS] == (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) &&
           header->e_phentsize == sizeof(ElfW(Phdr));
}

static size_t note_of_file(int fd, const ElfW(Phdr) * segment, unsigned char *id, size_t room)
{
    char notes[4096];
    size_t size = segment->p_filesz < sizeof notes ? segment->p_filesz : sizeof notes;
    ssize_t have = PP_SYS(pread)(fd, notes, size, (off_t)segment->p_offset);
    return have > 0 ? pp__elf_note_build_id(notes, (size_t)have, segment->p_align, id, room) : 0;
}

int pp__elf_file_build_id(int fd, unsigned char *id, size_t room)
{
    ElfW(Ehdr) header;
    if (PP_SYS(pread)(fd, &header, sizeof header, 0) != sizeof header || !header_is_ours(&header))
        return -1;
    for (unsigned i = 0; i < header.e_phnum && i < SEGMENTS_MAX; i++) {
        ElfW(Phdr) segment;
        off_t place = (off_t)(header.e_phoff + i * sizeof segment);
        if (PP_SYS(pread)(fd, &segment, sizeof segment, place) != sizeof segment)
            return -1;
        size_t have = segment.p_type == PT_NOTE ? note_of_file(fd, &segment, id, room) : 0;
        if (have > 0)
            return (int)have;
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------------- symbols */

/* Reads `size` bytes at `offset`, with a NUL behind them, to be freed. Reading, not mapping: the file may shrink
 * meanwhile. */
static void *read_part(int fd, uint64_t offset, uint64_t size)
{
    if (size == 0 || size > PART_MAX)
        return NULL;
    char *part = PP_SYS(malloc)(size + 1);
    if (part && PP_SYS(pread)(fd, part, size, (off_t)offset) == (ssize_t)size) {
        part[size] = '\0';
        return part;
    }
    free(part);
    return NULL;
}

static int search(const ElfW(Sym) * symbols, size_t count, const char *names, size_t names_size, uint64_t address,
                  char *name, size_t room)
{
    for (size_t i = 0; i < count; i++) {
        const ElfW(Sym) *symbol = &symbols[i];
        if ((symbol->st_info & 0xf) != STT_FUNC || address < symbol->st_value ||
            address - symbol->st_value >= symbol->st_size || symbol->st_name >= names_size)
            continue;
        snprintf(name, room, "%s", names + symbol->st_name);
        return *name != '\0';
    }
    return 0;
}

static int search_table(int fd, const ElfW(Shdr) * table, const ElfW(Shdr) * strings, uint64_t address, char *name,
                        size_t room)
{
    ElfW(Sym) *symbols = read_part(fd, table->sh_offset, table->sh_size);
    char *names = read_part(fd, strings->sh_offset, strings->sh_size);
    int found = symbols && names &&
                search(symbols, table->sh_size / sizeof *symbols, names, strings->sh_size, address, name, room);
    free(symbols);
    free(names);
    return found;
}

static int search_file(int fd, uint64_t address, char *name, size_t room)
{
    ElfW(Ehdr) header;
    if (PP_SYS(pread)(fd, &header, sizeof header, 0) != sizeof header || !header_is_ours(&header) ||
        header.e_shentsize != sizeof(ElfW(Shdr)))
        return 0;
    int found = 0;
    ElfW(Shdr) *sections = read_part(fd, header.e_shoff, (uint64_t)header.e_shnum * sizeof *sections);
    for (unsigned i = 0; sections && i < header.e_shnum && !found; i++)
        if ((sections[i].sh_type == SHT_SYMTAB || sections[i].sh_type == SHT_DYNSYM) &&
            sections[i].sh_link < header.e_shnum)
            found = search_table(fd, &sections[i], &sections[sections[i].sh_link], address, name, room);
    free(sections);
    return found;
}

int pp__elf_symbol(const char *path, uint64_t address, char *name, size_t room)
{
    int fd = PP_SYS(open)(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    int found = search_file(fd, address, name, room);
    close(fd);
    return found;
}
