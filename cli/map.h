/* SPDX-License-Identifier: MIT */
/* `procpool map`. */
#ifndef PROCPOOL_CLI_MAP_H
#define PROCPOOL_CLI_MAP_H

/* Runs it; argv[0] is the word "map". Returns the exit status, or ends the process by the signal that interrupted it.
 */
int map_main(int argc, char **argv);

#endif
