/* SPDX-License-Identifier: MIT
 *
 * check_go_sync.c: of mutexes and conditions what Go's own tests ask for and check_sync.c, check_cond.c and
 * check_rwmutex.c do not; and that whatever blocks a coroutine can be seen. The Go test is named at each; GO-TESTS lists
 * all. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "behaviour.h"

static weft_mutex_t mx, taken;
static weft_rwmutex_t rw, read_only;
static weft_cond_t cond;
static weft_sem_t none;
static weft_wg_t wg, never;
static weft_chan_t *chan;

/* ---- Go: TestCondSignalStealing ------------------------------------------------------------------ */

static bool done; /* under mx */

static void first_waiter(void *arg)
{
    (void)arg;
    EQ(weft_mutex_lock(&mx), 0);
    EQ(weft_send(chan, NULL), 0);
    EQ(weft_cond_wait(&cond, &mx), 0);
    EQ(weft_mutex_unlock(&mx), 0);
    EQ(weft_send(chan, NULL), 0);
}

static void second_waiter(void *arg)
{
    (void)arg;
    EQ(weft_mutex_lock(&mx), 0);
    while (!done)
        EQ(weft_cond_wait(&cond, &mx), 0);
    EQ(weft_mutex_unlock(&mx), 0);
}

static void wake(void *all)
{
    EQ(all != NULL ? weft_cond_broadcast(&cond) : weft_cond_signal(&cond), 0);
}

/* Who waits when the other two begin must be woken, whoever of these is first. */
static void stealing_body(void)
{
    chan = weft_chan_make(0, 0);
    for (int i = 0; i < 300; i++) {
        done = false;
        EQ(weft_wg_go(&wg, first_waiter, NULL), 0);
        EQ(weft_recv(chan, NULL), 1);
        EQ(weft_mutex_lock(&mx), 0); /* it lets go of mx when it waits */
        EQ(weft_mutex_unlock(&mx), 0);
        EQ(weft_wg_go(&wg, wake, i % 2 == 0 ? &cond : NULL), 0);
        EQ(weft_wg_go(&wg, second_waiter, NULL), 0);
        EQ(weft_recv(chan, NULL), 1); /* else for ever */
        EQ(weft_mutex_lock(&mx), 0);
        done = true;
        EQ(weft_mutex_unlock(&mx), 0);
        EQ(weft_cond_broadcast(&cond), 0);
        EQ(weft_wg_wait(&wg), 0);
    }
    weft_chan_unref(chan);
}

/* ---- Go: TestMutexMisuse --------------------------------------------------------------------------- */

enum { UNLOCK = 1, LOCK, RUNLOCK, RLOCK, WUNLOCK, WLOCK };

/* The last call of each is the mistake. */
static const uint8_t MISUSES[][3] = {{UNLOCK},         {LOCK, UNLOCK, UNLOCK},    {WUNLOCK},
                                     {RLOCK, WUNLOCK}, {WLOCK, WUNLOCK, WUNLOCK}, {RUNLOCK},
                                     {WLOCK, RUNLOCK}, {RLOCK, RUNLOCK, RUNLOCK}};
enum { NMISUSES = sizeof MISUSES / sizeof MISUSES[0] };

static int misuse(void *arg)
{
    for (const uint8_t *op = arg, *end = op + 3; op < end; op++)
        switch (*op) {
        case UNLOCK:
            weft_mutex_unlock(&mx);
            break;
        case LOCK:
            weft_mutex_lock(&mx);
            break;
        case RUNLOCK:
            weft_rwmutex_runlock(&rw);
            break;
        case RLOCK:
            weft_rwmutex_rlock(&rw);
            break;
        case WUNLOCK:
            weft_rwmutex_unlock(&rw);
            break;
        case WLOCK:
            weft_rwmutex_lock(&rw);
            break;
        default:
            break;
        }
    return 0;
}

