/* SPDX-License-Identifier: MIT
 *
 * check_stats.c: weft_stats() under load and at rest, its text for Prometheus, WEFT_DEBUG=schedtrace. */
#include "config.h"

#include <weft.h>

#include "tests/behaviour/behaviour.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the text, taken apart ------------------------------------------------------ */

enum { METRICS = 128, FIELDS = sizeof(weft_stats_t) / sizeof(uint64_t) };

typedef struct {
    char name[80];
    bool counter;
    double value;
} Sample;

typedef struct {
    int n;
    Sample s[METRICS];
} Parsed;

/* [a-zA-Z_:][a-zA-Z0-9_:]* up to a space; what follows it. */
static const char *metric_name(const char *p, char *to, size_t size)
{
    size_t n = 0;
    OK(isalpha((unsigned char)*p) || *p == '_' || *p == ':');
    for (; isalnum((unsigned char)*p) || *p == '_' || *p == ':'; p++, n++) {
        OK(n + 1 < size);
        to[n] = *p;
    }
    to[n] = '\0';
    EQ(*p, ' ');
    return p + 1;
}

static void parse_line(const char *line, size_t len, Parsed *to, int *part)
{
    char text[400], name[80], *end;
    OK(len > 0 && len < sizeof text);
    memcpy(text, line, len);
    text[len] = '\0';
    Sample *s = &to->s[to->n];
    switch (*part) {
    case 0:
        EQ(strncmp(text, "# HELP ", 7), 0);
        const char *help = metric_name(text + 7, s->name, sizeof s->name);
        OK(strlen(help) > 5 && strchr(help, '\\') == NULL);
        break;
    case 1:
        EQ(strncmp(text, "# TYPE ", 7), 0);
        const char *type = metric_name(text + 7, name, sizeof name);
        ck_assert_str_eq(name, s->name);
        s->counter = strcmp(type, "counter") == 0;
        OK(s->counter || strcmp(type, "gauge") == 0);
        break;
    default:
        if (*metric_name(text, name, sizeof name) == '-')
            ck_abort_msg("negative: %s", text);
        ck_assert_str_eq(name, s->name);
        s->value = strtod(strchr(text, ' ') + 1, &end);
        OK(*end == '\0');
        to->n++;
    }
    *part = (*part + 1) % 3;
}

static void parse(const char *text, Parsed *to)
{
    int part = 0;
    to->n = 0;
    while (*text != '\0') {
        const char *end = strchr(text, '\n');
        OK(end != NULL && to->n < METRICS);
        parse_line(text, (size_t)(end - text), to, &part);
        text = end + 1;
    }
    EQ(part, 0);
}

static void take(Parsed *to)
{
    enum { ROOM = 16384 };
    char *buf = malloc(ROOM);
    int n = weft_stats_text(buf, ROOM);
    OK(n > 0 && n < ROOM);
    EQ(strlen(buf), n);
    parse(buf, to);
    free(buf);
}

static double value(const Parsed *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->s[i].name, name) == 0)
            return p->s[i].value;
    ck_abort_msg("no metric %s", name);
}

/* ---- at rest ------------------------------------------------------------------------ */

static weft_chan_t *gate;

static void waiter(void *arg)
{
    (void)arg;
    weft_recv(gate, NULL);
}

static bool parked(uint64_t coroutines)
{
    weft_stats_t s;
    EQ(weft_stats(&s), 0);
    return s.coroutines == coroutines && s.runnable == 0 && s.spawned + 1 >= coroutines;
}

static void wait_until_parked(uint64_t n)
{
    while (!parked(n))
        weft_sleep(MS);
    weft_sleep(20 * MS); /* who was being switched to has parked */
}

