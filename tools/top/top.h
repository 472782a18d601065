/* SPDX-License-Identifier: MIT
 *
 * top.h: weft-top: its parts.
 *
 *   main.c      options; which program
 *   source.c    the page of a program (runtime/page.h): found, trusted, read
 *   report.c    what two readings say: rates, shares, the names in order
 *   symbols.c   an address in the program as the name of a function
 *   batch.c     plain text      screen.c   the terminal
 *
 * What is read comes from another program, which may be anybody's: every number that says how many is
 * held to what the page has room for, every string ends, and is shown in printable characters.
 */
#ifndef WEFT_TOP_H
#define WEFT_TOP_H

#include "page.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- source.c ---- */
typedef struct {
    int fd;
    int pid;
    uint64_t started;
    char command[PAGE_NAME];
} Source;

enum SourceState {
    SOURCE_OK,
    SOURCE_ENDED, /* the run has */
    SOURCE_GONE,  /* the process has, without a word */
    SOURCE_STUCK  /* it stopped in the middle of a refresh */
};

int source_only(void);                /* the one process with a page; 0: said why there is none */
bool source_open(Source *s, int pid); /* false: said why not */
enum SourceState source_read(Source *s, PageBody *b);
void source_say(const Source *s, enum SourceState state); /* why it is not OK */

/* ---- report.c ---- */
enum Sort { SORT_TIME, SORT_COUNT, SORT_NAME };

typedef struct {
    char label[80];
    uint64_t ns, alive; /* ns: since the reading before */
    uint64_t total;     /* ns in all */
} NameLine;

typedef struct {
    const Source *source;
    PageBody now, before;
    bool first;     /* there is no before: rates are those since the run began */
    double seconds; /* between them */
    double share;   /* of 1 ns in all processors' time, in percent */
    NameLine name[PAGE_NAMES];
} Report;

void report_begin(Report *r, const Source *s);
enum SourceState report_next(Report *r, Source *s); /* read, and work it out */
void report_sort(Report *r, enum Sort by);
uint64_t report_value(const Report *r, const char *counter); /* 0: there is none */
double report_rate(const Report *r, const char *counter);    /* per second */
const char *report_runs(const PageProc *p);
void report_label(const Report *r, const char *name, uint64_t fn, char *to, size_t size);

/* ---- symbols.c ---- */
/* The name of the function at that address of the process; else file+0xoffset, else the number. */
void symbol_name(int pid, uint64_t address, char *to, size_t size);

/* ---- batch.c, screen.c ---- */
int batch_run(Source *s, long count, double delay); /* count 0: until the run ends */
int screen_run(Source *s, double delay);

#endif
