/* SPDX-License-Identifier: MIT
 *
 * hogs.h: busy coroutines for the Check tests of preemption. */
#ifndef HOGS_H
#define HOGS_H

#include "behaviour.h"
#include "preempt_test.h"

enum { HOGS_MAX = 64 };
static _Atomic bool stop;
static Hog hogs[HOGS_MAX];
static weft_wg_t wg;

static inline void start_hogs(int n, unsigned flags)
{
    weft_attr_t attr = {.name = "hog", .flags = flags};
    EQ(weft_wg_add(&wg, n), 0);
    for (int i = 0; i < n; i++) {
        hogs[i] = (Hog){.stop = &stop, .wg = &wg};
        EQ(weft_go_with(&attr, hog, &hogs[i]), 0);
    }
}

static inline void stop_hogs(void)
{
    stop = true;
    EQ(weft_wg_wait(&wg), 0);
    stop = false;
}

/* Until each of the n hogs has gone on since it was last looked at. */
static inline void wait_progress(int n)
{
    uint64_t seen[HOGS_MAX];
    int64_t late = weft_now() + 10 * SEC;
    for (int i = 0; i < n; i++)
        seen[i] = hogs[i].rounds;
    for (int i = 0; i < n; i++) {
        while (hogs[i].rounds == seen[i]) {
            OK(weft_now() < late);
            weft_sleep(MS);
        }
    }
}

#endif
