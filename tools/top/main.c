/* SPDX-License-Identifier: MIT
 *
 * main.c: weft-top: a view of a running program that uses libweft.
 *
 *   weft-top [-b] [-n count] [-d seconds] [pid]
 *
 * The program publishes a page if it was started with WEFT_DEBUG=top. man/weft-top.1 has the rest. */
#include "top.h"

#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int usage(void)
{
    fprintf(stderr, "usage: weft-top [-b] [-n count] [-d seconds] [pid]\n");
    return 2;
}

static bool number(const char *s, double least, double most, double *to)
{
    char *end;
    *to = strtod(s, &end);
    return end != s && *end == '\0' && *to >= least && *to <= most;
}

int main(int argc, char **argv)
{
    double delay = 1, count = 0, pid = 0;
    bool batch = false;
    Source source;
    for (int opt; (opt = getopt(argc, argv, "bd:hn:V")) != -1;) {
        if (opt == 'b') {
            batch = true;
        } else if (opt == 'V') {
            printf("weft-top %s\n", PACKAGE_VERSION);
            return 0;
        } else if (!(opt == 'd' && number(optarg, 0.01, 1e6, &delay)) &&
                   !(opt == 'n' && number(optarg, 1, 1e9, &count))) {
            return usage();
        }
    }
    if (argc - optind > 1 || (optind < argc && !number(argv[optind], 1, 4194304, &pid)))
        return usage();
    if (pid == 0 && (pid = source_only()) == 0)
        return 1;
    if (!source_open(&source, (int)pid))
        return 1;
    return batch ? batch_run(&source, (long)count, delay) : screen_run(&source, delay);
}
