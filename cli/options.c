/* SPDX-License-Identifier: MIT */
#include "options.h"

#include "say.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIME_MAX_MS (49 * 24 * 3600 * 1000.0) /* the most whole days whose milliseconds are an uint32_t */
#define SEE_HELP "(see 'procpool map --help')"

const char options_help[] =
    "Usage: procpool map [OPTION...] LIBRARY.so:FUNCTION [INPUT...]\n"
    "\n"
    "Calls FUNCTION, a task of the shared library, for each INPUT in worker processes, and prints the results in the\n"
    "order of the inputs. Without INPUT, the lines of standard input are the inputs.\n"
    "\n"
    "  -j, --jobs=N             workers (default: the processors that may be used; at most 1024)\n"
    "  -0, --null               inputs and results end with NUL instead of newline\n"
    "      --tag                print each result after its input and a tab\n"
    "      --unordered          print results as they come\n"
    "      --timeout=TIME       end a call that runs longer: 2, 0.5, 500ms, 30s or 5m (seconds without a unit)\n"
    "      --retries=N          begin a call again up to N times after a crash or a timeout\n"
    "      --fail-fast          stop after the first input that fails\n"
    "      --on-crash=RULE      'isolate': a crash costs its input (default); 'break': it ends everything\n"
    "      --start-method=NAME  'forkserver' (default), 'fork', 'spawn', or 'inline' (no processes, for debuggers)\n"
    "      --backtrace          below the reason of a crash or failure, where in the code it was\n"
    "      --chunk=N            inputs that travel together (default: found by measuring)\n"
    "      --progress           a bar on standard error, if that is a terminal\n"
    "      --help               this text\n"
    "\n"
    "Options come before LIBRARY.so:FUNCTION. An input that fails prints 'INPUT: reason' on standard error.\n"
    "Exit status: 0 if all succeeded, 1 if some failed or the work could not go on, 2 after wrong use.\n";

enum long_option {
    OPTION_TAG = 256,
    OPTION_UNORDERED,
    OPTION_TIMEOUT,
    OPTION_RETRIES,
    OPTION_FAIL_FAST,
    OPTION_ON_CRASH,
    OPTION_START_METHOD,
    OPTION_CHUNK,
    OPTION_BACKTRACE,
    OPTION_PROGRESS,
    OPTION_HELP
};

static const struct option long_options[] = {
    {"jobs", required_argument, NULL, 'j'},
    {"null", no_argument, NULL, '0'},
    {"tag", no_argument, NULL, OPTION_TAG},
    {"unordered", no_argument, NULL, OPTION_UNORDERED},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"retries", required_argument, NULL, OPTION_RETRIES},
    {"fail-fast", no_argument, NULL, OPTION_FAIL_FAST},
    {"on-crash", required_argument, NULL, OPTION_ON_CRASH},
    {"start-method", required_argument, NULL, OPTION_START_METHOD},
    {"chunk", required_argument, NULL, OPTION_CHUNK},
    {"backtrace", no_argument, NULL, OPTION_BACKTRACE},
    {"progress", no_argument, NULL, OPTION_PROGRESS},
    {"help", no_argument, NULL, OPTION_HELP},
    {0},
};

static int wrong_value(const char *option, const char *value, const char *expected)
{
    say("--%s: '%s' is not %s", option, value, expected);
    return EXIT_USAGE;
}

/* A whole number from `least` to `most`. */
static int parse_number(const char *option, const char *value, long least, long most, long *number)
{
    char expected[80];
    char *end = NULL;
    errno = 0;
    long parsed = strtol(value, &end, 10);
    if (isdigit((unsigned char)value[0]) && *end == '\0' && errno == 0 && parsed >= least && parsed <= most) {
        *number = parsed;
        return 0;
    }
    snprintf(expected, sizeof expected, "a number from %ld to %ld", least, most);
    return wrong_value(option, value, expected);
}

/* Milliseconds in a unit; 0 for an unknown one. */
static double unit(const char *name)
{
    if (strcmp(name, "") == 0 || strcmp(name, "s") == 0)
        return 1000;
    if (strcmp(name, "ms") == 0)
        return 1;
    return strcmp(name, "m") == 0 ? 60000 : 0;
}

