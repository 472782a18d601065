/* SPDX-License-Identifier: MIT
 *
 * check_trace.c: traces, and the histogram of waits in run queues. */
#include "behaviour.h"

#include <weft.h>

#include <pthread.h>
#include <unistd.h>

#include "tests/trace_test.h"

static char path[64];
static TraceFile file;
static weft_wg_t wg;
static weft_chan_t *chan;

static void load(void)
{
    const char *wrong = trace_load(&file, path);
    if (wrong != NULL)
        ck_abort_msg("%s: %s", path, wrong);
}

static void unload(void)
{
    free(file.x);
    unlink(path);
}

/* ---- errors ---- */

static void body_errors(void)
{
    EQ(weft_trace_stop(), -EINVAL);
    EQ(weft_trace_start(NULL), -EINVAL);
    EQ(weft_trace_start("/nonexistent/trace"), -ENOENT);
    EQ(weft_trace_start("/"), -EISDIR);
    EQ(weft_trace_stop(), -EINVAL);
    EQ(weft_trace_start(path), 0);
    EQ(weft_trace_start(path), -EBUSY);
    EQ(weft_trace_stop(), 0);
    EQ(weft_trace_stop(), -EINVAL);
    load();
    EQ(file.lost, 0);
    unload();
    if (access("/dev/full", W_OK) == 0) {
        EQ(weft_trace_start("/dev/full"), 0);
        weft_sleep(MS);
        EQ(weft_trace_stop(), -ENOSPC);
    }
}

/* ---- what happens is there ---- */

enum { WORKERS = 8, ROUNDS = 50 };
static weft_id_t ids[WORKERS];

static void worker(void *arg)
{
    uint64_t v = (uintptr_t)arg;
    ids[v] = weft_id();
    for (int i = 0; i < ROUNDS; i++) {
        EQ(weft_send(chan, &v), 0);
        EQ(weft_recv(chan, &v), 1);
        weft_yield();
    }
    weft_sleep(MS);
    weft_wg_done(&wg);
}

static void start_workers(const char *name)
{
    weft_attr_t attr = {.name = name, .stack = test_stack()};
    chan = weft_chan_make(8, WORKERS);
    EQ(weft_wg_add(&wg, WORKERS), 0);
    for (uintptr_t i = 0; i < WORKERS; i++)
        EQ(weft_go_with(&attr, worker, (void *)i), 0);
}

static bool has_name(uint64_t id, const char *name)
{
    char text[64] = "";
    for (size_t i = 0; i < file.n; i++)
        if (file.x[i].kind == TRACE_NAME && file.x[i].id == id && file.x[i].detail < 4)
            memcpy(text + file.x[i].detail * TRACE_TEXT, trace_text(&file.x[i]), TRACE_TEXT);
    return strcmp(text, name) == 0;
}

static size_t count_starts(uint64_t id)
{
    size_t n = trace_count(&file, TRACE_RESUME, id);
    for (size_t i = 0; i < file.n; i++)
        n += file.x[i].kind == TRACE_SWITCH && file.x[i].arg == id;
    return n;
}

static size_t count_exits(uint64_t id)
{
    size_t n = 0;
    for (size_t i = 0; i < file.n; i++)
        n +=
            file.x[i].kind == TRACE_SWITCH && file.x[i].id == id && file.x[i].detail == TRACE_EXITS;
    return n;
}

static void body_life(void)
{
    EQ(weft_trace_start(path), 0);
    start_workers("a worker whose name is long");
    EQ(weft_wg_wait(&wg), 0);
    EQ(weft_trace_stop(), 0);
    weft_chan_unref(chan);
    load();
    EQ(file.lost, 0);
    for (int i = 0; i < WORKERS; i++) {
        EQ(trace_count(&file, TRACE_SPAWN, ids[i]), 1);
        OK(has_name(ids[i], "a worker whose name is long"));
        OK(count_starts(ids[i]) >= 2); /* a sleep at least */
        OK(trace_count(&file, TRACE_READY, ids[i]) >= 1);
        OK(count_exits(ids[i]) <= 1); /* the last may end after the trace */
        const char *wrong = trace_check(&file, ids[i]);
        if (wrong != NULL)
            ck_abort_msg("coroutine %llu %s", (unsigned long long)ids[i], wrong);
    }
    OK(trace_count(&file, TRACE_SYMBOL, 0) >= 1);
    unload();
}

/* ---- who was there when it began ---- */

static void waits(void *arg)
{
    ids[0] = weft_id();
    EQ(weft_recv(chan, NULL), 0);
    weft_set_name("renamed");
    weft_wg_done(arg);
}

