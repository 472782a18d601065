/* SPDX-License-Identifier: MIT
 *
 * check_timer.c: the timer heap against a plain model, without a scheduler.
 *
 * Two Ps that nobody runs, one M that holds either; a timer's function notes
 * when and in which order it was fired. */
#include "rt.h"

#include "refs.h"

#include <check.h>
#include <stdlib.h>

enum { N = 1000 };

typedef struct {
    Timer t;
    int64_t due;   /* what the heap was told; 0: not pending */
    int64_t fired; /* the clock when it fired */
} Model;

static P *p[2];
static M *m;
static Model model[N];
static int64_t clock_now, last_when;
static int nfired;
static uint64_t rng = 88172645463325252u;

static void must(bool ok, const char *what, int line)
{
    if (!ok)
        ck_abort_msg("line %d: not %s", line, what);
}
#define OK(x) must((x), #x, __LINE__)

static void note(M *self, Timer *copy)
{
    Model *x = copy->arg;
    OK(self == m && x->due == copy->head.when && copy->head.when <= clock_now &&
       copy->head.when >= last_when);
    OK(get(&x->t.head.heap) == NULL);
    last_when = copy->head.when;
    x->fired = clock_now;
    x->due = 0;
    nfired++;
}

static void setup(void)
{
    m = calloc(1, sizeof *m);
    m->g = &m->g0;
    for (int i = 0; i < 2; i++) {
        p[i] = aligned_alloc(CACHE_LINE, sizeof(P));
        memset((void *)p[i], 0, sizeof(P));
        timer_init(m, &p[i]->timers);
        sched.p[i] = p[i];
    }
    m->p = p[0];
    memset(model, 0, sizeof model);
    clock_now = 1;
    nfired = 0;
}

static void add(Model *x, int64_t when)
{
    x->t.head.fire = note;
    x->t.arg = x;
    x->due = when;
    OK(timer_add(m, &x->t.head, when) == 0);
}

/* The whole of a heap: order, places, the published first deadline and count. */
static void check_heap(P *q)
{
    Timers *ts = &q->timers;
    int64_t first = INT64_MAX;
    OK(ts->heap <= ts->n && ts->n <= ts->cap && get(&ts->count) == ts->n);
    for (uint32_t i = 0; i < ts->n; i++) {
        TimerEntry e = ts->e[i];
        OK(e.t->idx == i && get(&e.t->heap) == q && e.t->when == e.when);
        OK(e.when == container_of(e.t, Model, t.head)->due);
        if (i > 0 && i < ts->heap)
            OK(ts->e[(i - 1) / 4].when <= e.when);
        if (e.when < first)
            first = e.when;
    }
    OK(get(&ts->first) == first);
}

static uint32_t pending(void)
{
    uint32_t n = 0;
    for (int i = 0; i < N; i++)
        n += model[i].due != 0;
    return n;
}

/* Everything at random; half of all deadlines fall together. Go: TestAdjustTimers. */
START_TEST(random_walk)
{
    setup();
    for (int step = 0; step < 60000; step++) {
        Model *x = &model[rng_below(&rng, N)];
        m->p = p[rng_below(&rng, 2)];
        switch (rng_below(&rng, 8)) {
        case 0:
        case 1:
        case 2:
            if (x->due == 0)
                add(x, clock_now + rng_below(&rng, 2) * 1000 + rng_below(&rng, 500));
            break;
        case 3:
        case 4:
            OK(timer_del(m, &x->t.head) == (x->due != 0));
            x->due = 0;
            break;
        case 5:
            clock_now += rng_below(&rng, 20);
            for (int i = 0; i < 2; i++) {
                last_when = 0;
                int64_t next = timer_run(m, p[i], clock_now);
                OK(next > clock_now && next == get(&p[i]->timers.first));
            }
            for (int i = 0; i < N; i++)
                OK(model[i].due == 0 || model[i].due > clock_now);
            break;
        case 6:
            if (step % 50 == 0)
                timer_move(m, p[0], p[1]);
            break;
        default:
            break;
        }
        if (step % 16 == 0) {
            check_heap(p[0]);
            check_heap(p[1]);
            OK(p[0]->timers.n + p[1]->timers.n == pending());
        }
    }
    OK(nfired > 1000);
    OK(get(&p[0]->fired) + get(&p[1]->fired) == (uint64_t)nfired);
}
END_TEST

