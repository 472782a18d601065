/* SPDX-License-Identifier: MIT
 *
 * check_select.c: select behaves as Go's does.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. What it
 * answers to in Go's own tests is named at each.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "behaviour.h"

static weft_chan_t *make(size_t cap)
{
    weft_chan_t *c = weft_chan_make(sizeof(int), cap);
    OK(c != NULL);
    return c;
}

static int recv_int(weft_chan_t *c)
{
    int v = -1;
    EQ(weft_recv(c, &v), 1);
    return v;
}

static void send_int(weft_chan_t *c, int v)
{
    EQ(weft_send(c, &v), 0);
}

static weft_case_t on_recv(weft_chan_t *c, int *v)
{
    return (weft_case_t){.op = WEFT_RECV, .chan = c, .elem = v, .result = 99};
}

static weft_case_t on_send(weft_chan_t *c, int *v)
{
    return (weft_case_t){.op = WEFT_SEND, .chan = c, .elem = v, .result = 99};
}

static void settle(void)
{
#ifdef WEFT_TSAN
    weft_sleep(4 * MS);
#else
    weft_sleep(MS); /* long enough for others to reach their park */
#endif
}

/* ---- Go: TestNonblockSelectRace, TestNonblockSelectRace2 ------------------------------- */

typedef struct {
    weft_chan_t *c1, *c2, *done;
} Pair;

/* There is always an element in one of the two, or c2 is closed. */
static void race_looker(void *arg)
{
    Pair *p = arg;
    weft_case_t k[2] = {on_recv(p->c2, NULL), on_recv(p->c1, NULL)};
    send_int(p->done, weft_try_select(k, 2));
}

static void select_race(bool by_close)
{
    Pair p = {.done = make(1)};
    for (int i = 0; i < 20000 / FEWER; i++) {
        p.c1 = make(1);
        p.c2 = make(1);
        send_int(p.c1, 1);
        go(race_looker, &p);
        if (by_close)
            weft_chan_close(p.c2);
        else
            send_int(p.c2, 1);
        weft_case_t k = on_recv(p.c1, NULL);
        weft_try_select(&k, 1);
        int got = recv_int(p.done);
        if (!(got == 0 || got == 1))
            ck_abort_msg("round %d: %d, but one was always ready", i, got);
        weft_chan_unref(p.c1);
        weft_chan_unref(p.c2);
    }
    weft_chan_unref(p.done);
}

static void select_race_body(void)
{
    select_race(false);
    select_race(true);
}

START_TEST(nonblock_race)
{
    run(_i, select_race_body);
}
END_TEST

/* The same for long: one element walks between two channels, each step makes
 * the second one ready before it empties the first. */
typedef struct {
    weft_chan_t *c[2], *done;
    atomic_bool stop;
} Walk;

static void walk_looker(void *arg)
{
    Walk *w = arg;
    int missed = 0, v;
    for (int i = 0; !atomic_load(&w->stop); i++) {
        weft_case_t k[2] = {on_recv(w->c[i % 2], &v), on_recv(w->c[1 - i % 2], &v)};
        int got = weft_try_select(k, 2);
        if (got >= 0)
            send_int(k[got].chan, v);
        else
            missed++;
        if (i % 64 == 0)
            weft_yield();
    }
    send_int(w->done, missed);
}

static void walk_body(void)
{
    Walk w = {{make(2), make(2)}, make(0), false};
    send_int(w.c[0], 1);
    go(walk_looker, &w);
    for (int i = 0; i < 300000 / FEWER; i++) {
        send_int(w.c[1 - i % 2], 1);
        recv_int(w.c[i % 2]);
        if (i % 256 == 0)
            weft_yield();
    }
    atomic_store(&w.stop, true);
    EQ(recv_int(w.done), 0);
    weft_chan_unref(w.c[0]);
    weft_chan_unref(w.c[1]);
    weft_chan_unref(w.done);
}

START_TEST(nonblock_walk)
{
    run(_i, walk_body);
}
END_TEST

