/* SPDX-License-Identifier: MIT
 *
 * check_go_chan.c: programs of many coroutines and channels with results that are known: a sieve that merges, and power
 * series. The Go test is named at each; GO-TESTS lists all. Channels themselves: check_chan.c, check_select.c. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "behaviour.h"

/* ---- Go: test/chan/sieve2.go -------------------------------------------------------------------- */

/* Each prime has a coroutine that sends its multiples, in buffers of all sizes; what nobody sends is prime. */
enum { PRIMES = 150, LAST_PRIME = 863 };

typedef struct {
    weft_chan_t *multiples;
    int prime, next;
} Prime;

static Prime primes[PRIMES];

static void multiply(void *arg)
{
    const Prime *p = arg;
    for (int n = p->prime * p->prime;; n += p->prime)
        EQ(weft_send(p->multiples, &n), 0);
}

static bool is_composite(int n, int found)
{
    bool composite = false;
    for (Prime *p = primes; p < primes + found; p++) {
        while (p->next < n)
            EQ(weft_recv(p->multiples, &p->next), 1);
        composite = composite || p->next == n;
    }
    return composite;
}

static void sieve_body(void)
{
    int found = 0;
    for (int n = 2; found < PRIMES; n++) {
        if (is_composite(n, found))
            continue;
        for (int d = 2; d * d <= n; d++)
            OK(n % d != 0);
        primes[found] = (Prime){weft_chan_make(sizeof(int), (size_t)(found % 5)), n, 0};
        go(multiply, &primes[found++]);
    }
    EQ(primes[PRIMES - 1].prime, LAST_PRIME); /* none was missed */
}

/* ---- Go: test/chan/powser1.go, powser2.go ---------------------------------------------------------- */

/* A power series is a coroutine that computes its next coefficient when it is asked: a request on one channel, the
 * answer on another. A product is made of two series, four copies of their rests and the product of these, and so on:
 * chains of coroutines as long as the series, each a client of the next. What uses itself (exp, tan) is a ring. */
typedef struct {
    int64_t num, den;
} Rat;

static int64_t gcd(int64_t a, int64_t b)
{
    return b == 0 ? llabs(a) : gcd(b, a % b);
}

static Rat rat(int64_t num, int64_t den)
{
    int64_t g = gcd(num, den);
    return (Rat){num / g, den / g};
}

static Rat plus(Rat a, Rat b)
{
    return rat(a.num * b.den + b.num * a.den, a.den * b.den);
}

static Rat times(Rat a, Rat b)
{
    Rat x = rat(a.num, b.den), y = rat(b.num, a.den);
    return (Rat){x.num * y.num, x.den * y.den};
}

typedef struct {
    weft_chan_t *ask, *tell;
} Series;

/* One coroutine's inputs and outputs, and a constant. */
typedef struct {
    Series in[2], out[2];
    Rat c;
} Node;

enum { TERMS = 12, NODES = 20000 };
static Node nodes[NODES];
static atomic_int nnodes;

static Series series(void)
{
    return (Series){weft_chan_make(0, 0), weft_chan_make(sizeof(Rat), 0)};
}

static void make(void (*fn)(void *), Node n)
{
    int i = nnodes++;
    OK(i < NODES);
    nodes[i] = n;
    go(fn, &nodes[i]);
}

static Rat get(Series s)
{
    Rat r;
    EQ(weft_send(s.ask, NULL), 0);
    EQ(weft_recv(s.tell, &r), 1);
    return r;
}

static void asked(Series s)
{
    EQ(weft_recv(s.ask, NULL), 1);
}

static void tell(Series s, Rat r)
{
    EQ(weft_send(s.tell, &r), 0);
}

/* c, 0, 0 ... */
static void constant(void *arg)
{
    const Node *n = arg;
    for (Rat r = n->c;; r = rat(0, 1)) {
        asked(n->out[0]);
        tell(n->out[0], r);
    }
}

static void ones(void *arg)
{
    const Node *n = arg;
    for (;;) {
        asked(n->out[0]);
        tell(n->out[0], rat(1, 1));
    }
}

static void add(void *arg)
{
    const Node *n = arg;
    for (;;) {
        asked(n->out[0]);
        Rat a = get(n->in[0]);
        tell(n->out[0], plus(a, get(n->in[1])));
    }
}

/* From 0 on, and c. */
static void integrate(void *arg)
{
    const Node *n = arg;
    asked(n->out[0]);
    tell(n->out[0], n->c);
    for (int64_t k = 1;; k++) {
        asked(n->out[0]);
        tell(n->out[0], times(get(n->in[0]), rat(1, k)));
    }
}

/* The same series for two, each at its own pace: while the next coefficient is on its way, which may need earlier ones
 * from here, these are given. */
