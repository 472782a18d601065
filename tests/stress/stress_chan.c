/* SPDX-License-Identifier: MIT
 *
 * stress_chan.c: channels of several capacities under many senders and
 * receivers, plain and trying, coroutines and foreign threads.
 *
 * Checked: nothing is lost or doubled (the sums of what was sent and what was
 * received agree), and each receiver sees any one sender's elements in order.
 * A round is short, so that many runs of the runtime begin and end; rounds go
 * on for WEFT_STRESS_SECONDS (2).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { CHANS = 4, SENDERS = 8, RECEIVERS = 6, FOREIGN = 2, ITEMS = 400 };

typedef struct {
    uint32_t sender, seq;
} Item;

static const size_t CAP[CHANS] = {0, 1, 2, 64};
static weft_chan_t *chans[CHANS], *senders_done, *receivers_done;
static atomic_ullong sent, received;

static void must(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "stress_chan: %s\n", what);
        abort();
    }
}

static void send_one(weft_chan_t *c, const Item *it, uint32_t kind)
{
    if (kind % 3 != 0) {
        must(weft_send(c, it) == 0, "send failed");
        return;
    }
    int rc;
    while ((rc = weft_try_send(c, it)) == -EAGAIN)
        weft_yield();
    must(rc == 0, "try_send failed");
}

static void sender(void *arg)
{
    uint32_t id = (uint32_t)(uintptr_t)arg;
    for (uint32_t i = 0; i < ITEMS * CHANS; i++) {
        Item it = {id, i};
        send_one(chans[(i + id) % CHANS], &it, i / 7 + id);
        atomic_fetch_add(&sent, (unsigned long long)i * SENDERS + id);
    }
    must(weft_send(senders_done, NULL) == 0, "report of the end");
}

static int recv_one(weft_chan_t *c, Item *it, uint32_t kind)
{
    /* Unbuffered, somebody must wait: all who try would never meet. */
    if (kind % 3 != 0 || weft_chan_cap(c) == 0)
        return weft_recv(c, it);
    int rc;
    while ((rc = weft_try_recv(c, it)) == -EAGAIN)
        weft_yield();
    return rc;
}

/* Drains one channel until it is closed. */
static void receiver(void *arg)
{
    uint32_t which = (uint32_t)(uintptr_t)arg;
    uint32_t next[SENDERS + FOREIGN] = {0}, n = 0;
    Item it;
    int rc;
    while ((rc = recv_one(chans[which % CHANS], &it, which + n / 5)) == 1) {
        must(it.sender < SENDERS + FOREIGN && it.seq >= next[it.sender], "order of a sender");
        next[it.sender] = it.seq + 1;
        atomic_fetch_add(&received, (unsigned long long)it.seq * SENDERS + it.sender);
        n++;
    }
    must(rc == 0, "receive failed");
    must(weft_send(receivers_done, NULL) == 0, "report of the end");
}

static void *foreign_sender(void *arg)
{
    sender(arg);
    return NULL;
}

static void *foreign_receiver(void *arg)
{
    receiver(arg);
    return NULL;
}

static int round_main(void *arg)
{
    int foreign = *(int *)arg;
    pthread_t t[2 * FOREIGN];
    senders_done = weft_chan_make(0, 0);
    receivers_done = weft_chan_make(0, 3);
    for (int i = 0; i < CHANS; i++)
        chans[i] = weft_chan_make(sizeof(Item), CAP[i]);
    for (uintptr_t i = 0; i < (uintptr_t)foreign; i++) {
        must(pthread_create(&t[i], NULL, foreign_sender, (void *)(SENDERS + i)) == 0, "thread");
        must(pthread_create(&t[FOREIGN + i], NULL, foreign_receiver, (void *)i) == 0, "thread");
    }
    for (uintptr_t i = 0; i < CHANS * RECEIVERS; i++)
        must(weft_go(receiver, (void *)i) == 0, "go");
    for (uintptr_t i = 0; i < SENDERS; i++)
        must(weft_go(sender, (void *)i) == 0, "go");
    for (int i = 0; i < SENDERS + foreign; i++)
        must(weft_recv(senders_done, NULL) == 1, "wait");
    for (int i = 0; i < CHANS; i++)
        weft_chan_close(chans[i]);
    for (int i = 0; i < CHANS * RECEIVERS + foreign; i++)
        must(weft_recv(receivers_done, NULL) == 1, "wait");
    for (int i = 0; i < foreign; i++) {
        pthread_join(t[i], NULL);
        pthread_join(t[FOREIGN + i], NULL);
    }
    must(atomic_load(&sent) == atomic_load(&received), "elements lost or doubled");
    for (int i = 0; i < CHANS; i++) {
        must(weft_chan_len(chans[i]) == 0, "left over");
        weft_chan_unref(chans[i]);
    }
    weft_chan_unref(senders_done);
    weft_chan_unref(receivers_done);
    return 0;
}

int main(void)
{
    int64_t end = weft_now() + (int64_t)(stress_seconds() * 1e9);
    int rounds = 0;
    do {
        weft_config_t cfg = {.stack = test_stack(), .procs = 1 + rounds % 4};
        int foreign = rounds % 3 == 2 ? FOREIGN : 0;
        must(weft_run_with(&cfg, round_main, &foreign) == 0, "run");
        rounds++;
    } while (weft_now() < end);
    printf("stress_chan: %d rounds\n", rounds);
    return 0;
}