/* ---- Go: TestSelfSelect ------------------------------------------------------------------ */

typedef struct {
    weft_chan_t *c, *done;
    int who;
} Self;

static void self_select(void *arg)
{
    Self *s = arg;
    bool buffered = weft_chan_cap(s->c) > 0;
    for (int i = 0; i < 1000; i++) {
        int in = -1, out = s->who;
        weft_case_t k[2];
        int send_at = s->who == 0 || i % 2 == 0 ? 0 : 1;
        k[send_at] = on_send(s->c, &out);
        k[1 - send_at] = on_recv(s->c, &in);
        int got = weft_select(k, 2, 0);
        EQ(k[got].result, got == send_at ? 0 : 1);
        if (got == send_at)
            EQ(in, -1);
        else
            OK(buffered || in == 1 - s->who); /* never what we send ourselves */
    }
    send_int(s->done, 1);
}

static void self_body(void)
{
    for (size_t cap = 0; cap <= 10; cap += 5) {
        weft_chan_t *c = make(cap), *done = make(0);
        Self s[2] = {{c, done, 0}, {c, done, 1}};
        go(self_select, &s[0]);
        go(self_select, &s[1]);
        recv_int(done);
        recv_int(done);
        weft_chan_unref(c);
        weft_chan_unref(done);
    }
}

START_TEST(self)
{
    run(_i, self_body);
}
END_TEST

/* A lone select with both ends of one unbuffered channel waits. */
static void self_alone(void *arg)
{
    static int v;
    weft_case_t k[2] = {on_send(arg, &v), on_recv(arg, &v)};
    weft_select(k, 2, 0);
    abort();
}

static void self_alone_body(void)
{
    weft_chan_t *c = make(0);
    int v = 1;
    weft_case_t k[2] = {on_send(c, &v), on_recv(c, &v)};
    EQ(weft_try_select(k, 2), -EAGAIN);
    EQ(weft_select(k, 2, weft_now() + MS), -ETIMEDOUT);
    go(self_alone, make(0));
    settle();
}

START_TEST(self_waits)
{
    run(_i, self_alone_body);
}
END_TEST

/* ---- Go: TestSelectFairness, TestPseudoRandomSend ------------------------------------------ */

static void fairness_body(void)
{
    enum { TRIALS = 10000 };
    weft_chan_t *c[4] = {make(TRIALS + 1), make(TRIALS + 1), make(0), make(0)};
    int v, count[4] = {0};
    for (int i = 0; i <= TRIALS; i++) {
        send_int(c[0], 1);
        send_int(c[1], 2);
    }
    weft_case_t k[4] = {on_recv(c[2], &v), on_recv(c[3], &v), on_recv(c[0], &v), on_recv(c[1], &v)};
    for (int i = 0; i < TRIALS; i++) {
        int got = weft_select(k, 4, 0);
        OK(got == 2 || got == 3);
        EQ(v, got - 1);
        count[got]++;
    }
    double off = fabs(count[2] / (double)TRIALS - 0.5);
    if (!(off <= 4.89 / (2 * sqrt(TRIALS))))
        ck_abort_msg("%d of %d", count[2], TRIALS);
}

START_TEST(fairness)
{
    run(_i, fairness_body);
}
END_TEST

static void random_sender(void *c)
{
    int zero = 0, one = 1;
    weft_case_t k[2] = {on_send(c, &one), on_send(c, &zero)};
    while (weft_select(k, 2, 0) >= 0)
        continue;
}

static void random_send_body(void)
{
    enum { N = 1000 };
    for (size_t cap = 0; cap <= N; cap += N) {
        weft_chan_t *c = make(cap);
        int ones = 0;
        go(random_sender, c);
        for (int i = 0; i < N; i++) {
            weft_yield();
            ones += recv_int(c);
        }
        if (ones < N / 10 || ones > N - N / 10)
            ck_abort_msg("cap %zu: %d of %d", cap, ones, N);
    }
}

