/* SPDX-License-Identifier: MIT
 *
 * weft-trace: what a trace of weft's says: a summary, or JSON for a viewer. See weft-trace(1).
 */
#include "config.h"

#include "weft-trace.h"

#include <getopt.h>
#include <stdlib.h>

static const char usage[] =
    "usage: weft-trace [-s] [-n ROWS] [-j JSON] TRACE\n"
    "  -j, --json FILE   write it for ui.perfetto.dev; -: to standard output\n"
    "  -s, --summary     print the summary, too\n"
    "  -n, --rows N      names in it; 20\n"
    "  -h, --help        this; -V, --version\n";

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", required_argument, NULL, 'j'}, {"summary", no_argument, NULL, 's'},
        {"rows", required_argument, NULL, 'n'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},    {NULL, 0, NULL, 0},
    };
    const char *json = NULL;
    bool summary = false;
    long rows = 20;
    for (int c; (c = getopt_long(argc, argv, "j:sn:hV", options, NULL)) != -1;) {
        char *end = NULL;
        switch (c) {
        case 'j':
            json = optarg;
            break;
        case 's':
            summary = true;
            break;
        case 'n':
            rows = strtol(optarg, &end, 10);
            if (end == optarg || *end != '\0' || rows < 0) {
                fprintf(stderr, "weft-trace: -n %s: not a number\n", optarg);
                return 2;
            }
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        case 'V':
            puts("weft-trace " PACKAGE_VERSION);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    if (optind + 1 != argc) {
        fputs(usage, stderr);
        return 2;
    }
    Trace t;
    if (!trace_read(&t, argv[optind]))
        return 1;
    bool ok = json == NULL || json_write(&t, json);
    if (json == NULL || summary)
        summary_print(&t, (size_t)rows, stdout);
    trace_free(&t);
    if (fflush(stdout) != 0) {
        perror("weft-trace");
        return 1;
    }
    return ok ? 0 : 1;
}
