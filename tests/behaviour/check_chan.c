/* SPDX-License-Identifier: MIT
 *
 * check_chan.c: channels behave as Go's do.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. What it
 * answers to in Go's own tests is named at each.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "behaviour.h"

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

static void settle(void)
{
#ifdef WEFT_TSAN
    weft_sleep(4000000);
#else
    weft_sleep(1000000); /* long enough for others to reach their park */
#endif
}

/* ---- Go: TestChan -------------------------------------------------------------------- */

typedef struct {
    weft_chan_t *c, *done;
    atomic_bool begun, passed;
    int rc, value;
} Side;

static void side_recv(void *arg)
{
    Side *s = arg;
    atomic_store(&s->begun, true);
    s->rc = weft_recv(s->c, &s->value);
    atomic_store(&s->passed, true);
    send_int(s->done, 1);
}

static void side_send(void *arg)
{
    Side *s = arg;
    atomic_store(&s->begun, true);
    s->rc = weft_send(s->c, &s->value);
    atomic_store(&s->passed, true);
    send_int(s->done, 1);
}

/* s's coroutine is in its operation, and very likely parked there. */
static void side_settle(Side *s)
{
    while (!atomic_load(&s->begun))
        weft_yield();
    settle();
}

static void empty_blocks(weft_chan_t *done, size_t cap)
{
    Side a = {.c = weft_chan_make(sizeof(int), cap), .done = done}, b = {.c = a.c, .done = done};
    go(side_recv, &a);
    go(side_recv, &b);
    settle();
    int v = 5;
    OK(!atomic_load(&a.passed) && !atomic_load(&b.passed));
    EQ(weft_try_recv(a.c, &v), -EAGAIN);
    EQ(v, 5);
    send_int(a.c, 1);
    send_int(a.c, 2);
    recv_int(done);
    recv_int(done);
    EQ(a.value + b.value, 3);
    OK(a.rc == 1 && b.rc == 1);
    weft_chan_unref(a.c);
}

static void full_blocks(weft_chan_t *done, size_t cap)
{
    Side s = {.c = weft_chan_make(sizeof(int), cap), .done = done, .value = -1};
    for (size_t i = 0; i < cap; i++) {
        EQ(weft_chan_len(s.c), i);
        send_int(s.c, (int)i);
    }
    EQ(weft_chan_len(s.c), cap);
    EQ(weft_chan_cap(s.c), cap);
    go(side_send, &s);
    settle();
    int v = 99;
    OK(!atomic_load(&s.passed));
    EQ(weft_try_send(s.c, &v), -EAGAIN);
    for (size_t i = 0; i < cap; i++)
        EQ(recv_int(s.c), (int)i);
    EQ(recv_int(s.c), -1);
    recv_int(done);
    EQ(s.rc, 0);
    weft_chan_unref(s.c);
}

static void drains_after_close(size_t cap)
{
    weft_chan_t *c = weft_chan_make(sizeof(int), cap);
    for (size_t i = 0; i < cap; i++)
        send_int(c, (int)i);
    EQ(weft_chan_close(c), 0);
    for (size_t i = 0; i < cap; i++)
        EQ(recv_int(c), (int)i);
    for (int i = 0; i < 2; i++) {
        int v = 5;
        EQ(weft_recv(c, &v), 0);
        EQ(v, 0);
        v = 5;
        EQ(weft_try_recv(c, &v), 0);
        EQ(v, 0);
        EQ(weft_send(c, &v), -EPIPE);
        EQ(weft_try_send(c, &v), -EPIPE);
    }
    weft_chan_unref(c);
}

static void close_unblocks(weft_chan_t *done, size_t cap)
{
    Side s = {.c = weft_chan_make(sizeof(int), cap), .done = done, .value = 5};
    go(side_recv, &s);
    settle();
    OK(!atomic_load(&s.passed));
    weft_chan_close(s.c);
    recv_int(done);
    EQ(s.rc, 0);
    EQ(s.value, 0);
    weft_chan_unref(s.c);
}