START_TEST(random_send)
{
    run(_i, random_send_body);
}
END_TEST

/* ---- Go: TestSelectDuplicateChannel, test/chan/select6.go (issue 2075), issue9110 --------------- */

typedef struct {
    weft_chan_t *c, *d, *e;
} Dup;

static void dup_select(void *arg)
{
    Dup *d = arg;
    weft_case_t k[3] = {on_recv(d->c, NULL), on_recv(d->c, NULL), on_recv(d->d, NULL)};
    EQ(weft_select(k, 3, 0), 2);
    send_int(d->e, 9);
}

static void dup_plain(void *arg)
{
    Dup *d = arg;
    recv_int(d->c);
}

static void duplicate_body(void)
{
    for (int i = 0; i < 50; i++) {
        Dup d = {make(0), make(0), make(0)};
        go(dup_select, &d);
        settle();
        go(dup_plain, &d);
        settle();
        send_int(d.d, 7); /* wakes the select, which takes both Waits out of c */
        recv_int(d.e);
        send_int(d.c, 8); /* reaches the plain receiver */
        weft_chan_unref(d.c);
        weft_chan_unref(d.d);
        weft_chan_unref(d.e);
    }
}

START_TEST(duplicate)
{
    run(_i, duplicate_body);
}
END_TEST

static void select6_recv(void *c)
{
    recv_int(c);
}

static void select6_loser(void *arg)
{
    Dup *d = arg;
    weft_case_t k[2] = {on_recv(d->d, NULL), on_recv(d->c, NULL)};
    EQ(weft_select(k, 2, 0), 0);
    send_int(d->e, 1);
}

/* A loser is taken out of the middle, the front or the end of a queue of receivers. */
static void select6_body(void)
{
    for (int place = 0; place < 4; place++) {
        Dup d = {make(0), make(0), make(0)};
        for (int i = 0; i < 4; i++) {
            if (i == place)
                go(select6_loser, &d);
            else
                go(select6_recv, d.c);
            settle();
        }
        send_int(d.d, 1);
        recv_int(d.e);
        for (int i = 0; i < 3; i++)
            send_int(d.c, i);
        int v = 0;
        EQ(weft_try_send(d.c, &v), -EAGAIN);
    }
}

START_TEST(select6)
{
    run(_i, select6_body);
}
END_TEST

/* ---- Go: test/chan/select3.go -------------------------------------------------------------------- */

typedef struct {
    weft_case_t k[3];
    int n;
    atomic_bool passed;
} Blocked;

static void blocked_run(void *arg)
{
    Blocked *b = arg;
    weft_select(b->k, b->n, 0);
    atomic_store(&b->passed, true);
}

static void table_body(void)
{
    static Blocked b[8];
    static int v;
    weft_chan_t *full = make(1), *closed = make(1);
    send_int(full, 1);
    weft_chan_close(closed);
    b[0].n = 0;
    b[1] = (Blocked){{on_recv(NULL, &v)}, 1, false};
    b[2] = (Blocked){{on_send(NULL, &v)}, 1, false};
    b[3] = (Blocked){{on_recv(NULL, &v), on_send(NULL, &v)}, 2, false};
    b[4] = (Blocked){{on_recv(make(0), &v)}, 1, false};
    b[5] = (Blocked){{on_send(make(0), &v), on_recv(NULL, &v)}, 2, false};
    b[6] = (Blocked){{on_send(full, &v)}, 1, false};
    b[7] = (Blocked){{on_recv(make(10), &v), on_send(full, &v), on_recv(NULL, NULL)}, 3, false};
    for (int i = 0; i < 8; i++) {
        EQ(weft_try_select(b[i].k, b[i].n), -EAGAIN);
        EQ(weft_select(b[i].k, b[i].n, 1), -ETIMEDOUT);
        go(blocked_run, &b[i]);
    }
    settle();
    for (int i = 0; i < 8; i++)
        if (!(!atomic_load(&b[i].passed)))
            ck_abort_msg("select %d did not wait", i);

    v = 5; /* a closed channel: a receive is ready, so is a send */
    weft_case_t r[2] = {on_recv(NULL, NULL), on_recv(closed, &v)};
    EQ(weft_select(r, 2, 0), 1);
    OK(r[1].result == 0 && v == 0 && r[0].result == 99);
    weft_case_t s = on_send(closed, &v);
    EQ(weft_select(&s, 1, 0), 0);
    EQ(s.result, -EPIPE);
    s.result = 99;
    EQ(weft_try_select(&s, 1), 0);
    EQ(s.result, -EPIPE);
}

