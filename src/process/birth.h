/* SPDX-License-Identifier: MIT */
/*
 * How a zygote is made, on the owner's side. The host must not see a child of its own that it did not make: the zygote
 * is forked, or spawned, by a helper that shares the owner's memory (CLONE_VM | CLONE_VFORK), has exit signal 0, so
 * that neither SIGCHLD nor wait(-1) tell of it, and is gone when the clone returns.
 */
#ifndef PP_PROCESS_BIRTH_H
#define PP_PROCESS_BIRTH_H

#include "process/wire.h"
#include "procpool.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct pp__zygote {
    int control; /* the owner's end, adopted */
    int pidfd;   /* adopted; -1 where there are none */
    pid_t pid;
};

/* Options are valid and belong to the method. 0, or the errors of pp_launcher_create with their texts. */
int pp__birth_fork(const pp_launcher_options *options, struct pp__zygote *zygote);
int pp__birth_image(const pp_launcher_options *options, bool spawn, struct pp__zygote *zygote);

/* What a fresh image is executed from: the file that runs, even if it was replaced or deleted since. */
const char *pp__birth_executable(char path[PATH_MAX]);

/* A name that nobody guesses. */
void pp__nonce_make(char nonce[PP__NONCE_SIZE]);

#endif
