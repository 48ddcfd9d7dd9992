/* SPDX-License-Identifier: MIT */
/* pp_worker_main's note that it was called: then the program can be started once more as a forkserver. */
#ifndef PP_PROCESS_IMAGE_H
#define PP_PROCESS_IMAGE_H

#include <stdbool.h>

bool pp__worker_main_was_called(void);

#endif
