/* SPDX-License-Identifier: MIT
 *
 * stress_close.c: close against everything, and the last reference.
 *
 * Each of a channel's users owns one reference and drops it as soon as it has
 * learnt that the channel is closed; nobody knows who is last. Checked: the
 * number of successful sends is the number of elements received, everybody
 * ends, a receive that reports the end has zeroed its element. The address
 * sanitizer checks the rest. Rounds go on for WEFT_STRESS_SECONDS (2).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/stack_test.h"
#include "tests/stress/stress.h"

enum { USERS = 4, KINDS = 6, ROUNDS_PER_RUN = 40 };

typedef struct {
    weft_chan_t *c, *other;
} Job;

static atomic_long sent, received;
static weft_chan_t *done;

static void must(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "stress_close: %s\n", what);
        abort();
    }
}

static void count_recv(int rc, const uint64_t *v)
{
    must(*v == (rc == 1 ? 77 : 0), "element of a receive");
    if (rc == 1)
        atomic_fetch_add(&received, 1);
}

static void send_plain(weft_chan_t *c)
{
    uint64_t v = 77;
    int rc;
    while ((rc = weft_send(c, &v)) == 0)
        atomic_fetch_add(&sent, 1);
    must(rc == -EPIPE, "send");
}

static void recv_plain(weft_chan_t *c)
{
    uint64_t v = 5;
    int rc;
    while ((rc = weft_recv(c, &v)) == 1)
        count_recv(rc, &v);
    must(rc == 0, "receive");
    count_recv(rc, &v);
}

static void send_try(weft_chan_t *c)
{
    uint64_t v = 77;
    int rc;
    while ((rc = weft_try_send(c, &v)) != -EPIPE)
        if (rc == 0)
            atomic_fetch_add(&sent, 1);
        else
            weft_yield();
}

static void recv_try(weft_chan_t *c)
{
    uint64_t v;
    int rc;
    while ((rc = weft_try_recv(c, &v)) != 0)
        if (rc == 1)
            count_recv(rc, &v);
        else
            weft_yield();
    count_recv(rc, &v);
}

/* other is never ready: its Wait is a loser each time. */
static void select_both(weft_chan_t *c, weft_chan_t *other, int op)
{
    for (uint32_t n = 0;; n++) {
        uint64_t v = op == WEFT_SEND ? 77 : 5, w = 6;
        weft_case_t k[2] = {{.op = WEFT_RECV, .chan = other, .elem = &w},
                            {.op = op, .chan = c, .elem = &v}};
        int got = weft_select(k, 2, n % 3 == 0 ? weft_now() + 10000 : 0);
        if (got == -ETIMEDOUT)
            continue;
        must(got == 1 && w == 6, "select");
        if (op == WEFT_RECV)
            count_recv(k[1].result, &v);
        else if (k[1].result == 0)
            atomic_fetch_add(&sent, 1);
        if (k[1].result == (op == WEFT_RECV ? 0 : -EPIPE))
            return;
    }
}

static void work(const Job *j, int kind)
{
    switch (kind) {
    case 0:
        send_plain(j->c);
        break;
    case 1:
        recv_plain(j->c);
        break;
    case 2:
        send_try(j->c);
        break;
    case 3:
        recv_try(j->c);
        break;
    case 4:
        select_both(j->c, j->other, WEFT_SEND);
        break;
    default:
        select_both(j->c, j->other, WEFT_RECV);
    }
    weft_chan_unref(j->c);
    weft_chan_unref(j->other);
}

typedef struct {
    Job job;
    int kind;
} User;

static void user(void *arg)
{
    User *u = arg;
    work(&u->job, u->kind);
    must(weft_send(done, NULL) == 0, "report of the end");
}

static void *foreign_user(void *arg)
{
    user(arg);
    return NULL;
}

static void one_round(int n, int foreign)
{
    User u[USERS * KINDS];
    pthread_t t[KINDS];
    Job j = {weft_chan_make(sizeof(uint64_t), (size_t)(n % 3)),
             weft_chan_make(sizeof(uint64_t), 0)};
    atomic_store(&sent, 0);
    atomic_store(&received, 0);
    for (int i = 0; i < USERS * KINDS; i++) {
        u[i] = (User){{weft_chan_ref(j.c), weft_chan_ref(j.other)}, i % KINDS};
        if (foreign != 0 && i < KINDS)
            must(pthread_create(&t[i], NULL, foreign_user, &u[i]) == 0, "thread");
        else
            must(weft_go(user, &u[i]) == 0, "go");
    }
    if (n % 4 != 0)
        weft_sleep(1000 * (n % 8));
    for (int i = 0; i < n % 50; i++)
        weft_yield();
    weft_chan_close(j.c);
    weft_chan_unref(j.c);
    weft_chan_unref(j.other);
    for (int i = 0; i < USERS * KINDS; i++)
        must(weft_recv(done, NULL) == 1, "wait");
    for (int i = 0; foreign != 0 && i < KINDS; i++)
        pthread_join(t[i], NULL);
    must(atomic_load(&sent) == atomic_load(&received), "elements lost or doubled");
}

static int run_main(void *arg)
{
    int runs = *(int *)arg;
    done = weft_chan_make(0, 2);
    for (int n = 0; n < ROUNDS_PER_RUN; n++)
        one_round(n, runs % 3 == 2 && n % 8 == 0);
    weft_chan_unref(done);
    return 0;
}

int main(void)
{
    int64_t end = weft_now() + (int64_t)(stress_seconds() * 1e9);
    int runs = 0;
    do {
        weft_config_t cfg = {.stack = test_stack(), .procs = 1 + runs % 4};
        must(weft_run_with(&cfg, run_main, &runs) == 0, "run");
        runs++;
    } while (weft_now() < end);
    printf("stress_close: %d runs\n", runs);
    return 0;
}