static void send_100(void *c)
{
    for (int i = 0; i < 100; i++)
        send_int(c, i);
}

static void send_1000(void *c)
{
    for (int i = 0; i < 1000; i++)
        send_int(c, i);
}

typedef struct {
    weft_chan_t *c, *done;
    int seen[1000];
} Tally;

static void tally_1000(void *arg)
{
    Tally *t = arg;
    for (int i = 0; i < 1000; i++) {
        int v = recv_int(t->c);
        OK(v >= 0 && v < 1000);
        t->seen[v]++;
    }
    send_int(t->done, 1);
}

static void many_to_many(weft_chan_t *done, size_t cap)
{
    enum { P = 4 };
    static Tally t[P];
    weft_chan_t *c = weft_chan_make(sizeof(int), cap);
    for (int i = 0; i < P; i++)
        go(send_1000, c);
    for (int i = 0; i < P; i++) {
        memset(&t[i], 0, sizeof t[i]);
        t[i].c = c;
        t[i].done = done;
        go(tally_1000, &t[i]);
    }
    for (int i = 0; i < P; i++)
        recv_int(done);
    for (int v = 0; v < 1000; v++) {
        int sum = 0;
        for (int i = 0; i < P; i++)
            sum += t[i].seen[v];
        EQ(sum, P);
    }
    EQ(weft_chan_len(c), 0);
    weft_chan_unref(c);
}

static void chan_body(void)
{
    weft_chan_t *done = weft_chan_make(sizeof(int), 0);
    for (size_t cap = 0; cap < 200; cap += cap < 8 ? 1 : 13) {
        empty_blocks(done, cap);
        full_blocks(done, cap);
        drains_after_close(cap);
        close_unblocks(done, cap);
    }
    for (size_t cap = 0; cap < 200; cap++) {
        weft_chan_t *c = weft_chan_make(sizeof(int), cap);
        go(send_100, c);
        for (int i = 0; i < 100; i++)
            EQ(recv_int(c), i);
        weft_chan_unref(c); /* the sender is done with it */
        many_to_many(done, cap);
    }
    weft_chan_unref(done);
}

START_TEST(chan)
{
    run(_i, chan_body);
}
END_TEST

/* ---- Go: TestNonblockRecvRace ---------------------------------------------------------- */

static void closer(void *c)
{
    weft_chan_close(c);
    weft_chan_unref(c);
}

static void recv_race_body(void)
{
    for (int i = 0; i < 10000 / FEWER; i++) {
        weft_chan_t *c = weft_chan_make(sizeof(int), 1);
        send_int(c, 1);
        go(closer, weft_chan_ref(c));
        int v = 0;
        EQ(weft_try_recv(c, &v), 1);
        EQ(v, 1);
        weft_chan_unref(c);
    }
}

START_TEST(recv_race)
{
    run(_i, recv_race_body);
}
END_TEST

/* ---- Go: TestMultiConsumer --------------------------------------------------------------- */

enum { WORKERS = 23, ITEMS = 271828 / FEWER };
static weft_chan_t *mc_q, *mc_r, *mc_left;
static const int PRIMES[] = {2, 3, 7, 11, 13, 17, 19, 23, 27, 31};

static void mc_worker(void *arg)
{
    int v;
    (void)arg;
    while (weft_recv(mc_q, &v) == 1) {
        if (PRIMES[v % 10] == v)
            weft_yield();
        send_int(mc_r, v);
    }
    send_int(mc_left, 1);
}

static void mc_feeder(void *arg)
{
    (void)arg;
    for (int i = 0; i < ITEMS; i++)
        send_int(mc_q, PRIMES[i % 10]);
    weft_chan_close(mc_q);
    for (int i = 0; i < WORKERS; i++)
        recv_int(mc_left);
    weft_chan_close(mc_r);
}

