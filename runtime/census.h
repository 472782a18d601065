/* SPDX-License-Identifier: MIT
 *
 * census.h: a look at what waits: cycles of locks, stuck coroutines, and those that never ended.
 */
#ifndef WEFT_CENSUS_H
#define WEFT_CENSUS_H

#include "rt.h"

int census_start(void);  /* start of a run: the thread, if WEFT_DEBUG asks for one. -errno */
void census_stop(void);  /* end of a run */
void census_leaks(void); /* end of a run, nothing runs any more: WEFT_DEBUG=leaks */
/* A wait was noted in cycles.c: see that somebody looks at it in a while */
void census_wake(void);
void census_ask_dump(void); /* (signal) */

#endif