/* What the text says is what weft_stats() says. */
static void body_text(void)
{
    static Parsed p;
    weft_stats_t a, b;
    gate = weft_chan_make(0, 0);
    for (int i = 0; i < 100; i++)
        go(waiter, NULL);
    wait_until_parked(101);
    EQ(weft_stats(&a), 0);
    take(&p);
    EQ(weft_stats(&b), 0);
    EQ(value(&p, "weft_coroutines"), 101);
    EQ(value(&p, "weft_spawned_total"), 101);
    EQ(value(&p, "weft_exited_total"), 0);
    EQ(value(&p, "weft_procs"), a.procs);
    OK(value(&p, "weft_switches_total") >= (double)a.switches);
    OK(value(&p, "weft_switches_total") <= (double)b.switches);
    OK(value(&p, "weft_stack_private_bytes") > 0);
    OK(value(&p, "weft_uptime_seconds") >= (double)a.uptime / 1e9 - 1e-6);
    OK(value(&p, "weft_uptime_seconds") <= (double)b.uptime / 1e9 + 1e-6);
    for (int i = 0; i < p.n; i++) {
        const char *total = strstr(p.s[i].name, "_total");
        EQ(strncmp(p.s[i].name, "weft_", 5), 0);
        EQ(p.s[i].counter, total != NULL && total[6] == '\0');
        for (int j = 0; j < i; j++)
            OK(strcmp(p.s[i].name, p.s[j].name) != 0);
    }
    /* Every field that is not reserved has its metric. */
    EQ(p.n, FIELDS - sizeof a.reserved / sizeof a.reserved[0] - WEFT_LATENCIES);
    weft_chan_close(gate);
    wait_until_parked(1);
    weft_chan_unref(gate);
}

/* WEFT_DEBUG=latencies: buckets that add up, with bounds that rise. */
static void body_latencies(void)
{
    static char all[32768];
    static const char *const bucket = "weft_latency_seconds_bucket{le=\"";
    uint64_t n = 0, last = 0;
    double bound = -1;
    int buckets = 0;
    gate = weft_chan_make(0, 0);
    for (int i = 0; i < 100; i++)
        go(waiter, NULL);
    for (int i = 0; i < 10000; i++)
        weft_yield();
    weft_chan_close(gate);
    wait_until_parked(1);
    OK(weft_stats_text(all, sizeof all) < (int)sizeof all);
    const char *p = strstr(all, "# TYPE weft_latency_seconds histogram\n");
    OK(p != NULL);
    for (; (p = strstr(p, bucket)) != NULL; buckets++) {
        char *end;
        double le = strtod(p + strlen(bucket), &end); /* "+Inf" too */
        OK(le > bound);
        EQ(strncmp(end, "\"} ", 3), 0);
        n = strtoull(end + 3, NULL, 10);
        OK(n >= last);
        bound = le;
        last = n;
        p = end;
    }
    EQ(buckets, WEFT_LATENCIES);
    OK(n > 0);
    p = strstr(all, "weft_latency_seconds_count ");
    OK(p != NULL);
    EQ(strtoull(p + 27, NULL, 10), n);
    weft_chan_unref(gate);
}

/* As snprintf(): never beyond size, a NUL at the end, the length that would be needed. */
static void body_sizes(void)
{
    static char all[16384], some[16384];
    int n = weft_stats_text(all, sizeof all);
    OK(n > 1000 && n < (int)sizeof all);
    EQ(weft_stats_text(NULL, 0), n); /* seconds of one digit: this is not about long runs */
    for (size_t size = 1; size <= (size_t)n + 2; size += size < 200 ? 1 : 97) {
        memset(some, 'x', sizeof some);
        EQ(weft_stats_text(some, size), n);
        size_t len = size <= (size_t)n ? size - 1 : (size_t)n;
        EQ(some[len], '\0');
        EQ(strlen(some), len);
        for (size_t i = len + 1; i < len + 100; i++)
            EQ(some[i], 'x');
        EQ(memcmp(some, all, len < 200 ? len : 200), 0);
    }
    some[0] = 'x';
    EQ(weft_stats_text(some, 0), n);
    EQ(some[0], 'x');
    EQ(weft_stats_text(NULL, 10), -EINVAL);
    EQ(weft_stats(NULL), -EINVAL);
}

/* ---- under load ----------------------------------------------------------------------- */

static _Atomic bool stop;

static void child(void *arg)
{
    weft_wg_done(arg);
}

/* Come and go on all Ps: what is counted on one is uncounted on another. */
static void churn(void *arg)
{
    weft_wg_t *all = arg;
    while (!stop) {
        weft_wg_t *wg = calloc(1, sizeof *wg);
        EQ(weft_wg_add(wg, 20), 0);
        for (int i = 0; i < 20; i++)
            go(child, wg);
        EQ(weft_wg_wait(wg), 0);
        free(wg);
    }
    weft_wg_done(all);
}

