/* SPDX-License-Identifier: MIT
 *
 * page.h: the page that a program publishes and weft-top reads: the layout of the file.
 *
 * It describes itself: counters, states and wait reasons come with their names, so that a tool of another
 * version shows what it does not know. What is added goes to the end of a struct; whatever else changes,
 * PAGE_VERSION does too. All in the machine's byte order.
 *
 * seq is odd while the body is being written. Who reads takes seq, the body, seq again: if both
 * are the same even number, the body is of one moment. The writer stores it once every refresh at
 * most, and `refreshed` with it.
 */
#ifndef WEFT_PAGE_H
#define WEFT_PAGE_H

#include <stdatomic.h>
#include <stdint.h>

#define PAGE_MAGIC "weft-top"
enum {
    PAGE_VERSION = 1,
    PAGE_NAME = 32, /* bytes of a name, with its NUL */
    PAGE_COUNTERS = 96,
    PAGE_STATES = 4,
    PAGE_WAITS = 40,
    PAGE_PROCS = 256, /* more are counted, but not listed */
    PAGE_NAMES = 64
};

enum PageKind { PAGE_COUNTER, PAGE_GAUGE, PAGE_SECONDS };
enum PageRuns {
    PAGE_IDLE,       /* nothing */
    PAGE_RUNNING,    /* a coroutine */
    PAGE_SCHEDULING, /* the runtime itself */
    PAGE_SYSCALL,    /* a coroutine in a declared blocking call */
    PAGE_BLOCKED     /* one that was seen to be blocked in the kernel */
};

typedef struct {
    char name[PAGE_NAME]; /* of the field in weft_stats_t */
    uint64_t value;
    uint64_t kind; /* enum PageKind */
} PageCounter;

typedef struct {
    char name[PAGE_NAME];
    uint64_t n;
} PageCount;

typedef struct {
    uint32_t id;
    uint8_t runs; /* enum PageRuns */
    uint8_t lent; /* beyond the number of processors */
    uint16_t unused;
    uint32_t queue, timers;
    uint64_t switches;
    uint64_t coroutine;   /* the id of what runs; 0: nothing, or it could not be told */
    uint64_t fn;          /* its function */
    int64_t since;        /* when it was first seen there */
    char name[PAGE_NAME]; /* its name; "": none */
} PageProc;

typedef struct PageName {
    char name[PAGE_NAME]; /* "": those without a name whose function is fn */
    uint64_t fn;
    uint64_t ns;    /* on processors, as sampled */
    uint64_t alive; /* coroutines, at the last count */
} PageName;

typedef struct {
    int64_t refreshed; /* all times: CLOCK_MONOTONIC, nanoseconds */
    int64_t began;     /* the run */
    int64_t refresh;   /* nanoseconds between two */
    int64_t counted;   /* when states, waits and names' `alive` were complete; 0: not yet */
    int64_t count_ns;  /* what that took */
    uint64_t sampled;  /* all nanoseconds that processors ran, as sampled */
    uint32_t ended;    /* 1: the run has; nothing more will come */
    uint32_t ncounters, nstates, nwaits, nprocs, nnames;
    PageCounter counter[PAGE_COUNTERS];
    PageCount state[PAGE_STATES]; /* running, syscall, runnable, waiting: their sum is all */
    PageCount wait[PAGE_WAITS];   /* of those that wait: for what */
    PageProc proc[PAGE_PROCS];
    PageName name[PAGE_NAMES];
} PageBody;

typedef struct {
    char magic[8];    /* PAGE_MAGIC, without the NUL; written last */
    uint32_t version; /* PAGE_VERSION */
    uint32_t size;    /* of this struct */
    uint64_t pid;
    uint64_t started; /* the process: field 22 of /proc/<pid>/stat */
    _Atomic uint32_t seq;
    uint32_t unused;
    PageBody body;
} Page;

#endif
