/* SPDX-License-Identifier: MIT
 *
 * select_fd.c: cases of a select that are descriptors.
 *
 * Ideas. A descriptor is asked by poll(2), without any lock, all of a select's in one call; what it
 * said is noted in the result of each case's Wait, and select_all() chooses among these and the
 * channels. If nothing is ready it locks the records as well, queues a Wait on each beside those on
 * the channels, and parks: a waiter of a descriptor's direction like one in weft_read(), but one
 * that a waker must win (netpoll.c).
 *
 * An edge wakes everybody who waits for it, and says that it is worth trying. So who was woken by a
 * descriptor, whatever for, begins again (SELECT_AGAIN): it asks all of them anew, and finds out
 * what has happened: something to read, an end, a deadline that has passed (`expired`), a close
 * (fd_begin() fails), or nothing, because another was faster, and then it waits on.
 *
 * No wake-up is lost. Asking clears FD_IN before poll(2) looks (fd_begin), and sets it again if
 * there is something. So if FD_IN is clear when the Wait is queued, by the read-modify-write that
 * also says that somebody waits, then nothing has come since poll(2) looked, or its edge is still
 * to be reported, and finds the Wait. If it is set, or the descriptor was closed, or its deadline
 * has passed, it begins again. All records are locked from the first Wait's queueing to the park's
 * commit: a waker finds either none of them, or all and their owner off its stack. What lost stays
 * as it is: an edge has set FD_IN, and a later wait finds it set.
 *   A descriptor is given to the poller (a system call) before any lock is held, in the first
 * round that has to wait for it.
 *
 * The statement of weft_try_select(), that nothing is ready, is exact for the channels, at one
 * moment; the descriptors were asked a little before.
 *
 * The Wait of such a case keeps, also while it is not queued: elem, the record (NULL: no
 * descriptor that can be waited for, and result says why); gen, its generation when select was
 * called, so that another file with the number is never taken for it; dirs; result. on is NULL, as
 * no channel is referred to. It leaves the queue at the latest when the run ends: netpoll_fini()
 * empties all of them before Gs are freed.
 *
 * Locks: none while asking; RANK_FD by address, after the channels, from join to the commit.
 */
#include "io.h"
#include "select.h"

enum { BATCH = 64 };

static FDRef ref_of(const Wait *w)
{
    FD *r = w->elem;
    return (FDRef){.r = r, .fd = r->fd, .gen = w->gen};
}

/* ---- asking ------------------------------------------------------------------------ */

static bool ops_known(const weft_case_t *cases, int n)
{
    for (int i = 0; i < n; i++) {
        int op = cases[i].op;
        if (op != WEFT_RECV && op != WEFT_SEND && op != WEFT_FD_IN && op != WEFT_FD_OUT)
            return false;
    }
    return true;
}

/* The descriptors as this call has found them. How many; -ENOMEM. */
static int find(M **m, const weft_case_t *cases, int n)
{
    G *g = (*m)->g;
    int fds = 0;
    for (int i = 0; i < n; i++) {
        FDRef f;
        if (!case_is_fd(&cases[i]))
            continue;
        int rc = fd_ref(m, cases[i].fd, &f);
        if (rc == -ENOMEM)
            return rc;
        Wait *w = &g->cases[i];
        memset(w, 0, sizeof *w);
        w->g = g;
        w->select = true;
        w->dirs = cases[i].op == WEFT_FD_IN ? WEFT_READ : WEFT_WRITE;
        w->result = rc;
        if (rc == 0) {
            w->elem = f.r;
            w->gen = f.gen;
        }
        fds++;
    }
    return fds;
}

/* k references were begun: what are they ready for? */
static int ask_some(M *m, struct pollfd *p, Wait **of, uint32_t k)
{
    int n, rc = 0;
    while ((n = poll(p, k, 0)) < 0 && *m->errno_addr == EINTR)
        ;
    if (n < 0)
        rc = -*m->errno_addr;
    for (uint32_t i = 0; i < k; i++) {
        Wait *w = of[i];
        FDRef f = ref_of(w);
        w->result = n > 0 ? io_ready(p[i].revents, w->dirs) : 0;
        bool more = w->result != 0 || rc != 0;
        if (w->result == 0 && get(&f.r->side[w->dirs - 1].expired))
            w->result = -ETIMEDOUT;
        fd_end(m, &f, more ? w->dirs : 0);
    }
    return rc;
}

static int ask(M *m, const weft_case_t *cases, int n)
{
    struct pollfd p[BATCH];
    Wait *of[BATCH];
    uint32_t k = 0;
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        Wait *w = &m->g->cases[i];
        if (!case_is_fd(&cases[i]) || w->elem == NULL)
            continue;
        FDRef f = ref_of(w);
        w->result = fd_begin(&f, w->dirs);
        if (w->result != 0)
            continue;
        p[k] = (struct pollfd){.fd = f.fd, .events = io_events(w->dirs)};
        of[k++] = w;
        if (k == BATCH) {
            rc = ask_some(m, p, of, k);
            k = 0;
        }
    }
    return k > 0 ? ask_some(m, p, of, k) : rc;
}

