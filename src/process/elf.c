/* SPDX-License-Identifier: MIT */
#include "process/elf.h"

#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENTS_MAX 256

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
    ssize_t have = pread(fd, notes, size, (off_t)segment->p_offset);
    return have > 0 ? pp__elf_note_build_id(notes, (size_t)have, segment->p_align, id, room) : 0;
}

int pp__elf_file_build_id(int fd, unsigned char *id, size_t room)
{
    ElfW(Ehdr) header;
    if (pread(fd, &header, sizeof header, 0) != sizeof header || !header_is_ours(&header))
        return -1;
    for (unsigned i = 0; i < header.e_phnum && i < SEGMENTS_MAX; i++) {
        ElfW(Phdr) segment;
        off_t place = (off_t)(header.e_phoff + i * sizeof segment);
        if (pread(fd, &segment, sizeof segment, place) != sizeof segment)
            return -1;
        size_t have = segment.p_type == PT_NOTE ? note_of_file(fd, &segment, id, room) : 0;
        if (have > 0)
            return (int)have;
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------------- symbols */

struct image {
    const char *bytes;
    size_t size;
};

/* A table of `count` elements of `each` bytes at `offset`, if it lies in the file and can be read in place; else NULL. */
static const void *table(const struct image *image, uint64_t offset, uint64_t count, size_t each)
{
    if (offset > image->size || count > (image->size - offset) / each || offset % 8 != 0)
        return NULL;
    return image->bytes + offset;
}

static int copy_name(const struct image *image, const ElfW(Shdr) * strings, uint64_t at, char *name, size_t room)
{
    if (strings->sh_offset > image->size || strings->sh_size > image->size - strings->sh_offset ||
        at >= strings->sh_size)
        return 0;
    const char *text = image->bytes + strings->sh_offset + at;
    size_t length = strnlen(text, strings->sh_size - at);
    snprintf(name, room, "%.*s", (int)(length < room ? length : room), text);
    return length > 0;
}

static int find_in(const struct image *image, const ElfW(Shdr) * sections, unsigned count, const ElfW(Shdr) * section,
                   uint64_t address, char *name, size_t room)
{
    uint64_t symbols = section->sh_size / sizeof(ElfW(Sym));
    const ElfW(Sym) *symbol = table(image, section->sh_offset, symbols, sizeof *symbol);
    if (!symbol || section->sh_link >= count)
        return 0;
    for (uint64_t i = 0; i < symbols; i++)
        if ((symbol[i].st_info & 0xf) == STT_FUNC && address >= symbol[i].st_value &&
            address - symbol[i].st_value < symbol[i].st_size)
            return copy_name(image, &sections[section->sh_link], symbol[i].st_name, name, room);
    return 0;
}

static int find_symbol(const struct image *image, uint64_t address, char *name, size_t room)
{
    const ElfW(Ehdr) *header = table(image, 0, 1, sizeof *header);
    if (!header || !header_is_ours(header) || header->e_shentsize != sizeof(ElfW(Shdr)))
        return 0;
    const ElfW(Shdr) *sections = table(image, header->e_shoff, header->e_shnum, sizeof *sections);
    for (unsigned i = 0; sections && i < header->e_shnum; i++)
        if (sections[i].sh_type == SHT_SYMTAB)
            return find_in(image, sections, header->e_shnum, &sections[i], address, name, room);
    return 0;
}

int pp__elf_symbol(const char *path, uint64_t address, char *name, size_t room)
{
    struct stat file;
    int found = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (fstat(fd, &file) == 0 && file.st_size > 0) {
        struct image image = {.size = (size_t)file.st_size};
        void *bytes = mmap(NULL, image.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes != MAP_FAILED) {
            image.bytes = bytes;
            found = find_symbol(&image, address, name, room);
            munmap(bytes, image.size);
        }
    }
    close(fd);
    return found;
}
