/* SPDX-License-Identifier: MIT
 *
 * company.h: a test's main coroutine runs under the storm beside busy coroutines,
 * and beside sleepers that become ready all the time: a reason to interrupt
 * whoever computes. */
#ifndef COMPANY_H
#define COMPANY_H

#include "behaviour.h"
#include "preempt_test.h"

enum { NHOGS = 3, NSLEEPERS = 3 };
static _Atomic bool stop;
static Hog hogs[NHOGS];
static weft_wg_t company;

static inline void sleeper(void *arg)
{
    int64_t every = (int64_t)(intptr_t)arg;
    while (!stop)
        weft_sleep(every);
    weft_wg_done(&company);
}

static inline void company_comes(unsigned flags)
{
    weft_attr_t attr = {.flags = flags};
    EQ(weft_wg_add(&company, NHOGS + NSLEEPERS), 0);
    for (int i = 0; i < NHOGS; i++) {
        hogs[i] = (Hog){.stop = &stop, .wg = &company};
        EQ(weft_go_with(&attr, hog, &hogs[i]), 0);
    }
    for (int i = 0; i < NSLEEPERS; i++)
        go(sleeper, (void *)(intptr_t)((300 + i * 170) * US));
}

static inline void company_goes(void)
{
    while (preemptions() == 0) /* what was under test may have kept them from running */
        weft_sleep(MS);
    stop = true;
    EQ(weft_wg_wait(&company), 0);
    stop = false;
}

/* fn as main, under the storm. */
static void (*under_test)(void);

static inline void beside_company(void)
{
    company_comes(0);
    under_test();
    company_goes();
}

static inline void storm_run(int which, void (*fn)(void))
{
    storm("200");
    under_test = fn;
    run(which, beside_company);
}

#endif