static void multi_consumer_body(void)
{
    mc_q = weft_chan_make(sizeof(int), WORKERS * 3);
    mc_r = weft_chan_make(sizeof(int), WORKERS * 3);
    mc_left = weft_chan_make(sizeof(int), 0);
    for (int i = 0; i < WORKERS; i++)
        go(mc_worker, NULL);
    go(mc_feeder, NULL);
    long n = 0, sum = 0, expect = 0;
    int v;
    for (; weft_recv(mc_r, &v) == 1; n++)
        sum += v;
    for (int i = 0; i < ITEMS; i++)
        expect += PRIMES[i % 10];
    EQ(n, ITEMS);
    EQ(sum, expect);
}

START_TEST(multi_consumer)
{
    run(_i, multi_consumer_body);
}
END_TEST

/* ---- Go: test/chan/fifo.go ------------------------------------------------------------------ */

typedef struct {
    weft_chan_t *c, *in, *out;
    int i;
} Link;

static void fifo_link(void *arg)
{
    Link *l = arg;
    EQ(recv_int(l->in), 1);
    EQ(recv_int(l->c), l->i);
    send_int(l->out, 1);
}

static void fifo_order_recv(void *arg)
{
    Side *s = arg;
    atomic_store(&s->begun, true);
    s->value = recv_int(s->c);
    send_int(s->done, 1);
}

static void fifo_body(void)
{
    enum { N = 10 };
    Link l[N];
    weft_chan_t *c = weft_chan_make(sizeof(int), 0), *in = weft_chan_make(sizeof(int), 0);
    weft_chan_t *start = in;
    for (int i = 0; i < N; i++) {
        weft_chan_t *out = weft_chan_make(sizeof(int), 0);
        l[i] = (Link){c, in, out, i};
        go(fifo_link, &l[i]);
        in = out;
    }
    send_int(start, 1);
    for (int i = 0; i < N; i++)
        send_int(c, i);
    recv_int(in);

    /* Receivers are served in the order in which they began to wait. */
    Side s[N];
    for (int i = 0; i < N; i++) {
        s[i] = (Side){.c = c, .done = in, .value = -1};
        go(fifo_order_recv, &s[i]);
        side_settle(&s[i]);
    }
    for (int i = 0; i < N; i++)
        send_int(c, i);
    for (int i = 0; i < N; i++)
        recv_int(in);
    for (int i = 0; i < N; i++)
        EQ(s[i].value, i);
}

START_TEST(fifo)
{
    run(_i, fifo_body);
}
END_TEST

/* The k-th waiting sender's element comes out k-th, behind what is buffered. */
static void sender_order_body(void)
{
    enum { N = 8 };
    for (size_t cap = 0; cap < 4; cap++) {
        weft_chan_t *c = weft_chan_make(sizeof(int), cap), *done = weft_chan_make(sizeof(int), N);
        Side s[N];
        for (size_t i = 0; i < cap; i++)
            send_int(c, (int)i);
        for (int i = 0; i < N; i++) {
            s[i] = (Side){.c = c, .done = done, .value = (int)cap + i};
            go(side_send, &s[i]);
            side_settle(&s[i]);
        }
        for (int i = 0; i < N + (int)cap; i++)
            EQ(recv_int(c), i);
        EQ(weft_chan_len(c), 0);
        for (int i = 0; i < N; i++)
            recv_int(done);
    }
}

START_TEST(sender_order)
{
    run(_i, sender_order_body);
}
END_TEST

/* ---- Go: test/chan/goroutines.go -------------------------------------------------------------- */

typedef struct {
    weft_chan_t *left, *right;
} Pass;

static void pass_one(void *arg)
{
    Pass *p = arg;
    send_int(p->left, recv_int(p->right));
}

static void chain_body(void)
{
    enum { N = 10000 / FEWER };
    static Pass p[N];
    weft_chan_t *first = weft_chan_make(sizeof(int), 0), *left = first;
    for (int i = 0; i < N; i++) {
        weft_chan_t *right = weft_chan_make(sizeof(int), 0);
        p[i] = (Pass){left, right};
        go(pass_one, &p[i]);
        left = right;
    }
    send_int(left, 42);
    EQ(recv_int(first), 42);
    for (int i = 0; i < N; i++)
        weft_chan_unref(p[i].left);
    weft_chan_unref(left);
}