int select_fds_pick(M *m, const weft_case_t *cases, int n)
{
    uint32_t ready = 0;
    int choice = -EAGAIN;
    for (int i = 0; i < n; i++) {
        weft_chan_t *c = case_chan(&cases[i]);
        bool yes;
        if (case_is_fd(&cases[i]))
            yes = m->g->cases[i].result != 0;
        else
            yes = c != NULL && (cases[i].op == WEFT_RECV ? chan_may_recv(c) : chan_may_send(c));
        if (yes && (++ready == 1 || rng_below(&m->rng, ready) == 0))
            choice = i;
    }
    return choice;
}

/* ---- waiting ----------------------------------------------------------------------- */

/* What the poller does not know yet. One that is closed will be found so; what it refuses is that
 * case's own error. -ENOMEM, -ENOSPC, -EPERM. */
static int add(const G *g, const weft_case_t *cases, int n)
{
    for (int i = 0; i < n; i++) {
        if (!case_is_fd(&cases[i]))
            continue;
        Wait *w = &g->cases[i];
        FDRef f = ref_of(w);
        if (atomic_load(&f.r->word) & FD_ADDED)
            continue;
        int rc = netpoll_add(&f);
        if (rc == -ENOMEM || rc == -ENOSPC || !atomic_load(&sched.active))
            return rc;
        if (rc != 0 && rc != -ECANCELED) {
            w->elem = NULL;
            w->result = rc;
        }
    }
    return 0;
}

/* See netpoll.c: a coroutine counts itself until it runs. */
static void uncount(const G *g, uint32_t joined)
{
    if ((g->flags & G_FOREIGN) == 0)
        atomic_fetch_sub(&sched.waiters, joined);
}

bool select_fds_join(M *m, const weft_case_t *cases, uint32_t n, LockSet *set)
{
    G *g = m->g;
    uint32_t chans = set->n, joined = 0, i;
    for (i = 0; i < n; i++)
        if (case_is_fd(&cases[i]))
            set->lock[set->n++] = &((FD *)g->cases[i].elem)->lock;
    select_sort(set, chans);
    for (i = chans; i < set->n; i++)
        lock_acquire(NULL, set->lock[i], RANK_FD);
    for (i = 0; i < n; i++)
        if (case_is_fd(&cases[i])) {
            if (!netpoll_join(m, g->cases[i].elem, &g->cases[i]))
                break;
            joined++;
        }
    if (i == n)
        return true;
    while (i-- > 0)
        if (case_is_fd(&cases[i]))
            netpoll_leave(g->cases[i].elem, &g->cases[i]);
    uncount(g, joined);
    return false;
}

void select_fds_leave(M *m, const weft_case_t *cases, uint32_t n)
{
    G *g = m->g;
    uint32_t joined = 0;
    for (uint32_t i = 0; i < n; i++)
        if (case_is_fd(&cases[i])) {
            FD *r = g->cases[i].elem;
            lock_acquire(NULL, &r->lock, RANK_FD);
            netpoll_leave(r, &g->cases[i]);
            lock_release(&r->lock);
            joined++;
        }
    uncount(g, joined);
}

/* ---- select ------------------------------------------------------------------------ */

/* Chaos: between asking and waiting others run, and the poller reports what they did. */
static M *linger(M *m)
{
    m = chaos_yield(m, 2);
    if (m->p != NULL && chaos(m, 2))
        sched_ready_list(m, netpoll_look(m, 0));
    return m;
}

static int rounds(M **m, weft_case_t *cases, int n, int64_t deadline, bool block, uint32_t fds)
{
    int i;
    do {
        if ((i = ask(*m, cases, n)) != 0)
            return i;
        *m = linger(*m);
        i = select_all(m, cases, n, deadline, block, fds);
    } while (i == SELECT_AGAIN && (i = add((*m)->g, cases, n)) == 0);
    return i;
}

int select_fds(M **m, weft_case_t *cases, int n, int64_t deadline, bool block)
{
    G *g = (*m)->g;
    int saved = *(*m)->errno_addr, rc = -EINVAL;
    if (ops_known(cases, n))
        rc = select_block(g, cases, (uint32_t)n, block) != NULL ? find(m, cases, n) : -ENOMEM;
    if (rc > 0)
        rc = rounds(m, cases, n, deadline, block, (uint32_t)rc);
    if (window_copied(g))
        bounce_out(g, NULL, NULL);
    *(*m)->errno_addr = saved;
    return rc;
}