START_TEST(truth_table)
{
    run(_i, table_body);
}
END_TEST

/* Close of a channel that a select waits on; elements of the lost cases stay. */
static void close_closer(void *c)
{
    settle();
    weft_chan_close(c);
}

static void close_waiting_body(void)
{
    for (int which = 0; which < 4; which++) {
        weft_chan_t *c[2] = {make(0), make(0)};
        int in[2] = {5, 6}, out[2] = {7, 8};
        weft_case_t k[4] = {on_recv(c[0], &in[0]), on_recv(c[1], &in[1]), on_send(c[0], &out[0]),
                            on_send(c[1], &out[1])};
        int base = which & 2;
        go(close_closer, c[which & 1]);
        int got = weft_select(k + base, 2, 0);
        EQ(got, which & 1);
        EQ(k[base + got].result, base != 0 ? -EPIPE : 0);
        EQ(k[base + 1 - got].result, 99);
        EQ(in[1 - got], 6 - got);
        EQ(in[got], base != 0 ? 5 + got : 0);
        OK(out[0] == 7 && out[1] == 8);
        weft_chan_unref(c[0]);
        weft_chan_unref(c[1]);
    }
}

START_TEST(close_waiting)
{
    run(_i, close_waiting_body);
}
END_TEST

/* ---- Go: test/chan/doubleselect.go ----------------------------------------------------------------- */

enum { DOUBLE_N = 100000 / FEWER };
static weft_chan_t *dbl[4], *dbl_merged, *dbl_done;

static void double_sender(void *arg)
{
    (void)arg;
    for (int i = 0; i < DOUBLE_N; i++) {
        weft_case_t k[4] = {on_send(dbl[0], &i), on_send(dbl[1], &i), on_send(dbl[2], &i),
                            on_send(dbl[3], &i)};
        OK(weft_select(k, 4, 0) >= 0);
    }
    for (int i = 0; i < 4; i++)
        weft_chan_close(dbl[i]);
}

static void double_mux(void *c)
{
    int v;
    while (weft_recv(c, &v) == 1)
        send_int(dbl_merged, v);
    send_int(dbl_done, 1);
}

static void double_closer(void *arg)
{
    (void)arg;
    for (int i = 0; i < 4; i++)
        recv_int(dbl_done);
    weft_chan_close(dbl_merged);
}

static void double_body(void)
{
    static char seen[DOUBLE_N];
    dbl_merged = make(0);
    dbl_done = make(0);
    for (int i = 0; i < 4; i++)
        dbl[i] = make(0);
    go(double_sender, NULL);
    for (int i = 0; i < 4; i++)
        go(double_mux, dbl[i]);
    go(double_closer, NULL);
    int v, n = 0;
    for (; weft_recv(dbl_merged, &v) == 1; n++) {
        if (!(v >= 0 && v < DOUBLE_N && !seen[v]))
            ck_abort_msg("%d came twice", v);
        seen[v] = 1;
    }
    EQ(n, DOUBLE_N);
}

START_TEST(double_select)
{
    run(_i, double_body);
}
END_TEST

/* ---- Go: TestSelectStress ------------------------------------------------------------------------------ */

enum { STRESS_N = 20000 / FEWER };
static weft_chan_t *st_c[4], *st_done;

static void st_send(void *c)
{
    for (int i = 0; i < STRESS_N; i++)
        send_int(c, i);
    send_int(st_done, 1);
}