START_TEST(chain)
{
    run(_i, chain_body);
}
END_TEST

/* ---- Go: test/chan/nonblock.go, zerosize.go, TestChanSendInterface ------------------------------ */

enum { FAT = 300 };

typedef struct {
    weft_chan_t *c, *done;
    size_t size;
    int ok;
} Typed;

static void typed_recv(void *arg)
{
    Typed *t = arg;
    unsigned char got[FAT + 1], want[FAT];
    memset(want, 0xa5, sizeof want);
    memset(got, 0x11, sizeof got);
    int rc = weft_recv(t->c, got);
    t->ok = rc == 1 && memcmp(got, want, t->size) == 0 && got[t->size] == 0x11;
    send_int(t->done, 1);
}

static void typed_send(void *arg)
{
    Typed *t = arg;
    unsigned char v[FAT];
    memset(v, 0xa5, sizeof v);
    t->ok = weft_send(t->c, v) == 0;
    send_int(t->done, 1);
}

static int try_send(weft_chan_t *c, void *v)
{
    return weft_try_send(c, v);
}

/* The other one may take longer to its park than settle(). */
static int try_soon(int (*op)(weft_chan_t *, void *), weft_chan_t *c, void *v)
{
    int rc;
    for (int64_t end = weft_now() + 10 * SEC; (rc = op(c, v)) == -EAGAIN && weft_now() < end;)
        settle();
    return rc;
}

static void nonblock_size(size_t size, size_t cap)
{
    unsigned char v[FAT], got[FAT + 1];
    Typed t = {weft_chan_make(size, cap), weft_chan_make(sizeof(int), 0), size, 0};
    memset(v, 0xa5, sizeof v);
    memset(got, 0x11, sizeof got);

    EQ(weft_try_recv(t.c, got), -EAGAIN);
    EQ(got[0], 0x11);
    go(typed_recv, &t); /* the receiver waits, then we come */
    settle();
    EQ(try_soon(try_send, t.c, v), 0);
    recv_int(t.done);
    OK(t.ok);
    for (size_t i = 0; i < cap; i++)
        EQ(weft_try_send(t.c, v), 0);
    EQ(weft_try_send(t.c, v), -EAGAIN);
    t.ok = 0;
    go(typed_send, &t); /* the sender waits, then we come */
    settle();
    for (size_t i = 0; i < cap + 1; i++) {
        memset(got, 0x11, sizeof got);
        EQ(try_soon(weft_try_recv, t.c, got), 1);
        OK(memcmp(got, v, size) == 0 && got[size] == 0x11);
    }
    recv_int(t.done);
    OK(t.ok);
    EQ(weft_try_recv(t.c, got), -EAGAIN);
    weft_chan_unref(t.c);
    weft_chan_unref(t.done);
}

static void nonblock_body(void)
{
    static const size_t SIZES[] = {0, 1, 2, 3, 4, 7, 8, 12, 16, 17, 64, FAT};
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++)
        for (size_t cap = 0; cap < 4; cap++)
            nonblock_size(SIZES[i], cap);
}

START_TEST(nonblock)
{
    run(_i, nonblock_body);
}
END_TEST

/* elem NULL: zeros are sent, what is received is dropped; parked peers included. */
static void null_elem_body(void)
{
    weft_chan_t *done = weft_chan_make(sizeof(int), 0);
    for (size_t cap = 0; cap < 2; cap++) {
        Side s = {.c = weft_chan_make(sizeof(int), cap), .done = done, .value = 5};
        go(side_recv, &s);
        settle();
        EQ(weft_send(s.c, NULL), 0);
        recv_int(done);
        EQ(s.value, 0);
        s.value = 6;
        go(side_send, &s);
        settle();
        EQ(weft_recv(s.c, NULL), 1);
        recv_int(done);
        EQ(weft_chan_len(s.c), 0);
        weft_chan_unref(s.c);
    }
    weft_chan_unref(done);
}