/* Equal, rising and falling deadlines come out in order, each once. */
START_TEST(order)
{
    for (int kind = 0; kind < 3; kind++) {
        setup();
        for (int i = 0; i < N; i++)
            add(&model[i], kind == 0 ? 500 : kind == 1 ? 10 + i : 10 + N - i);
        last_when = 0;
        clock_now = 2 * N;
        OK(timer_run(m, p[0], clock_now) == INT64_MAX);
        OK(nfired == N && p[0]->timers.n == 0);
    }
}
END_TEST

/* Peak use is not for ever. */
START_TEST(shrinks)
{
    setup();
    for (int i = 0; i < N; i++)
        add(&model[i], 1000 + i);
    uint32_t peak = p[0]->timers.cap;
    OK(peak >= N);
    for (int i = 0; i < N - 10; i++) {
        OK(timer_del(m, &model[i].t.head));
        model[i].due = 0;
        check_heap(p[0]);
    }
    OK(p[0]->timers.cap <= peak / 4); /* a page at least */
    timer_free(m, &p[0]->timers);
    for (int i = 0; i < N; i++)
        OK(get(&model[i].t.head.heap) == NULL); /* nobody will look for them there */
    OK(get(&p[0]->timers.first) == INT64_MAX && get(&p[0]->timers.count) == 0);
}
END_TEST

/* A heap of a P that goes away arrives whole. */
START_TEST(moves)
{
    setup();
    for (int i = 0; i < N; i++) {
        m->p = p[i % 3 == 0];
        add(&model[i], 10 + (i * 7919) % N);
    }
    timer_move(m, p[1], p[0]);
    check_heap(p[0]);
    OK(p[0]->timers.n == N && p[1]->timers.n == 0 && p[1]->timers.e == NULL);
    OK(get(&p[1]->timers.first) == INT64_MAX);
    for (int i = 0; i < N; i += 2) {
        OK(timer_del(m, &model[i].t.head)); /* found where it is now */
        model[i].due = 0;
    }
    last_when = 0;
    clock_now = 2 * N;
    timer_run(m, p[0], clock_now);
    OK(nfired == N / 2);
}
END_TEST

/* A function that arms its own timer again, for a time that has come already. */
static int again;
static void rearm(M *self, Timer *copy)
{
    Model *x = copy->arg;
    if (--again > 0)
        OK(timer_add(self, &x->t.head, clock_now) == 0);
}

START_TEST(rearms_itself)
{
    setup();
    again = 1000;
    Model *x = &model[0];
    x->t.head.fire = rearm;
    x->t.arg = x;
    OK(timer_add(m, &x->t.head, 5) == 0);
    clock_now = 10;
    OK(timer_run(m, p[0], clock_now) == INT64_MAX);
    OK(again == 0);
}
END_TEST

/* refs.h: who is last with the timer stops it; a firing, and the end of a run, keep its reference. */
static Refs refs;
static int freed;

static void drop_fired(M *self, Timer *copy)
{
    OK(self == m && copy->arg == &refs);
    freed += ref_drop(m, &refs, NULL);
}

static void drop_at_end(void *arg)
{
    OK(arg == &refs);
    freed += ref_drop(m, &refs, NULL);
}

static void users(Timer *t, uint32_t n)
{
    *t = (Timer){.head = {.fire = drop_fired}, .fn = drop_at_end, .arg = &refs};
    refs = n + 1;
    freed = 0;
    OK(timer_add(m, &t->head, 10) == 0);
}

START_TEST(references)
{
    Timer t;
    setup();
    users(&t, 2);
    OK(!ref_drop(m, &refs, &t.head) && get(&refs) == 2 && p[0]->timers.n == 1);
    OK(ref_drop(m, &refs, &t.head) && p[0]->timers.n == 0);

    users(&t, 1); /* fired first */
    timer_run(m, p[0], 10);
    OK(freed == 0 && ref_drop(m, &refs, &t.head));

    users(&t, 1); /* it is out of its heap: its reference is somebody's */
    OK(timer_del(m, &t.head) && !ref_drop(m, &refs, &t.head));
    drop_fired(m, &t);
    OK(freed == 1);

    users(&t, 1); /* the run ends */
    timer_free(m, &p[0]->timers);
    OK(freed == 0 && get(&t.head.heap) == NULL && ref_drop(m, &refs, &t.head));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("timer");
    TCase *tc = tcase_create("heap");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, random_walk);
    tcase_add_test(tc, order);
    tcase_add_test(tc, shrinks);
    tcase_add_test(tc, moves);
    tcase_add_test(tc, rearms_itself);
    tcase_add_test(tc, references);
    suite_add_tcase(s, tc);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