static void not_smaller(const Parsed *now, const Parsed *before)
{
    EQ(now->n, before->n);
    for (int i = 0; i < now->n; i++)
        if (now->s[i].counter && now->s[i].value < before->s[i].value)
            ck_abort_msg("%s: %.0f after %.0f", now->s[i].name, now->s[i].value,
                         before->s[i].value);
}

/* Nothing is the wrap-around of something negative. */
static void sane(void)
{
    union {
        weft_stats_t s;
        uint64_t field[FIELDS];
    } u;
    EQ(weft_stats(&u.s), 0);
    for (int i = 0; i < FIELDS; i++)
        OK(u.field[i] < UINT64_C(1) << 62);
    OK(u.s.procs_idle <= u.s.procs);
    OK(u.s.coroutines <= 100000);
    OK(u.s.threads_idle <= u.s.threads);
}

static void watch(int rounds)
{
    Parsed *p = calloc(2, sizeof *p);
    take(&p[0]);
    for (int i = 1; i < rounds; i++) {
        take(&p[i % 2]);
        not_smaller(&p[i % 2], &p[(i + 1) % 2]);
        sane();
    }
    free(p);
}

static void *watch_foreign(void *arg)
{
    (void)arg;
    watch(300);
    return NULL;
}

static void body_load(void)
{
    pthread_t thread;
    weft_wg_t *all = calloc(1, sizeof *all);
    stop = false;
    EQ(weft_wg_add(all, 8), 0);
    for (int i = 0; i < 8; i++)
        go(churn, all);
    EQ(pthread_create(&thread, NULL, watch_foreign, NULL), 0);
    watch(300);
    stop = true;
    EQ(weft_wg_wait(all), 0);
    EQ(pthread_join(thread, NULL), 0);
    free(all);
    wait_until_parked(1);
    weft_stats_t s;
    EQ(weft_stats(&s), 0);
    EQ(s.spawned, s.exited + 1); /* at rest, exact */
    EQ(s.stack_copied_bytes, 0);
}

/* ---- what threads do --------------------------------------------------------------------- */

static int ends[2];

static void reader(void *arg)
{
    char c;
    (void)arg;
    weft_read(ends[0], &c, 1);
}

static void pinned(void *arg)
{
    (void)arg;
    weft_thread_lock();
    weft_recv(gate, NULL);
    weft_thread_unlock();
}

static void until(bool (*holds)(const weft_stats_t *s))
{
    weft_stats_t s;
    for (;;) { /* the test's time limit is the bound */
        EQ(weft_stats(&s), 0);
        if (holds(&s))
            return;
        weft_sleep(MS);
    }
}

static bool three_wait(const weft_stats_t *s)
{
    return s->fd_waiters == 3;
}

static bool two_held(const weft_stats_t *s)
{
    return s->threads_held == 2;
}

static bool one_blocked(const weft_stats_t *s)
{
    return s->threads_blocked == 1 && s->retaken_undeclared >= 1;
}

static bool none_held(const weft_stats_t *s)
{
    return s->threads_held == 0;
}

static bool some_idle(const weft_stats_t *s)
{
    return s->procs == 1 || s->procs_idle >= 1;
}

static bool hogs_queued(const weft_stats_t *s)
{
    return s->runnable >= 1 && s->preempt_handed > 0;
}

static void sleeper(void *arg)
{
    (void)arg;
    usleep(400000); /* undeclared; its P is taken, as others want it */
}

static void hog(void *arg)
{
    (void)arg;
    while (!stop)
        for (volatile int i = 0; i < 100000; i++)
            ;
}

#ifdef WEFT_TSAN
static const bool hogs_give_way = false; /* nobody is interrupted there */
#else
static const bool hogs_give_way = true;
#endif