static void body_present(void)
{
    weft_attr_t attr = {.name = "was there", .stack = test_stack()};
    chan = weft_chan_make(0, 0);
    EQ(weft_wg_add(&wg, 1), 0);
    EQ(weft_go_with(&attr, waits, &wg), 0);
    weft_sleep(20 * MS);
    EQ(weft_trace_start(path), 0);
    EQ(weft_trace_stop(), 0);
    load();
    EQ(trace_count(&file, TRACE_EXISTS, 1), 1);
    EQ(trace_count(&file, TRACE_EXISTS, ids[0]), 1);
    OK(has_name(ids[0], "was there"));
    unload();
    EQ(weft_trace_start(path), 0);
    EQ(weft_chan_close(chan), 0);
    EQ(weft_wg_wait(&wg), 0);
    EQ(weft_trace_stop(), 0);
    weft_chan_unref(chan);
    load();
    OK(has_name(ids[0], "renamed"));
    OK(count_starts(ids[0]) >= 1);
    unload();
}

/* ---- the run ends first; threads that are not weft's ---- */

static void *sends(void *arg)
{
    for (int i = 0; i < 1000; i++)
        EQ(weft_send(arg, NULL), 0);
    return NULL;
}

static void body_end(void)
{
    pthread_t th;
    chan = weft_chan_make(0, 0);
    EQ(weft_trace_start(path), 0);
    EQ(pthread_create(&th, NULL, sends, chan), 0);
    for (int i = 0; i < 1000; i++)
        EQ(weft_recv(chan, NULL), 1);
    pthread_join(th, NULL);
}

START_TEST(test_end)
{
    run(_i, body_end);
    load();
    EQ(file.lost, 0);
    OK(count_starts(1) >= 1);
    EQ(count_exits(1), 1);
    OK(trace_check(&file, 1) == NULL);
    unload();
    weft_chan_unref(chan);
    EQ(weft_trace_start(path), -EPERM);
    EQ(weft_trace_stop(), -EPERM);
}
END_TEST

static void body_traced(void)
{
    EQ(weft_trace_start("/dev/null"), -EBUSY);
    start_workers("");
    EQ(weft_wg_wait(&wg), 0);
    weft_chan_unref(chan);
}

START_TEST(test_by_environment)
{
    char debug[128];
    const char *was = getenv("WEFT_DEBUG");
    snprintf(debug, sizeof debug, "trace=%s%s%s", path, was != NULL ? "," : "",
             was != NULL ? was : "");
    setenv("WEFT_DEBUG", debug, 1);
    run(_i, body_traced);
    load();
    EQ(trace_count(&file, TRACE_SPAWN, 1), 1);
    EQ(count_exits(1), 1);
    EQ(trace_count(&file, TRACE_SPAWN, ids[0]), 1);
    unload();
}
END_TEST

/* ---- the histogram ---- */

static uint64_t samples(void)
{
    weft_stats_t s;
    uint64_t n = 0;
    EQ(weft_stats(&s), 0);
    for (int i = 0; i < WEFT_LATENCIES; i++)
        n += s.latency[i];
    return n;
}

static void body_silent(void)
{
    start_workers("");
    EQ(weft_wg_wait(&wg), 0);
    weft_chan_unref(chan);
    EQ(samples(), 0);
    EQ(weft_trace_start("/dev/null"), 0);
    start_workers("");
    EQ(weft_wg_wait(&wg), 0);
    weft_chan_unref(chan);
    OK(samples() >= WORKERS * 2);
    EQ(weft_trace_stop(), 0);
}

static void body_latencies(void)
{
    start_workers("");
    EQ(weft_wg_wait(&wg), 0);
    weft_chan_unref(chan);
    uint64_t n = samples();
    weft_stats_t s;
    EQ(weft_stats(&s), 0);
    OK(n >= 1);
    OK(n <= s.switches);
}

START_TEST(test_latencies)
{
    setenv("WEFT_DEBUG", "latencies", 1);
    run(_i, body_latencies);
}
END_TEST

START_TEST(test_buckets)
{
    EQ(WEFT_LATENCY_FROM(0), 0);
    EQ(WEFT_LATENCY_FROM(1), 128);
    EQ(WEFT_LATENCY_FROM(2), 192);
    EQ(WEFT_LATENCY_FROM(3), 256);
    for (int i = 1; i < WEFT_LATENCIES; i++)
        OK(WEFT_LATENCY_FROM(i) > WEFT_LATENCY_FROM(i - 1));
}
END_TEST

START_TEST(test_bodies)
{
    static void (*const bodies[])(void) = {body_errors, body_life, body_present, body_silent};
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

int main(void)
{
    snprintf(path, sizeof path, "/tmp/weft-check-trace-%d", (int)getpid());
    Suite *s = suite_create("trace");
    TCase *tc = tcase_create("trace");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_bodies, 0, 4 * NPROCS);
    tcase_add_loop_test(tc, test_end, 0, NPROCS);
    tcase_add_loop_test(tc, test_by_environment, 0, NPROCS);
    tcase_add_loop_test(tc, test_latencies, 0, NPROCS);
    tcase_add_test(tc, test_buckets);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
