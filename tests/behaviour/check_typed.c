/* SPDX-License-Identifier: MIT
 *
 * check_typed.c: <weft/typed.h> passes elements of every kind unharmed, and each of its
 * functions does what the one of weft.h does. What it refuses to compile is
 * check_typed_not.sh's.
 *
 * A test's body runs as the main coroutine on 1, 2 and 4 processors. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <weft/typed.h>

#include "behaviour.h"

typedef struct {
    int id;
    char name[13]; /* a size that is no power of two */
} Job;
typedef struct {
    unsigned char bytes[65535];
} Largest;
typedef int (*Operation)(int);
typedef enum { RED, GREEN } Colour;

/* Names that a macro of ours must not stumble over. */
static int elem, c, deadline, capacity;

WEFT_CHAN(ints, int);
WEFT_CHAN(jobs, Job);
WEFT_CHAN(words, const char *);
WEFT_CHAN(strings, char *);
WEFT_CHAN(largest, Largest);
WEFT_CHAN(operations, Operation);
WEFT_CHAN(colours, Colour);
WEFT_CHAN(reals, double);
WEFT_CHAN(flags, bool);
WEFT_CHAN(replies, ints_tx_t); /* an end may be sent */

_Static_assert(sizeof(ints_t) == sizeof(void *), "one register");
_Static_assert(sizeof(ints_tx_t) == sizeof(void *), "one register");
_Static_assert(sizeof(largest_rx_t) == sizeof(void *), "one register");

static weft_wg_t wg;
static ints_t a, b;
static atomic_int started;

static void reset(void)
{
    memset(&wg, 0, sizeof wg);
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    started = elem = c = deadline = capacity = 0;
}

/* ---- each function --------------------------------------------------------------------------- */

static void table_body(void)
{
    int v = 7;
    a = ints_make(2);
    OK(a.chan != NULL);
    OK(a.tx.chan == a.chan && a.rx.chan == a.chan);
    EQ(ints_cap(a), 2);
    EQ(ints_len(a), 0);
    EQ(ints_try_recv(a.rx, &v), -EAGAIN);
    EQ(ints_recv_until(a.rx, &v, 1), -ETIMEDOUT);
    EQ(v, 7);
    EQ(ints_send(a.tx, 1), 0);
    EQ(ints_try_send(a.tx, 2), 0);
    EQ(ints_len(a), 2);
    EQ(ints_try_send(a.tx, 3), -EAGAIN);
    EQ(ints_send_until(a.tx, 3, 1), -ETIMEDOUT);
    EQ(ints_recv(a.rx, &v), 1);
    EQ(v, 1);
    EQ(ints_send_until(a.tx, 4, from_now(SEC)), 0);
    EQ(ints_recv_until(a.rx, &v, 0), 1);
    EQ(v, 2);
    EQ(ints_close(a.tx), 0);
    EQ(ints_send(a.tx, 5), -EPIPE);
    EQ(ints_try_send(a.tx, 5), -EPIPE);
    EQ(ints_send_until(a.tx, 5, 0), -EPIPE);
    EQ(ints_try_recv(a.rx, &v), 1);
    EQ(v, 4);
    EQ(ints_recv(a.rx, &v), 0);
    EQ(v, 0);
    EQ(ints_try_recv(a.rx, NULL), 0);
    ints_unref(a);
}

static void fails_body(void)
{
    OK(ints_make(SIZE_MAX).chan == NULL);
    OK(largest_make(SIZE_MAX / 2).chan == NULL);
}

/* Each reference keeps the channel (a freed one is for the address sanitizer to see). */
static void ref_body(void)
{
    int v;
    a = ints_make(1);
    ints_t again = ints_ref(a);
    OK(again.chan == a.chan);
    ints_unref(a);
    EQ(ints_send(again.tx, 3), 0);
    EQ(ints_recv(a.rx, &v), 1);
    EQ(v, 3);
    ints_unref(again);
    ints_t none = {NULL};
    OK(ints_ref(none).chan == NULL);
    ints_unref(none);
}

/* Zero-initialised: Go's nil channel. */
static void nil_body(void)
{
    ints_t none = {0};
    int v = 1;
    EQ(ints_len(none), 0);
    EQ(ints_cap(none), 0);
    EQ(ints_try_send(none.tx, 1), -EAGAIN);
    EQ(ints_try_recv(none.rx, &v), -EAGAIN);
    EQ(ints_send_until(none.tx, 1, from_now(MS)), -ETIMEDOUT);
    EQ(ints_recv_until(none.rx, &v, from_now(MS)), -ETIMEDOUT);
    weft_case_t cases[2] = {ints_case_send(none.tx, &v), ints_case_recv(none.rx, &v)};
    EQ(weft_try_select(cases, 2), -EAGAIN);
    EQ(v, 1);
}