static void body_threads(void)
{
    gate = weft_chan_make(0, 0);
    EQ(pipe(ends), 0);
    for (int i = 0; i < 3; i++)
        go(reader, NULL);
    until(three_wait);
    for (int i = 0; i < 3; i++)
        EQ(weft_write(ends[1], "x", 1), 1);
    for (int i = 0; i < 2; i++)
        go(pinned, NULL);
    until(two_held);
    until(some_idle);
    weft_chan_close(gate);
    until(none_held);
    stop = false;
    for (int i = 0; hogs_give_way && i < weft_procs(0) + 1; i++)
        go(hog, NULL);
    if (hogs_give_way) {
        until(hogs_queued);
        go(sleeper, NULL);
        until(one_blocked);
    }
    stop = true;
    weft_close(ends[0]);
    weft_close(ends[1]);
    wait_until_parked(1);
    weft_chan_unref(gate);
}

static void (*const bodies[])(void) = {body_text, body_sizes, body_load, body_threads};
enum { NBODIES = sizeof bodies / sizeof bodies[0] };

START_TEST(test_latencies)
{
    setenv("WEFT_DEBUG", "latencies", 1); /* each test is a process */
    run(_i, body_latencies);
}
END_TEST

START_TEST(test_each)
{
    run(_i % NPROCS, bodies[_i / NPROCS]);
}
END_TEST

START_TEST(test_outside)
{
    char c = 'x';
    weft_stats_t s;
    EQ(weft_stats_text(&c, 1), -EPERM);
    EQ(c, 'x');
    EQ(weft_stats(&s), -EPERM);
}
END_TEST

/* ---- WEFT_DEBUG=schedtrace ------------------------------------------------------------------ */