START_TEST(null_elem)
{
    run(_i, null_elem_body);
}
END_TEST

/* ---- Go: test/chan/sieve1.go ---------------------------------------------------------------------- */

typedef struct {
    weft_chan_t *in, *out;
    int prime;
} Filter;

static void generate(void *c)
{
    for (int i = 2;; i++)
        send_int(c, i);
}

static void filter(void *arg)
{
    Filter *f = arg;
    for (;;) {
        int i = recv_int(f->in);
        if (i % f->prime != 0)
            send_int(f->out, i);
    }
}

static void sieve_body(void)
{
    enum { N = 100 };
    static Filter f[N];
    weft_chan_t *c = weft_chan_make(sizeof(int), 0);
    go(generate, c);
    int last = 0;
    for (int i = 0; i < N; i++) {
        int prime = recv_int(c);
        for (int d = 2; d * d <= prime; d++)
            OK(prime % d != 0);
        OK(prime > last);
        last = prime;
        f[i] = (Filter){c, weft_chan_make(sizeof(int), 0), prime};
        go(filter, &f[i]);
        c = f[i].out;
    }
    EQ(last, 541); /* the hundredth */
}

START_TEST(sieve)
{
    run(_i, sieve_body);
}
END_TEST

/* ---- Go: test/closedchan.go --------------------------------------------------------------------------- */

static void close_order_body(void)
{
    enum { N = 4 };
    weft_chan_t *done = weft_chan_make(sizeof(int), N);
    Side s[N];
    for (int round = 0; round < 2; round++) {
        weft_chan_t *c = weft_chan_make(sizeof(int), 0);
        for (int i = 0; i < N; i++) {
            s[i] = (Side){.c = c, .done = done, .value = 5};
            go(round == 0 ? side_recv : side_send, &s[i]);
        }
        settle();
        weft_sleep(50 *
                   MS); /* all have entered, however busy the machine is: they hold references */
        weft_chan_close(c);
        weft_chan_unref(c); /* those woken have nothing to do with it any more */
        for (int i = 0; i < N; i++)
            recv_int(done);
        for (int i = 0; i < N; i++) {
            EQ(s[i].rc, round == 0 ? 0 : -EPIPE);
            EQ(s[i].value, round == 0 ? 0 : 5);
        }
    }
    weft_chan_unref(done);
}

START_TEST(close_wakes_all)
{
    run(_i, close_order_body);
}
END_TEST

static void close_twice_body(void)
{
    weft_chan_t *c = weft_chan_make(0, 0);
    weft_chan_close(c);
    weft_chan_close(c);
}

static void close_null_body(void)
{
    weft_chan_close(NULL);
}

START_TEST(close_twice)
{
    run(_i, close_twice_body);
}
END_TEST

START_TEST(close_null)
{
    run(_i, close_null_body);
}
END_TEST

static void nil_forever(void *arg)
{
    Side *s = arg;
    s->rc = s->value ? weft_send(NULL, NULL) : weft_recv(NULL, NULL);
    atomic_store(&s->passed, true);
}

static void nil_body(void)
{
    static Side s[2];
    s[0] = (Side){.value = 0};
    s[1] = (Side){.value = 1};
    go(nil_forever, &s[0]);
    go(nil_forever, &s[1]);
    settle();
    OK(!atomic_load(&s[0].passed) && !atomic_load(&s[1].passed));
    EQ(weft_try_send(NULL, NULL), -EAGAIN);
    EQ(weft_try_recv(NULL, NULL), -EAGAIN);
    EQ(weft_chan_len(NULL) + weft_chan_cap(NULL), 0);
    OK(weft_chan_ref(NULL) == NULL);
    weft_chan_unref(NULL);
}

START_TEST(nil_chan)
{
    run(_i, nil_body);
}
END_TEST