/* ---- elements of every kind ------------------------------------------------------------------ */

static int twice(int x)
{
    return 2 * x;
}

static void kinds_body(void)
{
    jobs_t j = jobs_make(1);
    Job in = {3, "twelve chars"}, out = {0, ""};
    EQ(jobs_send(j.tx, in), 0);
    in.id = 4; /* it was copied */
    EQ(jobs_recv(j.rx, &out), 1);
    OK(out.id == 3 && strcmp(out.name, "twelve chars") == 0);
    jobs_unref(j);

    words_t w = words_make(1);
    const char *word = "weft", *got = NULL;
    EQ(words_send(w.tx, word), 0);
    EQ(words_recv(w.rx, &got), 1);
    OK(got == word);
    words_unref(w);

    operations_t o = operations_make(1);
    Operation f = NULL;
    EQ(operations_send(o.tx, twice), 0);
    EQ(operations_recv(o.rx, &f), 1);
    EQ(f(21), 42);
    operations_unref(o);

    reals_t r = reals_make(1);
    double x = 0;
    EQ(reals_send(r.tx, 3), 0); /* converted as in any call */
    EQ(reals_recv(r.rx, &x), 1);
    OK(x == 3.0);
    reals_unref(r);

    flags_t t = flags_make(1);
    bool flag = false;
    EQ(flags_send(t.tx, 2), 0);
    EQ(flags_recv(t.rx, &flag), 1);
    OK(flag);
    flags_unref(t);

    colours_t h = colours_make(1);
    Colour colour = RED;
    EQ(colours_send(h.tx, GREEN), 0);
    EQ(colours_recv(h.rx, &colour), 1);
    OK(colour == GREEN);
    colours_unref(h);
}

static void fill(Largest *l, int seed)
{
    for (size_t i = 0; i < sizeof l->bytes; i++)
        l->bytes[i] = (unsigned char)(i * 31 + (size_t)seed);
}

static largest_t large;

static void send_large(void *arg)
{
    static Largest l[2];
    (void)arg;
    for (int i = 0; i < 2; i++) {
        fill(&l[i], i);
        OK(largest_send(large.tx, l[i]) == 0);
    }
}

/* One that is as large as they may be, buffered and handed over. */
static void large_body(void)
{
    static Largest want, got;
    for (size_t room = 0; room < 2; room++) {
        large = largest_make(room);
        OK(large.chan != NULL);
        OK(weft_wg_go(&wg, send_large, NULL) == 0);
        for (int i = 0; i < 2; i++) {
            fill(&want, i);
            EQ(largest_recv(large.rx, &got), 1);
            OK(memcmp(&want, &got, sizeof want) == 0);
        }
        OK(weft_wg_wait(&wg) == 0);
        largest_unref(large);
    }
}

/* ---- between coroutines ---------------------------------------------------------------------- */

enum { MANY = 1000 };

static void produce(void *arg)
{
    ints_tx_t *out = arg;
    for (int i = 0; i < MANY; i++)
        OK(ints_send(*out, i) == 0);
    OK(ints_close(*out) == 0);
}

typedef struct {
    ints_rx_t in;
    ints_tx_t out;
} Stage;

static void square(void *arg)
{
    Stage *s = arg;
    int v;
    while (ints_recv(s->in, &v) == 1)
        OK(ints_send(s->out, v * v) == 0);
    OK(ints_close(s->out) == 0);
}

static void pipeline_body(void)
{
    a = ints_make(0);
    b = ints_make(3);
    Stage s = {a.rx, b.tx};
    go(produce, &a.tx);
    go(square, &s);
    for (int i = 0; i < MANY; i++) {
        int v = -1;
        EQ(ints_recv(b.rx, &v), 1);
        EQ(v, i * i);
    }
    EQ(ints_recv(b.rx, NULL), 0);
    ints_unref(a);
    ints_unref(b);
}

static replies_t requests;

static void answer(void *arg)
{
    ints_tx_t to;
    (void)arg;
    for (int i = 0; replies_recv(requests.rx, &to) == 1; i++)
        OK(ints_send(to, i) == 0);
}

/* A request brings the end that the answer goes to. */
static void replies_body(void)
{
    int v;
    requests = replies_make(0);
    a = ints_make(0);
    OK(weft_wg_go(&wg, answer, NULL) == 0);
    for (int i = 0; i < 10; i++) {
        EQ(replies_send(requests.tx, a.tx), 0);
        EQ(ints_recv(a.rx, &v), 1);
        EQ(v, i);
    }
    EQ(replies_close(requests.tx), 0);
    OK(weft_wg_wait(&wg) == 0);
    replies_unref(requests);
    ints_unref(a);
}

