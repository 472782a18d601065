/* SPDX-License-Identifier: MIT
 *
 * pub_sub.c: a message goes to all subscribers. One that is too slow loses some: the send is a try. */
#include <weft.h>

#include <stdint.h>
#include <stdio.h>

enum { SUBSCRIBERS = 3, MESSAGES = 100 };

static weft_rwmutex_t lock; /* of what follows */
static weft_chan_t *topic[SUBSCRIBERS];
static int received[SUBSCRIBERS];

static void publish(const int *message)
{
    weft_rwmutex_rlock(&lock);
    for (int i = 0; i < SUBSCRIBERS; i++)
        weft_try_send(topic[i], message);
    weft_rwmutex_runlock(&lock);
}

static void subscriber(void *arg)
{
    int i = (int)(intptr_t)arg;
    for (int message; weft_recv(topic[i], &message) == 1; received[i]++)
        if (i == SUBSCRIBERS - 1)
            weft_sleep(3000000); /* this one is slow */
}

static int subscribe(weft_wg_t *wg, int i)
{
    weft_rwmutex_lock(&lock);
    topic[i] = weft_chan_make(sizeof(int), 10);
    weft_rwmutex_unlock(&lock);
    return weft_wg_go(wg, subscriber, (void *)(intptr_t)i);
}

static int entry(void *arg)
{
    weft_wg_t wg = {0};
    (void)arg;
    for (int i = 0; i < SUBSCRIBERS; i++)
        if (subscribe(&wg, i) != 0)
            return 1;
    for (int i = 0; i < MESSAGES; i++) {
        publish(&i);
        weft_sleep(100000);
    }
    for (int i = 0; i < SUBSCRIBERS; i++)
        weft_chan_close(topic[i]);
    weft_wg_wait(&wg);
    return printf("the slow one lost messages: %s\n", received[2] < MESSAGES ? "yes" : "no") < 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
