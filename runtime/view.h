/* SPDX-License-Identifier: MIT
 *
 * view.h: what is shown of a running program from outside: view.c, schedtrace.c. Called by the thread
 * that begins and ends the run, and by the monitor. */
#ifndef WEFT_VIEW_H
#define WEFT_VIEW_H

#include "rt.h"

enum { TOP_MS = 250 /* between two refreshes */ };

/* Into PAGE_NAME bytes of a page, zeros. */
static inline void view_name(char *to, const char *name)
{
    memcpy(to, name, strnlen(name, NAME_MAX_LEN));
}

void view_start(void); /* WEFT_DEBUG=top. Failing is said, and no reason to stop */
void view_stop(void);
/* The monitor, at every turn: do what is due. When there will be more, if nothing runs until then;
 * INT64_MAX: never */
int64_t view_turn(int64_t now);

void schedtrace_start(void);
int64_t schedtrace_turn(int64_t now);

/* view_names.c: coroutines by name; the monitor's. g may end meanwhile: coro_lock_all() is held. */
struct PageName;
void names_reset(void);
void names_ran(const G *g, int64_t ns); /* it ran for about so long */
uint64_t names_function(const G *g);
void names_count(const G *g); /* it is there, in this round */
void names_round(void);       /* a round ends, and the next begins */
uint32_t names_list(struct PageName *to, uint32_t max);

#endif
