/* SPDX-License-Identifier: MIT
 *
 * worker_pool.c: a few workers take jobs from one channel and put results into another. Closing the first
 * tells them that there is no more; when all have gone the second is closed, and main's loop ends. */
#include <weft.h>

#include <stdio.h>

enum { WORKERS = 4, JOBS = 100 };

static weft_chan_t *jobs, *results;
static weft_wg_t workers;

static void worker(void *arg)
{
    (void)arg;
    for (int job; weft_recv(jobs, &job) == 1;) {
        int result = job * job;
        weft_send(results, &result);
    }
}

static void hand_out(void *arg)
{
    (void)arg;
    for (int i = 1; i <= JOBS; i++)
        weft_send(jobs, &i);
    weft_chan_close(jobs);
    weft_wg_wait(&workers);
    weft_chan_close(results);
}

static int entry(void *arg)
{
    long sum = 0;
    (void)arg;
    jobs = weft_chan_make(sizeof(int), 0);
    results = weft_chan_make(sizeof(int), WORKERS);
    if (jobs == NULL || results == NULL)
        return 1;
    for (int i = 0; i < WORKERS; i++)
        if (weft_wg_go(&workers, worker, NULL) != 0)
            return 1;
    if (weft_go(hand_out, NULL) != 0)
        return 1;
    for (int result; weft_recv(results, &result) == 1;)
        sum += result;
    printf("%d jobs, the sum of their squares is %ld\n", JOBS, sum);
    weft_chan_unref(jobs);
    weft_chan_unref(results);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