/* ---- references ------------------------------------------------------------------------------------------ */

static weft_chan_t *ref_done;

/* Holds no reference but that of its parked Wait. */
static void ref_sender(void *c)
{
    int v = 3;
    EQ(weft_send(c, &v), 0);
    send_int(ref_done, 1);
}

/* Owns the last reference and drops it as soon as it has the element. */
static void ref_receiver(void *c)
{
    EQ(recv_int(c), 3);
    weft_chan_unref(c);
    send_int(ref_done, 1);
}

static void ref_body(void)
{
    enum { N = 5000 };
    ref_done = weft_chan_make(sizeof(int), N);
    for (size_t i = 0; i < N; i++) {
        /* The receiver drops the last reference while we return from the send. */
        weft_chan_t *c = weft_chan_make(sizeof(int), i % 3);
        go(ref_receiver, c);
        if (i % 2 == 0)
            weft_yield();
        send_int(c, 3);
        if (i % 64 == 0)
            while (weft_chan_len(ref_done) < i)
                weft_yield();
    }
    for (int i = 0; i < N; i++)
        recv_int(ref_done);
    for (int i = 0; i < N / 10; i++) {
        /* A parked waiter's own reference keeps the channel until it is taken out. */
        weft_chan_t *c = weft_chan_make(sizeof(int), 0);
        go(ref_sender, c);
        if (i % 50 == 0)
            settle();
        EQ(recv_int(c), 3);
        recv_int(ref_done); /* it has left: ours is the last one */
        weft_chan_unref(c);
    }
    weft_chan_unref(ref_done);
}

START_TEST(last_reference)
{
    run(_i, ref_body);
}
END_TEST

/* ---- without a run, over two runs, abandoned ----------------------------------------------------------------- */

START_TEST(outside)
{
    OK(weft_chan_make(65536, 0) == NULL);
    OK(weft_chan_make(8, SIZE_MAX) == NULL);
    OK(weft_chan_make(8, SIZE_MAX / 8) == NULL);
    OK(weft_chan_make(0, SIZE_MAX) == NULL);
    weft_chan_t *big = weft_chan_make(65535, 1);
    OK(big != NULL);
    weft_chan_unref(big);

    weft_chan_t *c = weft_chan_make(sizeof(int), 1);
    int v = 8;
    EQ(weft_recv(c, &v), -EPERM);
    EQ(weft_send(c, &v), 0);
    EQ(weft_send(c, &v), -EPERM);
    EQ(weft_recv(NULL, &v), -EPERM);
    EQ(weft_send(NULL, &v), -EPERM);
    v = 0;
    EQ(weft_recv(c, &v), 1);
    EQ(v, 8);
    weft_chan_close(c);
    EQ(weft_recv(c, &v), 0);
    weft_chan_unref(c);
}
END_TEST

static weft_chan_t *kept, *kept_full;

static void stuck_recv(void *arg)
{
    (void)arg;
    weft_recv(kept, NULL);
    abort();
}

static void stuck_send(void *arg)
{
    (void)arg;
    weft_send(kept_full, NULL);
    abort();
}

static void stuck_select(void *arg)
{
    (void)arg;
    weft_case_t k[2] = {{.op = WEFT_RECV, .chan = kept}, {.op = WEFT_SEND, .chan = kept_full}};
    weft_select(k, 2, 0);
    abort();
}

static void abandon_body(void)
{
    EQ(weft_try_send(kept, NULL), -EAGAIN); /* nobody of an earlier run receives */
    for (int i = 0; i < 3; i++) {
        go(stuck_recv, NULL);
        go(stuck_send, NULL);
        go(stuck_select, NULL);
    }
    settle();
    EQ(weft_chan_len(kept_full), 1);
}