/* What a run writes to standard error. */
static char *traced(const char *setting, int procs, void (*body)(void))
{
    static char text[1 << 20];
    FILE *f = tmpfile();
    int saved = dup(2);
    weft_config_t cfg = {.procs = procs, .stack = test_stack()};
    setenv("WEFT_DEBUG", setting, 1);
    dup2(fileno(f), 2);
    int rc = weft_run_with(&cfg, run_entry, &body);
    dup2(saved, 2);
    close(saved);
    EQ(rc, 7);
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

typedef struct {
    unsigned long ms, procs, idle, threads, spinning, need, idle_threads, queued, in_rings;
} Line;

/* Each line is one of ours. The next, or NULL. */
static char *trace_line(char *text, Line *l)
{
    static const char pattern[] =
        "^SCHED [0-9]+ms: gomaxprocs=[0-9]+ idleprocs=[0-9]+ threads=[0-9]+ "
        "spinningthreads=[0-9]+ needspinning=[01] idlethreads=[0-9]+ runqueue=[0-9]+ "
        "\\[[0-9]+( [0-9]+)*\\]$";
    regex_t re;
    char *end = strchr(text, '\n'), *p;
    OK(end != NULL);
    *end = '\0';
    EQ(regcomp(&re, pattern, REG_EXTENDED), 0);
    if (regexec(&re, text, 0, NULL, 0) != 0)
        ck_abort_msg("no such line: %s", text);
    regfree(&re);
    EQ(sscanf(text,
              "SCHED %lums: gomaxprocs=%lu idleprocs=%lu threads=%lu spinningthreads=%lu "
              "needspinning=%lu idlethreads=%lu runqueue=%lu [",
              &l->ms, &l->procs, &l->idle, &l->threads, &l->spinning, &l->need, &l->idle_threads,
              &l->queued),
       8);
    unsigned long rings = 0;
    l->in_rings = 0;
    for (p = strchr(text, '['); *p != ']'; rings++)
        l->in_rings += strtoul(p + 1, &p, 10);
    EQ(rings, l->procs);
    return end[1] != '\0' ? end + 1 : NULL;
}

/* 3 parked, 2 hogs, main sleeps. */
static void trace_load(void)
{
    gate = weft_chan_make(0, 0);
    for (int i = 0; i < 3; i++)
        go(waiter, NULL);
    stop = false;
    for (int i = 0; i < 2; i++)
        go(hog, NULL);
    weft_sleep(800 * MS);
    stop = true;
}

START_TEST(test_trace_load)
{
    int procs = PROCS[_i], n = 0, right = 0;
    unsigned long before = 0;
    if (!hogs_give_way)
        return;
    char *text = traced("schedtrace=50", procs, trace_load);
    while (text != NULL) {
        Line l;
        text = trace_line(text, &l);
        EQ(l.procs, procs);
        OK(l.idle <= l.procs && l.threads >= 2);
        OK(n == 0 || l.ms >= before + 1);
        before = l.ms;
        n++;
        /* Of 2 hogs what does not run is queued; who parks counts nowhere. */
        right += l.idle == (procs == 4 ? 2 : 0) && l.queued + l.in_rings == (procs == 1 ? 1 : 0);
    }
    OK(n >= 3 && n <= 60);
    OK(right >= 2); /* others: a wake-up of main's, threads that are being started */
}
END_TEST

static void trace_idle(void)
{
    weft_sleep(400 * MS);
}

/* Lines come while all sleep, and only if they were asked for. */
START_TEST(test_trace_idle)
{
    int n = 0, idle = 0;
    char *text = traced("schedtrace=50", PROCS[_i], trace_idle);
    while (text != NULL) {
        Line l;
        text = trace_line(text, &l);
        n++;
        idle += l.idle == l.procs && l.queued + l.in_rings == 0;
    }
    OK(n >= 3 && idle >= n / 2);
    ck_assert_str_eq(traced("schedtrace=0", PROCS[_i], trace_idle), "");
}
END_TEST

/* Nobody reads standard error: the monitor is not blocked, so hogs still take turns. */
START_TEST(test_trace_unread)
{
    int fds[2], saved = dup(2);
    void (*body)(void) = trace_load;
    weft_config_t cfg = {.procs = PROCS[_i], .stack = test_stack()};
    char full[4096] = {0};
    if (!hogs_give_way)
        return;
    EQ(pipe(fds), 0);
    EQ(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    while (write(fds[1], full, sizeof full) > 0)
        ;
    EQ(fcntl(fds[1], F_SETFL, 0), 0);
    setenv("WEFT_DEBUG", "schedtrace=20", 1);
    dup2(fds[1], 2);
    int rc = weft_run_with(&cfg, run_entry, &body);
    dup2(saved, 2);
    EQ(rc, 7);
    close(fds[0]);
    close(fds[1]);
    close(saved);
}
END_TEST

/* ---- the monitor sleeps ------------------------------------------------------------------- */

/* Times that the monitor gave up its CPU; -1: no such thread. */
static long monitor_sleeps(void)
{
    char path[64], line[256], name[32];
    for (int tid = getpid() + 1; tid < getpid() + 2000; tid++) {
        long n = -1;
        snprintf(path, sizeof path, "/proc/self/task/%d/status", tid);
        FILE *f = fopen(path, "re");
        if (f == NULL)
            continue;
        bool is = fgets(line, sizeof line, f) != NULL && sscanf(line, "Name: %31s", name) == 1 &&
                  strcmp(name, "weft-monitor") == 0;
        while (is && fgets(line, sizeof line, f) != NULL)
            (void)sscanf(line, "voluntary_ctxt_switches: %ld", &n);
        fclose(f);
        if (is)
            return n;
    }
    return -1;
}

static long sleeps; /* within a second in which nothing runs */

static void idle_second(void)
{
    weft_sleep(300 * MS);
    long before = monitor_sleeps();
    weft_sleep(SEC);
    sleeps = monitor_sleeps() - before;
    OK(before >= 0);
}

START_TEST(test_monitor_sleeps)
{
    (void)traced("", PROCS[_i], idle_second);
    OK(sleeps <= 12); /* it woke with main before, and naps some milliseconds around that */
    (void)traced("top=10", PROCS[_i], idle_second);
    OK(sleeps > 20);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stats");
    TCase *tc = tcase_create("stats");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_each, 0, NBODIES * NPROCS);
    tcase_add_loop_test(tc, test_latencies, 0, NPROCS);
    tcase_add_test(tc, test_outside);
    tcase_add_loop_test(tc, test_trace_load, 0, NPROCS);
    tcase_add_loop_test(tc, test_trace_idle, 0, NPROCS);
    tcase_add_loop_test(tc, test_trace_unread, 0, NPROCS - 1);
    tcase_add_loop_test(tc, test_monitor_sleeps, 1, 2);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