static int parse_time(const char *option, const char *value, uint32_t *ms)
{
    char *end = NULL;
    double number = strtod(value, &end);
    double parsed = number * unit(end);
    bool plain = isdigit((unsigned char)value[0]) || value[0] == '.'; /* strtod knows infinity, and white space */
    if (!plain || strpbrk(value, "xXpP") || !(parsed > 0 && parsed <= TIME_MAX_MS))
        return wrong_value(option, value, "a time above 0 and up to 49 days, such as 2, 0.5, 500ms, 30s or 5m");
    *ms = parsed < 1 ? 1 : (uint32_t)(parsed + 0.5);
    return 0;
}

static int parse_crash_rule(const char *value, pp_crash_rule *rule)
{
    if (strcmp(value, "isolate") == 0)
        *rule = PP_ISOLATE;
    else if (strcmp(value, "break") == 0)
        *rule = PP_BREAK_POOL;
    else
        return wrong_value("on-crash", value, "'isolate' or 'break'");
    return 0;
}

static int parse_start_method(const char *value, pp_start_method *method)
{
    if (strcmp(value, "forkserver") == 0)
        *method = PP_START_FORKSERVER;
    else if (strcmp(value, "fork") == 0)
        *method = PP_START_FORK;
    else if (strcmp(value, "spawn") == 0)
        *method = PP_START_SPAWN;
    else if (strcmp(value, "inline") == 0)
        *method = PP_START_INLINE;
    else
        return wrong_value("start-method", value, "'forkserver', 'fork', 'spawn' or 'inline'");
    return 0;
}

static int set_flag(struct map_options *options, int option)
{
    switch (option) {
    case '0':
        options->ending = '\0';
        break;
    case OPTION_TAG:
        options->tag = true;
        break;
    case OPTION_UNORDERED:
        options->unordered = true;
        break;
    case OPTION_FAIL_FAST:
        options->fail_fast = true;
        break;
    case OPTION_BACKTRACE:
        options->backtrace = true;
        break;
    case OPTION_PROGRESS:
        options->progress = true;
        break;
    case OPTION_HELP:
        options->help = true;
        break;
    }
    return 0;
}

static int set_number(struct map_options *options, int option, const char *value)
{
    long number = 0;
    int code = 0;
    if (option == 'j') {
        code = parse_number("jobs", value, 1, 1024, &number);
        options->jobs = (int)number;
    } else if (option == OPTION_RETRIES) {
        code = parse_number("retries", value, 0, 1000, &number);
        options->retries = (uint32_t)number;
    } else {
        code = parse_number("chunk", value, 1, 65536, &number);
        options->chunk = (size_t)number;
    }
    return code;
}

static int set(struct map_options *options, int option, const char *value)
{
    switch (option) {
    case 'j':
    case OPTION_RETRIES:
    case OPTION_CHUNK:
        return set_number(options, option, value);
    case OPTION_TIMEOUT:
        return parse_time("timeout", value, &options->timeout);
    case OPTION_ON_CRASH:
        return parse_crash_rule(value, &options->on_crash);
    case OPTION_START_METHOD:
        return parse_start_method(value, &options->start_method);
    default:
        return set_flag(options, option);
    }
}

/* What getopt stumbled over: argv[optind - 1], or one letter of it. */
static int refuse(int reason, char **argv)
{
    const char *word = argv[optind - 1];
    char letter[3] = {'-', (char)optopt, '\0'};
    if (reason == ':')
        say("option '%s' needs a value " SEE_HELP, optopt < 256 && word[1] != '-' ? letter : word);
    else if (optopt == 0)
        say("option '%s' is unknown or ambiguous " SEE_HELP, word);
    else if (optopt >= 256 || optopt == '0')
        say("option '%s' takes no value " SEE_HELP, word);
    else
        say("option '%s' is unknown " SEE_HELP, letter);
    return EXIT_USAGE;
}

int options_parse(int argc, char **argv, struct map_options *options)
{
    int option;
    *options = (struct map_options){.ending = '\n'};
    opterr = 0;
    /* "+": the first word that is no option ends them, so an input may begin with a dash. */
    while ((option = getopt_long(argc, argv, "+:j:0", long_options, NULL)) != -1) {
        int code = option == '?' || option == ':' ? refuse(option, argv) : set(options, option, optarg);
        if (code != 0 || options->help)
            return code;
    }
    if (optind == argc) {
        say("map needs LIBRARY.so:FUNCTION " SEE_HELP);
        return EXIT_USAGE;
    }
    options->task = argv[optind];
    options->inputs = argv + optind + 1;
    options->input_count = (size_t)(argc - optind - 1);
    return 0;
}
