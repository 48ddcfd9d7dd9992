/* SPDX-License-Identifier: MIT */
/*
 * From a raw trace (trace.h) to words, in the owner: names of functions, and file and line where there is debug
 * information. Reads the modules' files, which takes milliseconds and more where they are large: to be called with no
 * lock held. The files are those that the worker names; libdw, where it is there, is trusted to bear whatever lies in
 * them.
 */
#ifndef PP_PROCESS_SYMBOLS_H
#define PP_PROCESS_SYMBOLS_H

#include "process/trace.h"

/*
 * A line for each frame of a sound trace, innermost first:
 *
 *     #0 function at file:line (module+0x1234)
 *
 * without what is not known. What lies outside of the outermost frame of `function` is left out. To be freed; NULL: no
 * memory.
 */
char *pp__symbols_text(const struct pp__trace *trace, size_t size, const char *function);

#endif
