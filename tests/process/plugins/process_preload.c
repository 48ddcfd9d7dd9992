/* SPDX-License-Identifier: MIT */
/* Does to the process what constructors of strangers may do. */
#include <signal.h>
#include <stdio.h>

__attribute__((constructor)) static void meddle(void)
{
    signal(SIGUSR1, SIG_IGN);
    printf("a constructor's text");
}