/* What a run that commits misuse number i says, to out; its status. */
static int run_misuse(int i, int procs, char *out, size_t size)
{
    int ends[2], status;
    EQ(pipe(ends), 0);
    pid_t child = fork();
    OK(child >= 0);
    if (child == 0) {
        uint8_t ops[3];
        memcpy(ops, MISUSES[i], sizeof ops);
        dup2(ends[1], 2);
        _exit(weft_run_with(&(weft_config_t){.procs = procs}, misuse, ops) & 127);
    }
    close(ends[1]);
    size_t len = 0;
    for (ssize_t n; len + 1 < size && (n = read(ends[0], out + len, size - 1 - len)) > 0;)
        len += (size_t)n;
    out[len] = '\0';
    close(ends[0]);
    EQ(waitpid(child, &status, 0), child);
    OK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(misuses)
{
    static char out[65536];
    int status = run_misuse(_i / NPROCS, PROCS[_i % NPROCS], out, sizeof out);
    EQ(status, 2);
    OK(strncmp(out, "weft: fatal: sync: ", 19) == 0);
    OK(strstr(out, " of unlocked ") != NULL);
}
END_TEST

/* ---- Go: TestBlockProfile ------------------------------------------------------------------------------ */

/* Go has a profile of what blocked and for how long. Here it is the dump that shows each of these, with its reason and
 * its stack, while it is blocked. */
static weft_id_t first_id;
static int ends[2];
static weft_chan_t *to_recv, *to_send, *to_select; /* they must not meet */

static void in_recv(void)
{
    weft_recv(to_recv, NULL);
}

static void in_send(void)
{
    weft_send(to_send, NULL);
}

static void in_nil_recv(void)
{
    weft_recv(NULL, NULL);
}

static void in_nil_send(void)
{
    weft_send(NULL, NULL);
}

static void in_select(void)
{
    weft_case_t c[] = {{.op = WEFT_RECV}, {.op = WEFT_SEND}};
    c[0].chan = c[1].chan = to_select;
    weft_select(c, 2, 0);
}

static void in_no_select(void)
{
    weft_select(NULL, 0, 0);
}

static void in_sleep(void)
{
    weft_sleep(3600 * SEC);
}

static void in_mutex(void)
{
    weft_mutex_lock(&taken);
}

static void in_rlock(void)
{
    weft_rwmutex_rlock(&rw);
}

static void in_lock(void)
{
    weft_rwmutex_lock(&read_only);
}

static void in_cond(void)
{
    weft_mutex_lock(&mx);
    weft_cond_wait(&cond, &mx);
}

static void in_sem(void)
{
    weft_sem_acquire(&none, 1);
}

static void in_wg(void)
{
    weft_wg_wait(&never);
}

static void in_join(void)
{
    weft_join(first_id, 0);
}

static void in_read(void)
{
    char c;
    weft_read(ends[0], &c, 1);
}

typedef struct {
    void (*fn)(void);
    const char *name, *reason;
} Blocked;

static const Blocked BLOCKED[] = {
    {in_recv, "recv", "chan receive"},
    {in_send, "send", "chan send"},
    {in_nil_recv, "nil recv", "chan receive (nil chan)"},
    {in_nil_send, "nil send", "chan send (nil chan)"},
    {in_select, "select", "select"},
    {in_no_select, "no select", "select (no cases)"},
    {in_sleep, "sleep", "sleep"},
    {in_mutex, "mutex", "sync.Mutex.Lock"},
    {in_rlock, "rlock", "sync.RWMutex.RLock"},
    {in_lock, "lock", "sync.RWMutex.Lock"},
    {in_cond, "cond", "sync.Cond.Wait"},
    {in_sem, "sem", "semaphore acquire"},
    {in_wg, "wg", "sync.WaitGroup.Wait"},
    {in_join, "join", "join"},
    {in_read, "read", "IO wait"},
};
enum { NBLOCKED = sizeof BLOCKED / sizeof BLOCKED[0] };

static void block(void *arg)
{
    const Blocked *b = arg;
    b->fn();
    ck_abort_msg("%s has come back", b->name);
}

static char dump[1 << 17];

static void take_dump(void)
{
    FILE *f = tmpfile();
    OK(f != NULL);
    EQ(weft_dump(fileno(f)), 0);
    rewind(f);
    dump[fread(dump, 1, sizeof dump - 1, f)] = '\0';
    fclose(f);
}

/* Its entry in the dump, up to the next one; NULL: it is not there, or blocked in another way. */
static const char *entry_of(const Blocked *b, size_t *len)
{
    char head[100];
    size_t n = (size_t)snprintf(head, sizeof head, "\"%s\" [%s", b->name, b->reason);
    const char *p = strstr(dump, head);
    if (p == NULL || (p[n] != ']' && p[n] != ',')) /* for how long follows, after a second */
        return NULL;
    const char *end = strstr(p, "\ncoroutine ");
    *len = end != NULL ? (size_t)(end - p) : strlen(p);
    return p;
}

static void blocked_body(void)
{
    int64_t late = weft_now() + 20 * SEC;
    size_t len;
    EQ(pipe(ends), 0);
    to_recv = weft_chan_make(0, 0);
    to_send = weft_chan_make(0, 0);
    to_select = weft_chan_make(0, 0);
    EQ(weft_mutex_lock(&taken), 0);
    EQ(weft_rwmutex_lock(&rw), 0);
    EQ(weft_rwmutex_rlock(&read_only), 0);
    EQ(weft_wg_add(&never, 1), 0);
    for (int i = 0; i < NBLOCKED; i++) {
        weft_attr_t attr = {.name = BLOCKED[i].name, .id = i == 0 ? &first_id : NULL};
        EQ(weft_go_with(&attr, block, (void *)(uintptr_t)&BLOCKED[i]), 0);
        for (;;) {
            take_dump();
            if (entry_of(&BLOCKED[i], &len) != NULL)
                break;
            if (weft_now() > late)
                ck_abort_msg("%s [%s] is not there", BLOCKED[i].name, BLOCKED[i].reason);
            weft_sleep(MS);
        }
    }
    for (int i = 0; i < NBLOCKED; i++) { /* they all are still there, each with a stack */
        const char *p = entry_of(&BLOCKED[i], &len);
        OK(p != NULL);
        OK(memmem(p, len, "  #0 ", 5) != NULL);
        OK(memmem(p, len, "created at ", 11) != NULL);
#ifdef HAVE_LIBUNWIND /* the caller's static functions have names */
        OK(memmem(p, len, "block+", 6) != NULL);
#endif
    }
}

/* ---- all ------------------------------------------------------------------------------------------------ */

START_TEST(stealing)
{
    run(_i, stealing_body);
}
END_TEST

START_TEST(blocked)
{
    run(_i, blocked_body);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("go sync");
    TCase *tc = tcase_create("go sync");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, stealing, 0, NPROCS);
    tcase_add_loop_test(tc, misuses, 0, NMISUSES * NPROCS);
    tcase_add_loop_test(tc, blocked, 0, NPROCS);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