static void st_recv(void *c)
{
    for (int i = 0; i < STRESS_N; i++)
        recv_int(c);
    send_int(st_done, 1);
}

/* All four at once, each until it has had its number: then its case becomes nil. */
static void st_select(bool send)
{
    weft_chan_t *c[4];
    int left = 4, n[4] = {0}, v = 1;
    memcpy(c, st_c, sizeof c);
    while (left > 0) {
        weft_case_t k[4];
        for (int i = 0; i < 4; i++)
            k[i] = send ? on_send(c[3 - i], &v) : on_recv(c[i], &v);
        int got = weft_select(k, 4, 0);
        EQ(k[got].result, send ? 0 : 1);
        int at = send ? 3 - got : got;
        if (++n[at] == STRESS_N) {
            c[at] = NULL;
            left--;
        }
    }
    send_int(st_done, 1);
}

static void st_select_send(void *arg)
{
    (void)arg;
    st_select(true);
}

static void st_select_recv(void *arg)
{
    (void)arg;
    st_select(false);
}

static void stress_body(void)
{
    static const size_t CAP[4] = {0, 0, 2, 3};
    st_done = make(0);
    for (int i = 0; i < 4; i++)
        st_c[i] = make(CAP[i]);
    for (int i = 0; i < 4; i++) {
        go(st_send, st_c[i]);
        go(st_recv, st_c[i]);
    }
    go(st_select_send, NULL);
    go(st_select_recv, NULL);
    for (int i = 0; i < 10; i++)
        recv_int(st_done);
    for (int i = 0; i < 4; i++)
        EQ(weft_chan_len(st_c[i]), 0);
}

START_TEST(stress)
{
    run(_i, stress_body);
}
END_TEST

/* ---- Go: test/chanlinear.go ---------------------------------------------------------------------------- */

static weft_chan_t *lin_shared, *lin_done;

static void linear_wait(void *own)
{
    weft_case_t k[2] = {on_recv(own, NULL), on_recv(lin_shared, NULL)};
    EQ(weft_select(k, 2, 0), 0);
    send_int(lin_done, 1);
}

static int64_t linear_time(int n)
{
    weft_chan_t **own = calloc((size_t)n, sizeof(weft_chan_t *));
    lin_shared = make(0);
    lin_done = make((size_t)n);
    for (int i = 0; i < n; i++) {
        own[i] = make(0);
        go(linear_wait, own[i]);
    }
    settle();
    int64_t t = weft_now();
    for (int i = n; i-- > 0;)
        send_int(own[i], 1); /* each leaves the shared queue at its far end */
    for (int i = 0; i < n; i++)
        recv_int(lin_done);
    t = weft_now() - t;
    for (int i = 0; i < n; i++)
        weft_chan_unref(own[i]);
    weft_chan_unref(lin_shared);
    weft_chan_unref(lin_done);
    free(own);
    return t;
}

static void linear_body(void)
{
    int64_t t1 = 0, t2 = 0;
    for (int i = 0; i < 5; i++) { /* others use this machine: five tries */
        t1 = linear_time(1000);
        t2 = linear_time(8000); /* 8 times as many; a search would cost 64 times */
        if (t2 < 24 * t1)
            return;
    }
    ck_abort_msg("1000: %ld ns, 8000: %ld ns", (long)t1, (long)t2);
}

START_TEST(linear)
{
    run(_i, linear_body);
}
END_TEST

/* ---- Go: test/chan/select2.go -------------------------------------------------------------------------- */

