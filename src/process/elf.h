/* SPDX-License-Identifier: MIT */
/* The little that identity.c reads in ELF files: notes and symbol tables. Files are not trusted: every offset is
 * checked. */
#ifndef PP_PROCESS_ELF_H
#define PP_PROCESS_ELF_H

#include <link.h>
#include <stddef.h>
#include <stdint.h>

/* The GNU build-id among these notes: its size (at most `room` bytes are written), 0 if there is none. */
size_t pp__elf_note_build_id(const void *notes, size_t size, size_t align, unsigned char *id, size_t room);

/* The same of a loaded module and of a file; of a file also -1 if it is no ELF file of this machine's kind. */
size_t pp__elf_module_build_id(const struct dl_phdr_info *info, unsigned char *id, size_t room);
int pp__elf_file_build_id(int fd, unsigned char *id, size_t room);

/* Looks `address` (as the file has it) up in the file's full symbol table; 1 and the name of its function, 0. */
int pp__elf_symbol(const char *path, uint64_t address, char *name, size_t room);

#endif