START_TEST(abandoned)
{
    kept = weft_chan_make(sizeof(int), 0);
    kept_full = weft_chan_make(sizeof(int), 1);
    int v = 4;
    EQ(weft_send(kept_full, &v), 0);
    for (int round = 0; round < 3; round++)
        run(_i, abandon_body);
    EQ(weft_try_send(kept, NULL), -EAGAIN);
    EQ(weft_try_recv(kept_full, &v), 1);
    EQ(v, 4);
    EQ(weft_try_recv(kept_full, &v), -EAGAIN); /* no abandoned sender came after */
    EQ(weft_chan_len(kept_full), 0);
    weft_chan_unref(kept);
    weft_chan_unref(kept_full);
}
END_TEST

/* ---- foreign threads ---------------------------------------------------------------------------------------------- */

enum { FOREIGN_N = 2000 };

static void *foreign_echo(void *arg)
{
    Pass *p = arg;
    int v;
    while (weft_recv(p->left, &v) == 1)
        if (weft_send(p->right, &v) != 0)
            return p;
    return NULL;
}

static void foreign_body(void)
{
    for (size_t cap = 0; cap < 3; cap++) {
        Pass p = {weft_chan_make(sizeof(int), cap), weft_chan_make(sizeof(int), cap)};
        pthread_t t[2];
        for (int i = 0; i < 2; i++)
            EQ(pthread_create(&t[i], NULL, foreign_echo, &p), 0);
        long sum = 0;
        for (int i = 0; i < FOREIGN_N; i++) {
            send_int(p.left, i);
            sum += recv_int(p.right);
        }
        EQ(sum, FOREIGN_N * (FOREIGN_N - 1) / 2);
        weft_chan_close(p.left);
        for (int i = 0; i < 2; i++) {
            void *res = &p;
            EQ(pthread_join(t[i], &res), 0);
            OK(res == NULL);
        }
        weft_chan_unref(p.left);
        weft_chan_unref(p.right);
    }
}

START_TEST(foreign)
{
    run(_i, foreign_body);
}
END_TEST

static atomic_int home_rc;
static weft_chan_t *home_chan;

static void *foreign_waits(void *arg)
{
    (void)arg;
    atomic_store(&home_rc, weft_recv(home_chan, NULL));
    return NULL;
}

static pthread_t home_thread;

static void home_body(void)
{
    EQ(pthread_create(&home_thread, NULL, foreign_waits, NULL), 0);
    settle();
    settle();
}

/* A run that ends sends foreign threads home, and they leave nothing queued. */
START_TEST(foreign_home)
{
    home_chan = weft_chan_make(sizeof(int), 0);
    run(_i, home_body);
    EQ(pthread_join(home_thread, NULL), 0);
    int rc = atomic_load(&home_rc);
    OK(rc == -ECANCELED || rc == -EPERM); /* it may have come too late to park */
    EQ(weft_try_send(home_chan, NULL), -EAGAIN);
    weft_chan_unref(home_chan);
}
END_TEST

/* ---- deadlines ---------------------------------------------------------------- */

static weft_chan_t *until_chan;

static void late_sender(void *arg)
{
    weft_sleep(5 * MS);
    EQ(weft_send(until_chan, &(int64_t){(int64_t)(intptr_t)arg}), 0);
}

/* Elements that fit a Wait, and that do not. */
typedef struct {
    int64_t first, rest[9];
} Long;

static void until_body(void)
{
    int64_t v = 7, far = weft_now() + 20 * SEC;
    EQ(weft_recv_until(NULL, &v, 1), -ETIMEDOUT);
    EQ(weft_send_until(NULL, &v, weft_now() + MS), -ETIMEDOUT);
    until_chan = weft_chan_make(sizeof v, 1);
    EQ(weft_recv_until(until_chan, &v, 1), -ETIMEDOUT);
    EQ(v, 7);                                  /* untouched */
    EQ(weft_send_until(until_chan, &v, 1), 0); /* it can be done at once */
    int64_t until = weft_now() + 3 * MS;
    EQ(weft_send_until(until_chan, &v, until), -ETIMEDOUT);
    OK(weft_now() >= until);
    EQ(weft_recv_until(until_chan, &v, 1), 1);
    go(late_sender, (void *)42);
    EQ(weft_recv_until(until_chan, &v, far), 1);
    EQ(v, 42);
    EQ(weft_chan_close(until_chan), 0);
    EQ(weft_recv_until(until_chan, &v, far), 0);
    EQ(v, 0);
    EQ(weft_send_until(until_chan, &v, far), -EPIPE);
    weft_chan_unref(until_chan);
}

