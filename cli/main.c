/* SPDX-License-Identifier: MIT */
/* The procpool command: finds the subcommand and runs it. */
#include "map.h"
#include "output.h"
#include "say.h"

#include <fcntl.h>
#include <procpool.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char help[] = "Usage: procpool COMMAND [ARGUMENT...]\n"
                           "\n"
                           "Commands:\n"
                           "  map        call a function of a shared library for each input, in worker processes\n"
                           "\n"
                           "  --help     this text; 'procpool COMMAND --help' is about that command\n"
                           "  --version  the version\n";

/* A standard descriptor that is closed becomes one that can't be read, or written, as it would be: no file that is
 * opened later gets its number. The lowest free number is always the one that is missing. */
static void fill_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            return;
}

static int show_version(void)
{
    char text[64];
    snprintf(text, sizeof text, "procpool %s\n", pp_version());
    return output_only(text);
}

int main(int argc, char **argv)
{
    if (pp_worker_main() != 0) {
        say("%s", pp_last_error());
        return EXIT_FAILED;
    }
    fill_standard_descriptors();
    signal(SIGPIPE, SIG_IGN); /* a closed standard output is an error of write's, */
    signal(SIGXFSZ, SIG_IGN); /* and so is a file that may not grow any more */
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "map") == 0)
        return map_main(argc - 1, argv + 1);
    if (strcmp(command, "--help") == 0)
        return output_only(help);
    if (strcmp(command, "--version") == 0)
        return show_version();
    if (argc > 1)
        say("'%s' is no command (see 'procpool --help')", command);
    else
        say("no command (see 'procpool --help')");
    return EXIT_USAGE;
}