static long resident(void)
{
    long total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    OK(f != NULL);
    EQ(fscanf(f, "%ld %ld", &total, &pages), 2);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static void memory_sender(void *arg)
{
    Dup *d = arg;
    for (int i = 0;; i++)
        send_int(i % 2 == 0 ? d->c : d->d, i);
}

static void memory_body(void)
{
    static Dup d;
    d = (Dup){make(0), make(0), NULL};
    go(memory_sender, &d);
    weft_case_t k[2] = {on_recv(d.c, NULL), on_recv(d.d, NULL)};
    long before = 0;
    for (int i = 0; i < 110000; i++) {
        if (i == 10000)
            before = resident();
        OK(weft_select(k, 2, 0) >= 0);
    }
    long more = resident() - before;
#if defined(WEFT_TSAN) || defined(WEFT_ASAN)
    more = 0; /* their shadow grows */
#endif
    if (more >= 2000000)
        ck_abort_msg("%ld bytes more", more);
}

START_TEST(memory)
{
    run(_i, memory_body);
}
END_TEST

/* ---- deadlines, errors, many cases ---------------------------------------------------------------------- */

static void late_sender(void *c)
{
    weft_sleep(5 * MS);
    send_int(c, 3);
}

static void deadline_body(void)
{
    weft_chan_t *c = make(1);
    int v = 0;
    weft_case_t k[2] = {on_recv(c, &v), on_recv(NULL, NULL)};
    send_int(c, 1);
    EQ(weft_select(k, 2, 1), 0); /* ready: whatever the deadline */
    EQ(weft_select(k, 2, 1), -ETIMEDOUT);
    for (int n = 0; n <= 2; n++) {
        int64_t until = weft_now() + 3 * MS;
        EQ(weft_select(k + (n == 1 ? 1 : 0), n, until), -ETIMEDOUT);
        OK(weft_now() >= until);
    }
    EQ(weft_try_send(c, &v), 0); /* nobody is left in the queue to take it away */
    EQ(weft_chan_len(c), 1);
    recv_int(c);
    go(late_sender, c);
    EQ(weft_select(k, 2, weft_now() + 60000 * MS), 0);
    EQ(v, 3);
    weft_chan_unref(c);
}

START_TEST(deadline)
{
    run(_i, deadline_body);
}
END_TEST

START_TEST(errors)
{
    weft_chan_t *c = make(1);
    int v = 4;
    weft_case_t k[2] = {on_recv(c, &v), {.op = 3, .chan = c}};
    EQ(weft_select(k, 2, 0), -EINVAL);
    EQ(weft_try_select(k, 2), -EINVAL);
    EQ(weft_try_select(k, -1), -EINVAL);
    EQ(weft_try_select(k, 65537), -EINVAL);
    EQ(weft_try_select(NULL, 0), -EAGAIN);
    EQ(weft_select(k, 1, 0), -EPERM); /* no run: cannot wait */
    EQ(weft_select(NULL, 0, 0), -EPERM);
    EQ(weft_select(k, 1, 1), -ETIMEDOUT);
    k[1].op = WEFT_SEND;
    k[1].elem = &v;
    EQ(weft_select(k, 2, 0), 1); /* what can be done is done */
    EQ(weft_select(k, 1, 0), 0);
    weft_chan_unref(c);
}
END_TEST

static void many_sender(void *c)
{
    settle();
    send_int(c, 77);
}

static void many_body(void)
{
    static const int SIZES[] = {3, 8, 9, 60, 100, 1000, 65536};
    for (size_t s = 0; s < sizeof SIZES / sizeof SIZES[0]; s++) {
        int n = SIZES[s], v = 0, out = 5;
        weft_case_t *k = calloc((size_t)n, sizeof *k);
        int distinct = n > 1000 ? 1000 : n; /* beyond that the channels repeat */
        for (int i = 0; i < n; i++)
            k[i] = i < distinct ? on_recv(make(0), &v)
                                : on_recv(k[1 + i * 7 % (distinct - 1)].chan, &v);
        weft_chan_unref(k[0].chan);
        k[0] = on_recv(NULL, &v);
        EQ(weft_try_select(k, n), -EAGAIN);
        weft_chan_t *c = k[n / 2].chan;
        go(many_sender, c);
        int got = weft_select(k, n, 0);
        OK(k[got].chan == c);
        OK(k[got].result == 1 && v == 77);
        k[n / 2] = on_send(c, &out);
        EQ(weft_select(k, n, weft_now() + MS), -ETIMEDOUT);
        for (int i = 0; i < distinct; i++)
            weft_chan_unref(k[i].chan);
        free(k);
    }
}

START_TEST(many)
{
    run(_i, many_body);
}
END_TEST

/* ---- last reference, foreign threads --------------------------------------------------------------------- */

static weft_chan_t *ref_done;

/* Receives the last references of both channels with the element. */
static void ref_loser(void *arg)
{
    weft_chan_t **c = arg;
    weft_case_t k[2] = {on_recv(c[0], NULL), on_recv(c[1], NULL)};
    OK(weft_select(k, 2, 0) >= 0);
    send_int(ref_done, 1);
}

static void ref_body(void)
{
    ref_done = make(0);
    for (int i = 0; i < 3000; i++) {
        weft_chan_t *c[2] = {make(0), make(0)};
        go(ref_loser, c);
        /* Parked on both by then, or about to: its own references keep the loser. */
        send_int(c[i % 2], 1);
        weft_chan_unref(c[i % 2]);
        if (i % 4 == 0) {
            weft_chan_unref(c[1 - i % 2]);
            recv_int(ref_done);
        } else {
            recv_int(ref_done);
            weft_chan_unref(c[1 - i % 2]);
        }
    }
    weft_chan_unref(ref_done);
}

START_TEST(last_reference)
{
    run(_i, ref_body);
}
END_TEST

static void *foreign_select(void *arg)
{
    Pair *p = arg;
    long sum = 0;
    int v;
    for (;;) {
        weft_case_t k[3] = {on_recv(p->c1, &v), on_recv(p->c2, &v), on_recv(p->done, NULL)};
        int got = weft_select(k, 3, weft_now() + MS / 10);
        if (got == 2)
            return (void *)(intptr_t)sum;
        if (got == -ETIMEDOUT)
            continue;
        if (got < 0)
            return (void *)(intptr_t)-1;
        sum += v;
    }
}

static void foreign_body(void)
{
    enum { N = 2000 };
    Pair p = {make(0), make(1), make(0)};
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        EQ(pthread_create(&t[i], NULL, foreign_select, &p), 0);
    for (int i = 0; i < N; i++) {
        weft_case_t k[2] = {on_send(p.c1, &i), on_send(p.c2, &i)};
        OK(weft_select(k, 2, 0) >= 0);
        if (i % 500 == 0)
            settle();
    }
    while (weft_chan_len(p.c2) > 0)
        settle();
    weft_chan_close(p.done);
    long sum = 0;
    for (int i = 0; i < 2; i++) {
        void *got;
        EQ(pthread_join(t[i], &got), 0);
        OK((intptr_t)got >= 0);
        sum += (intptr_t)got;
    }
    EQ(sum, N * (N - 1) / 2);
}

START_TEST(foreign)
{
    run(_i, foreign_body);
}
END_TEST

/* ---- elements of all sizes, in one select --------------------------------------------- */

enum { KINDS = 8, FAT = 3000 };
static const size_t SIZES[KINDS] = {0, 1, 7, 8, 9, 24, 900, FAT};

typedef struct {
    weft_chan_t *in[KINDS], *out[KINDS], *done;
} Sizes;

static bool all(const unsigned char *p, size_t n, unsigned char v)
{
    while (n > 0 && *p == v)
        p++, n--;
    return n == 0;
}

/* Each case is done once, in the order that main chooses; the others stay as they are. */
static void sizes_select(void *arg)
{
    Sizes *s = arg;
    unsigned char got[KINDS][FAT + 1], give[KINDS][FAT];
    weft_case_t k[2 * KINDS];
    memset(got, 0x11, sizeof got);
    for (int i = 0; i < KINDS; i++) {
        memset(give[i], 0x50 + i, FAT);
        k[i] = (weft_case_t){.op = WEFT_RECV, .chan = s->in[i], .elem = got[i]};
        k[KINDS + i] = (weft_case_t){.op = WEFT_SEND, .chan = s->out[i], .elem = give[i]};
    }
    for (int left = 2 * KINDS; left > 0; left--) {
        int i = weft_select(k, 2 * KINDS, 0);
        OK(i >= 0 && k[i].chan != NULL);
        k[i].chan = NULL;
        if (i >= KINDS) {
            EQ(k[i].result, 0);
            continue;
        }
        EQ(k[i].result, 1);
        OK(all(got[i], SIZES[i], (unsigned char)(0xa0 + i)));
        OK(all(got[i] + SIZES[i], FAT + 1 - SIZES[i], 0x11));
        for (int j = 0; j < KINDS; j++)
            OK(k[j].chan == NULL || all(got[j], FAT + 1, 0x11));
    }
    weft_chan_t *none[2] = {s->in[KINDS - 1], s->in[KINDS - 2]}; /* one is closed */
    for (int i = 0; i < 2; i++)
        k[i] =
            (weft_case_t){.op = WEFT_RECV, .chan = none[i], .elem = i == 0 ? got[KINDS - 1] : NULL};
    EQ(weft_select(k, 2, 0), 0);
    EQ(k[0].result, 0);
    OK(all(got[KINDS - 1], FAT, 0));
    EQ(weft_select(k + 1, 1, 0), 0); /* discarded */
    EQ(k[1].result, 1);
    send_int(s->done, 1);
}

static void sizes_body(void)
{
    Sizes s = {.done = make(0)};
    unsigned char v[FAT];
    for (int i = 0; i < KINDS; i++) {
        OK((s.in[i] = weft_chan_make(SIZES[i], 0)) != NULL);
        OK((s.out[i] = weft_chan_make(SIZES[i], 0)) != NULL);
    }
    go(sizes_select, &s);
    settle();
    for (int i = 0; i < KINDS; i++) {
        memset(v, 0xa0 + i, sizeof v);
        EQ(weft_send(s.in[i], v), 0);
        settle();
        EQ(weft_recv(s.out[KINDS - 1 - i], v), 1);
        OK(all(v, SIZES[KINDS - 1 - i], (unsigned char)(0x50 + KINDS - 1 - i)));
        settle();
    }
    EQ(weft_chan_close(s.in[KINDS - 1]), 0);
    settle();
    EQ(weft_send(s.in[KINDS - 2], v), 0);
    recv_int(s.done);
    for (int i = 0; i < KINDS; i++) {
        weft_chan_unref(s.in[i]);
        weft_chan_unref(s.out[i]);
    }
    weft_chan_unref(s.done);
}

START_TEST(sizes)
{
    run(_i, sizes_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("select");
    TCase *tc = tcase_create("select");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, nonblock_race, 0, NPROCS);
    tcase_add_loop_test(tc, nonblock_walk, 0, NPROCS);
    tcase_add_loop_test(tc, self, 0, NPROCS);
    tcase_add_loop_test(tc, self_waits, 0, NPROCS);
    tcase_add_loop_test(tc, fairness, 0, NPROCS);
    tcase_add_loop_test(tc, random_send, 0, NPROCS);
    tcase_add_loop_test(tc, duplicate, 0, NPROCS);
    tcase_add_loop_test(tc, select6, 0, NPROCS);
    tcase_add_loop_test(tc, truth_table, 0, NPROCS);
    tcase_add_loop_test(tc, close_waiting, 0, NPROCS);
    tcase_add_loop_test(tc, double_select, 0, NPROCS);
    tcase_add_loop_test(tc, stress, 0, NPROCS);
    tcase_add_loop_test(tc, linear, 0, NPROCS);
    tcase_add_loop_test(tc, memory, 0, NPROCS);
    tcase_add_loop_test(tc, deadline, 0, NPROCS);
    tcase_add_test(tc, errors);
    tcase_add_loop_test(tc, many, 0, NPROCS);
    tcase_add_loop_test(tc, last_reference, 0, NPROCS);
    tcase_add_loop_test(tc, foreign, 0, NPROCS);
    tcase_add_loop_test(tc, sizes, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