/* What was given up was not sent, and nothing else is lost or made. */
enum { GIVEN = 2000 };
static _Atomic int64_t sent_sum, got_sum;
static atomic_int senders;

static void impatient_sender(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg + 1;
    for (int i = 0; i < GIVEN; i++) {
        s = s * 1664525u + 1013904223u;
        Long v = {.first = s >> 8};
        memset(v.rest, (int)(s >> 24), sizeof v.rest);
        int rc = weft_send_until(until_chan, &v, weft_now() + (int64_t)(s >> 8) % (20 * US));
        OK(rc == 0 || rc == -ETIMEDOUT);
        if (rc == 0)
            atomic_fetch_add(&sent_sum, v.first);
    }
    if (atomic_fetch_sub(&senders, 1) == 1)
        weft_chan_close(until_chan);
}

static void impatient_receiver(void *arg)
{
    uint32_t s = (uint32_t)(uintptr_t)arg + 99;
    for (;;) {
        s = s * 1664525u + 1013904223u;
        Long v;
        int rc = weft_recv_until(until_chan, &v, weft_now() + (int64_t)(s >> 8) % (20 * US));
        OK(rc == 0 || rc == 1 || rc == -ETIMEDOUT);
        if (rc == 0)
            break;
        if (rc == 1) {
            OK(((unsigned char *)v.rest)[0] == ((unsigned char *)v.rest)[sizeof v.rest - 1]);
            atomic_fetch_add(&got_sum, v.first);
        }
    }
}

static void impatient_body(void)
{
    static weft_wg_t wg;
    until_chan = weft_chan_make(sizeof(Long), 0);
    senders = 4;
    sent_sum = got_sum = 0;
    for (int i = 0; i < 4; i++) {
        EQ(weft_wg_go(&wg, impatient_sender, (void *)(intptr_t)i), 0);
        EQ(weft_wg_go(&wg, impatient_receiver, (void *)(intptr_t)i), 0);
    }
    EQ(weft_wg_wait(&wg), 0);
    EQ(got_sum, sent_sum);
    OK(sent_sum > 0);
    weft_chan_unref(until_chan);
}

START_TEST(until)
{
    run(_i % NPROCS, _i < NPROCS ? until_body : impatient_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chan");
    TCase *tc = tcase_create("chan");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, chan, 0, NPROCS);
    tcase_add_loop_test(tc, recv_race, 0, NPROCS);
    tcase_add_loop_test(tc, multi_consumer, 0, NPROCS);
    tcase_add_loop_test(tc, fifo, 0, NPROCS);
    tcase_add_loop_test(tc, sender_order, 0, NPROCS);
    tcase_add_loop_test(tc, chain, 0, NPROCS);
    tcase_add_loop_test(tc, nonblock, 0, NPROCS);
    tcase_add_loop_test(tc, null_elem, 0, NPROCS);
    tcase_add_loop_test(tc, sieve, 0, NPROCS);
    tcase_add_loop_test(tc, close_wakes_all, 0, NPROCS);
    tcase_add_exit_test(tc, close_twice, 2);
    tcase_add_exit_test(tc, close_null, 2);
    tcase_add_loop_test(tc, nil_chan, 0, NPROCS);
    tcase_add_loop_test(tc, last_reference, 0, NPROCS);
    tcase_add_test(tc, outside);
    tcase_add_loop_test(tc, abandoned, 0, NPROCS);
    tcase_add_loop_test(tc, foreign, 0, NPROCS);
    tcase_add_loop_test(tc, foreign_home, 0, NPROCS);
    tcase_add_loop_test(tc, until, 0, 2 * NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