static void *foreign(void *arg)
{
    ints_tx_t *out = arg;
    for (int i = 0; i < MANY; i++)
        OK(ints_send(*out, i) == 0);
    return NULL;
}

static void foreign_body(void)
{
    pthread_t th;
    int v;
    a = ints_make(0);
    OK(pthread_create(&th, NULL, foreign, &a.tx) == 0);
    for (int i = 0; i < MANY; i++) {
        EQ(ints_recv(a.rx, &v), 1);
        EQ(v, i);
    }
    pthread_join(th, NULL);
    ints_unref(a);
}

/* ---- select ---------------------------------------------------------------------------------- */

static void select_body(void)
{
    static const int FIVE = 5; /* an element to send may be const */
    int v = -1;
    const char *word = "none";
    words_t w = words_make(1);
    a = ints_make(1);
    weft_case_t cases[3] = {ints_case_recv(a.rx, &v), words_case_recv(w.rx, &word),
                            ints_case_send(a.tx, &FIVE)};
    EQ(weft_try_select(cases, 2), -EAGAIN);
    EQ(weft_select(cases, 3, 0), 2); /* only the send is ready */
    EQ(cases[2].result, 0);
    EQ(v, -1);
    EQ(weft_select(cases, 3, 0), 0); /* only the receive of it is */
    EQ(cases[0].result, 1);
    EQ(v, 5);
    OK(strcmp(word, "none") == 0);
    EQ(words_send(w.tx, "some"), 0);
    EQ(weft_select(cases, 2, 0), 1);
    OK(strcmp(word, "some") == 0);
    EQ(ints_close(a.tx), 0);
    EQ(weft_select(&cases[2], 1, 0), 0);
    EQ(cases[2].result, -EPIPE);
    EQ(weft_select(cases, 1, 0), 0);
    EQ(cases[0].result, 0);
    EQ(v, 0);
    weft_case_t discard = ints_case_recv(a.rx, NULL);
    EQ(weft_select(&discard, 1, 0), 0);
    ints_unref(a);
    words_unref(w);
}

static void select_sends(void *arg)
{
    (void)arg;
    for (int i = 0; i < MANY; i++) {
        weft_case_t cases[2] = {ints_case_send(a.tx, &i), ints_case_send(b.tx, &i)};
        OK(weft_select(cases, 2, 0) >= 0);
    }
}

/* Both sides wait in a select: each number comes once, in order. */
static void select_parks_body(void)
{
    a = ints_make(0);
    b = ints_make(0);
    OK(weft_wg_go(&wg, select_sends, NULL) == 0);
    for (int i = 0; i < MANY; i++) {
        int v[2] = {-1, -1};
        weft_case_t cases[2] = {ints_case_recv(a.rx, &v[0]), ints_case_recv(b.rx, &v[1])};
        int chosen = weft_select(cases, 2, from_now(60 * SEC));
        OK(chosen == 0 || chosen == 1);
        EQ(v[chosen], i);
        EQ(v[1 - chosen], -1);
    }
    OK(weft_wg_wait(&wg) == 0);
    ints_unref(a);
    ints_unref(b);
}

/* ---- typed and not --------------------------------------------------------------------------- */

/* A channel made without a type gets one; .chan is the way back. */
static void untyped_body(void)
{
    weft_chan_t *plain = weft_chan_make(sizeof(int), 1);
    ints_rx_t in = {plain};
    ints_t both = {plain};
    int v = 9;
    EQ(weft_send(plain, &v), 0);
    v = 0;
    EQ(weft_chan_len(in.chan), 1);
    EQ(ints_recv(in, &v), 1);
    EQ(v, 9);
    EQ(ints_send(both.tx, 8), 0);
    EQ(weft_recv(both.chan, &v), 1);
    EQ(v, 8);
    weft_chan_unref(in.chan);
}

/* ---------------------------------------------------------------------------------------------- */

static void (*const bodies[])(void) = {
    table_body,    fails_body,   ref_body,     nil_body,    kinds_body,        large_body,
    pipeline_body, replies_body, foreign_body, select_body, select_parks_body, untyped_body,
};
enum { BODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(each)
{
    reset();
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

/* Outside of a run what can be done at once is done. */
START_TEST(outside)
{
    int v;
    a = ints_make(1);
    EQ(ints_send(a.tx, 1), 0);
    EQ(ints_send(a.tx, 2), -EPERM);
    EQ(ints_recv(a.rx, &v), 1);
    EQ(v, 1);
    ints_unref(a);
}
END_TEST

int main(void)
{
    return run_bodies("typed", each, BODIES, outside);
}
