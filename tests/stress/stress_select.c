/* SPDX-License-Identifier: MIT
 *
 * stress_select.c: selects against selects, plain operations and deadlines.
 *
 * Senders offer each number on all channels at once, receivers take from all of
 * them with short deadlines, a few plain receivers and foreign threads join in.
 * Checked: each number arrives exactly once (no select does two cases, none
 * loses what it took, a deadline that fires beside a grant does not lose it),
 * and at the end no channel has a waiter left. Rounds go on for
 * WEFT_STRESS_SECONDS (2).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { CHANS = 12, SENDERS = 4, SELECTERS = 4, PLAIN = 2, FOREIGN = 2, ITEMS = 1500 };

static weft_chan_t *chans[CHANS], *quit, *done;
static atomic_uchar seen[SENDERS * ITEMS];
static atomic_uint received;
static int width; /* channels in use */

static void must(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "stress_select: %s\n", what);
        abort();
    }
}

static void take(uint32_t v)
{
    must(v < SENDERS * ITEMS && atomic_fetch_add(&seen[v], 1) == 0, "a number came twice");
    atomic_fetch_add(&received, 1);
}

static void sender(void *arg)
{
    uint32_t id = (uint32_t)(uintptr_t)arg;
    for (uint32_t i = 0; i < ITEMS; i++) {
        uint32_t v = id * ITEMS + i;
        weft_case_t k[CHANS];
        for (int c = 0; c < width; c++)
            k[c] = (weft_case_t){.op = WEFT_SEND, .chan = chans[c], .elem = &v, .result = 99};
        int got;
        while ((got = weft_select(k, width, i % 4 == 0 ? weft_now() + 20000 : 0)) == -ETIMEDOUT)
            continue;
        must(got >= 0 && got < width && k[got].result == 0, "sending select");
        for (int c = 0; c < width; c++)
            must(c == got || k[c].result == 99, "a case that lost has a result");
    }
    must(weft_send(done, NULL) == 0, "report of the end");
}

static void select_until_quit(uint32_t salt)
{
    uint32_t buf[CHANS];
    weft_case_t k[CHANS + 1];
    for (;; salt++) {
        memset(buf, 0xff, sizeof buf);
        for (int c = 0; c < width; c++)
            k[c] = (weft_case_t){.op = WEFT_RECV, .chan = chans[c], .elem = &buf[c]};
        k[width] = (weft_case_t){.op = WEFT_RECV, .chan = quit};
        int got = salt % 5 == 0 ? weft_try_select(k, width + 1)
                                : weft_select(k, width + 1, salt % 2 ? weft_now() + 5000 : 0);
        if (got == width)
            return;
        if (got == -EAGAIN)
            weft_yield();
        if (got == -EAGAIN || got == -ETIMEDOUT)
            continue;
        must(got >= 0 && k[got].result == 1, "receiving select");
        for (int c = 0; c < width; c++)
            must(c == got || buf[c] == UINT32_MAX, "an element of a case that lost was written");
        take(buf[got]);
    }
}

static void selecter(void *arg)
{
    select_until_quit((uint32_t)(uintptr_t)arg);
    must(weft_send(done, NULL) == 0, "report of the end");
}

static void plain(void *arg)
{
    uint32_t v;
    weft_chan_t *c = chans[(uintptr_t)arg % (uintptr_t)width];
    while (weft_recv(c, &v) == 1)
        take(v);
    must(weft_send(done, NULL) == 0, "report of the end");
}

static void *foreign_selecter(void *arg)
{
    select_until_quit((uint32_t)(uintptr_t)arg);
    return NULL;
}

static int round_main(void *arg)
{
    int foreign = *(int *)arg;
    pthread_t t[FOREIGN];
    quit = weft_chan_make(0, 0);
    done = weft_chan_make(0, 0);
    for (int i = 0; i < width; i++)
        chans[i] = weft_chan_make(sizeof(uint32_t), i % 4 == 3 ? 2 : 0);
    for (uintptr_t i = 0; i < (uintptr_t)foreign; i++)
        must(pthread_create(&t[i], NULL, foreign_selecter, (void *)i) == 0, "thread");
    for (uintptr_t i = 0; i < SELECTERS; i++)
        must(weft_go(selecter, (void *)i) == 0, "go");
    for (uintptr_t i = 0; i < PLAIN; i++)
        must(weft_go(plain, (void *)i) == 0, "go");
    for (uintptr_t i = 0; i < SENDERS; i++)
        must(weft_go(sender, (void *)i) == 0, "go");
    for (int i = 0; i < SENDERS; i++)
        must(weft_recv(done, NULL) == 1, "wait");
    while (atomic_load(&received) < SENDERS * ITEMS)
        weft_sleep(100000);
    weft_chan_close(quit);
    for (int i = 0; i < SELECTERS; i++)
        must(weft_recv(done, NULL) == 1, "wait");
    for (int i = 0; i < foreign; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < width; i++)
        weft_chan_close(chans[i]);
    for (int i = 0; i < PLAIN; i++)
        must(weft_recv(done, NULL) == 1, "wait");
    must(atomic_load(&received) == SENDERS * ITEMS, "too many");
    for (int i = 0; i < width; i++)
        weft_chan_unref(chans[i]);
    weft_chan_unref(quit);
    weft_chan_unref(done);
    return 0;
}

int main(void)
{
    static const int WIDTHS[] = {1, 2, 3, 8, CHANS};
    int64_t end = weft_now() + (int64_t)(stress_seconds() * 1e9);
    int rounds = 0;
    do {
        weft_config_t cfg = {.stack = test_stack(), .procs = 1 + rounds % 4};
        int foreign = rounds % 3 == 2 ? FOREIGN : 0;
        width = WIDTHS[rounds % 5];
        memset((void *)seen, 0, sizeof seen);
        atomic_store(&received, 0);
        must(weft_run_with(&cfg, round_main, &foreign) == 0, "run");
        rounds++;
    } while (weft_now() < end);
    printf("stress_select: %d rounds\n", rounds);
    return 0;
}
