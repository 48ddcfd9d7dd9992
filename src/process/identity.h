/* SPDX-License-Identifier: MIT */
/*
 * Function identity: (module, offset), the module checked by its GNU build-id, or, where it has none, by device, inode,
 * size and time. The loader is asked here; call nothing here with a lock held that a module's constructor could need.
 */
#ifndef PP_PROCESS_IDENTITY_H
#define PP_PROCESS_IDENTITY_H

#include <stddef.h>
#include <stdint.h>

#define PP__BUILD_ID_MAX 32
#define PP__FUNCTION_NAME_MAX 128 /* with its NUL */

/* A module in the owner: pinned in memory while referenced. */
struct pp__module;

/*
 * The module of `function` and the offset in it. The caller has a reference to *module. -EINVAL: in no file-backed
 * executable segment of a loaded module, with a text; -ENOMEM; -EBADMSG: the module's file can't be read (gone), so
 * workers couldn't open it.
 */
int pp__module_find(const void *function, struct pp__module **module, uint64_t *offset);
void pp__module_unref(struct pp__module *module);

/* Its address in the owner; function = base + offset. */
uintptr_t pp__module_base(const struct pp__module *module);
/* Whether it is identified by device, inode, size and time only, for the log. */
int pp__module_without_build_id(const struct pp__module *module);
const char *pp__module_path(const struct pp__module *module);

/* What travels to a worker; at most PP__MODULE_TRAVEL_MAX bytes. Returns the size. */
#define PP__MODULE_TRAVEL_MAX 4352
size_t pp__module_travel(const struct pp__module *module, void *buffer);

/*
 * In a worker: the base address there of the module that travelled, opening it by its real path if it is not loaded.
 * `shared_images`: as in child.h; a module loaded at the zygote's birth is then trusted by address. -EBADMSG with a
 * text that says what is wrong (gone, replaced on disk, dlerror's words). May run the module's constructors.
 */
int pp__module_open(const void *travel, size_t size, int shared_images, uintptr_t *base);

/* "name" of the function at this address in this process, or "module+0x1234"; cut to `size`. */
void pp__function_name(const void *function, char *text, size_t size);
/* The same of a function of this module, to which the caller has a reference. Its file is read for a name once, as long
 * as the module is known; the main program, if it has a build-id, always is. */
void pp__module_name(struct pp__module *module, uint64_t offset, char text[PP__FUNCTION_NAME_MAX]);

/* The lock of the pinned modules, to be held over a fork so that their list is whole in the child. */
void pp__module_lock(void);
void pp__module_unlock(void);

/* In the zygote, before its first fork: notes which modules are loaded, and takes the lock over. */
void pp__module_note_birth(void);

#endif