static void split(void *arg)
{
    const Node *n = arg;
    Rat known[3 * TERMS];
    int count = 0, at[2] = {0, 0};
    bool waits[2] = {false, false}, coming = false;
    for (;;) {
        for (int i = 0; i < 2; i++)
            if (waits[i] && at[i] < count) {
                tell(n->out[i], known[at[i]++]);
                waits[i] = false;
            }
        if ((waits[0] || waits[1]) && !coming) {
            EQ(weft_send(n->in[0].ask, NULL), 0);
            coming = true;
        }
        OK(count < 3 * TERMS);
        weft_case_t c[] = {
            {.op = WEFT_RECV, .chan = waits[0] ? NULL : n->out[0].ask},
            {.op = WEFT_RECV, .chan = waits[1] ? NULL : n->out[1].ask},
            {.op = WEFT_RECV, .chan = coming ? n->in[0].tell : NULL, .elem = &known[count]}};
        int i = weft_select(c, 3, 0);
        if (i == 2) {
            count++;
            coming = false;
        } else {
            waits[i] = true;
        }
    }
}

static void split_into(Series s, Series a, Series b)
{
    make(split, (Node){{s}, {a, b}, {0, 1}});
}

/* (u + xU)(v + xV) = uv + x(uV + vU) + xx UV */
static void multiply_series(void *arg)
{
    const Node *n = arg;
    Series u[2] = {series(), series()}, v[2] = {series(), series()}, uv = series();
    asked(n->out[0]);
    Rat u0 = get(n->in[0]), v0 = get(n->in[1]);
    tell(n->out[0], times(u0, v0));
    for (int k = 1;; k++) {
        asked(n->out[0]);
        if (k == 1) {
            split_into(n->in[0], u[0], u[1]);
            split_into(n->in[1], v[0], v[1]);
        }
        Rat r = plus(times(u0, get(v[0])), times(v0, get(u[0])));
        if (k == 2)
            make(multiply_series, (Node){{u[1], v[1]}, {uv}, {0, 1}});
        tell(n->out[0], k > 1 ? plus(r, get(uv)) : r);
    }
}

static Series two(void (*fn)(void *), Series a, Series b)
{
    Series z = series();
    make(fn, (Node){{a, b}, {z}, {0, 1}});
    return z;
}

static Series one(void (*fn)(void *), Series a, Rat c)
{
    Series z = series();
    make(fn, (Node){{a}, {z}, c});
    return z;
}

static const Series NONE;

/* E = 1 + the integral of E: of x only. */
static Series exponential(void)
{
    Series out = series(), again = series();
    split_into(one(integrate, again, rat(1, 1)), out, again);
    return out;
}

/* T = the integral of 1 + T * T. */
static Series tangent(void)
{
    Series out = series(), t = series(), a = series(), b = series();
    Series sum = two(add, one(constant, NONE, rat(1, 1)), two(multiply_series, a, b));
    split_into(one(integrate, sum, rat(0, 1)), out, t);
    split_into(t, a, b);
    return out;
}

static void expect(Series s, const Rat *want)
{
    for (int i = 0; i < TERMS; i++) {
        Rat r = get(s);
        if (r.num != want[i].num || r.den != want[i].den)
            ck_abort_msg("term %d: %lld/%lld, not %lld/%lld", i, (long long)r.num, (long long)r.den,
                         (long long)want[i].num, (long long)want[i].den);
    }
}

static const Rat TANGENT[TERMS] = {{0, 1}, {1, 1},    {0, 1}, {1, 3},     {0, 1}, {2, 15},
                                   {0, 1}, {17, 315}, {0, 1}, {62, 2835}, {0, 1}, {1382, 155925}};

static void powser_body(void)
{
    Rat twos[TERMS], numbers[TERMS], squares[TERMS], f[TERMS], ff[TERMS];
    int64_t fact = 1;
    nnodes = 0;
    for (int i = 0; i < TERMS; fact *= ++i) {
        twos[i] = rat(2, 1);
        numbers[i] = rat(i + 1, 1);
        squares[i] = rat((i + 1) * (i + 2) * (i + 3) / 6, 1); /* of numbers */
        f[i] = rat(1, fact);
        ff[i] = rat(1 << i, fact);
    }
    expect(two(add, one(ones, NONE, f[0]), one(ones, NONE, f[0])), twos);
    Series n = two(multiply_series, one(ones, NONE, f[0]), one(ones, NONE, f[0]));
    expect(n, numbers);
    n = two(multiply_series, one(ones, NONE, f[0]), one(ones, NONE, f[0]));
    expect(
        two(multiply_series, n, two(multiply_series, one(ones, NONE, f[0]), one(ones, NONE, f[0]))),
        squares);
    expect(exponential(), f);
    expect(two(multiply_series, exponential(), exponential()), ff);
    expect(tangent(), TANGENT);
}

/* ---- all ------------------------------------------------------------------------------------------------ */

START_TEST(sieve2)
{
    run(_i, sieve_body);
}
END_TEST

START_TEST(powser)
{
    run(_i, powser_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("go chan");
    TCase *tc = tcase_create("go chan");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, sieve2, 0, NPROCS);
    tcase_add_loop_test(tc, powser, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
