/* SPDX-License-Identifier: MIT
 *
 * signal.c: signals to channels.
 *
 * A handler may do next to nothing: it sets the signal's bit in `pending` and rings a bell
 * (sys/posix/signals.c), whose descriptor a coroutine of the runtime's own waits for like for any
 * other. That one takes the bits and sends their numbers to the channels that listen, without
 * waiting. It lives while any channel does; parked, it counts as one who waits for a descriptor, so
 * that somebody always polls and no deadlock is found.
 *
 * No signal is lost. The handler sets the bit and then rings; the coroutine hushes the bell and
 * then takes the bits. If a ring comes before the hush, so did its bit; if after, the bell rings
 * still, and the coroutine comes again. The descriptor's edge is netpoll.c's to keep. Signals of
 * one number merge while its bit is set, as they do while they pend in the kernel; what a full
 * channel cannot take is dropped.
 *
 * Which thread? Those that weft makes block all signals, so it is m0, or another of the host's.
 * Wherever m0 is at that moment, its handler runs and returns: on its park word (a wake-up too
 * many), in the poller (the wait ends early, the next one finds the bell), in a coroutine's code,
 * or in the tick's handler, where a held coroutine waits: that blocks its own signal only. It is
 * never m0 that has to deliver.
 *
 * Stopping. What came before is delivered, what comes after has the effect it had without us, and
 * nothing falls between: the handler that was there before is put back; then `watched` is cleared,
 * and a handler that has begun late passes on what it finds not watched; then those that found it
 * watched are waited for (`inside`); then what they left is delivered. They need nothing but a CPU:
 * the M is inside the runtime meanwhile (preempt_off), so neither a tick nor the end of the run
 * stops it there.
 *
 * A forked child has the old handlers again at once: its signals are none of ours.
 *
 * SIGQUIT may be asked to print a dump (WEFT_DEBUG=sigquit): then it is handled from the start of the run to its end,
 * whether a channel listens or not, and the handler tells census.c.
 *
 * Lock: RANK_LIFE, before those of channels.
 */
#include "census.h"
#include "chan.h"
#include "io.h"

static const int64_t RETRY = 10000000;

typedef struct Listener {
    struct Listener *next;
    weft_chan_t *c; /* one reference */
    uint64_t mask;
} Listener;

static struct {
    Lock lock;
    Listener *all;            /* (l) */
    int bell;                 /* (l) opened by the first of a run; -1 */
    bool served;              /* (l) the coroutine is there */
    _Atomic uint64_t watched; /* (a) written under the lock */
    _Atomic uint64_t pending; /* (a) */
    _Atomic uint32_t inside;  /* (a) handlers that may have seen it watched, or dumps */
    _Atomic bool dumps;       /* (a) SIGQUIT asks for a dump; written before the run and after it */
} sig = {.bell = -1};

static uint64_t bit(int signo)
{
    return UINT64_C(1) << (signo - 1);
}

/* (signal) */
static bool on_signal(int signo)
{
    M *m = arch_self();
    if (m != NULL)
        rt_raise(m);
    atomic_fetch_add(&sig.inside, 1); /* before watched is read: pairs with unwatch() */
    bool ours = (atomic_load(&sig.watched) & bit(signo)) != 0;
    bool dump = signo == SIGQUIT && atomic_load(&sig.dumps);
    if (dump)
        census_ask_dump();
    if (ours) {
        atomic_fetch_or(&sig.pending, bit(signo));
        sys_bell_ring();
    }
    atomic_fetch_sub(&sig.inside, 1);
    if (m != NULL)
        rt_lower(m); /* a request is seen to at its next call */
    return ours || dump;
}

static Listener **find(const weft_chan_t *c)
{
    Listener **at = &sig.all;
    while (*at != NULL && (*at)->c != c)
        at = &(*at)->next;
    return at;
}

/* Of all but one. */
static uint64_t wanted(const Listener *but)
{
    uint64_t mask = 0;
    for (const Listener *l = sig.all; l != NULL; l = l->next)
        if (l != but)
            mask |= l->mask;
    return mask;
}

/* The lock is held. */
static void send_to(M *m, weft_chan_t *c, int signo)
{
    G *peer = NULL;
    union {
        int signo;
        char room[16]; /* compilers see copies of every size that channels have */
    } elem = {signo};
    lock_acquire(m, &c->lock, RANK_CHAN);
    chan_send_now(c, &elem, &peer); /* full, or closed: so be it */
    lock_release(&c->lock);
    if (peer != NULL)
        sched_ready(m, peer);
}

/* The lock is held. */
static void deliver(M *m)
{
    uint64_t pending = atomic_exchange(&sig.pending, 0);
    for (Listener *l = sig.all; l != NULL; l = l->next)
        for (uint64_t left = pending & l->mask; left != 0; left &= left - 1)
            send_to(m, l->c, __builtin_ctzll(left) + 1);
}

static ssize_t try_bell(IO *io, void *arg)
{
    (void)io, (void)arg;
    return sys_bell_hush();
}

/* The coroutine. */
static void serve(void *arg)
{
    IO io;
    bool stay = true;
    (void)arg;
    while (stay) {
        ssize_t rc = io_enter(&io, sig.bell);
        if (rc == 0 && (rc = io_run(&io, WEFT_READ, try_bell, NULL)) == 0) {
            lock_acquire(NULL, &sig.lock, RANK_LIFE);
            deliver(io.m);
            stay = sig.served = sig.all != NULL;
            lock_release(&sig.lock);
        }
        io_leave(&io, 0);
        if (rc != 0)
            weft_sleep(RETRY); /* no memory to wait with */
    }
}

/* The lock is held. */
static int see_served(void)
{
    int rc = 0;
    if (sig.bell < 0 && (rc = sys_bell_open()) < 0)
        return rc;
    if (rc > 0)
        sig.bell = rc;
    if (sig.served)
        return 0;
    rc = coro_go_own(serve, NULL, "weft signals");
    sig.served = rc == 0;
    return rc;
}

static int watch(int signo)
{
    if (atomic_load(&sig.watched) & bit(signo))
        return 0;
    atomic_fetch_or(&sig.watched, bit(signo)); /* before the handler can be called */
    int rc = sys_signal_watch(signo, on_signal);
    if (rc != 0)
        atomic_fetch_and(&sig.watched, ~bit(signo));
    return rc;
}

/* Back to what was before. Afterwards all that came before is pending. */
static void unwatch(uint64_t mask)
{
    uint64_t stays = atomic_load(&sig.dumps) ? bit(SIGQUIT) : 0;
    for (uint64_t left = mask & ~stays; left != 0; left &= left - 1)
        sys_signal_unwatch(__builtin_ctzll(left) + 1);
    atomic_fetch_and(&sig.watched, ~mask);
    while (atomic_load(&sig.inside) != 0)
        sys_sleep_until(sys_now() + 20000);
}

/* The lock is held. */
static int listen_to(weft_chan_t *c, int signo, Listener **new)
{
    Listener **at = find(c);
    if (!get_acq(&sched.active))
        return -EPERM;
    int rc = see_served();
    if (rc != 0 || (rc = watch(signo)) != 0)
        return rc;
    if (*at == NULL) {
        **new = (Listener){.c = weft_chan_ref(c)};
        *at = *new;
        *new = NULL;
    }
    (*at)->mask |= bit(signo);
    return 0;
}

int weft_signal_notify(weft_chan_t *c, int signo)
{
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    int rc = -EINVAL;
    Listener *new = NULL;
    if (c == NULL || c->elem_size != sizeof(int) || signo < 1 || signo > SYS_SIGNALS)
        goto out;
    rc = -ENOMEM;
    if ((new = rt_alloc(sizeof *new)) == NULL)
        goto out;
    lock_acquire(NULL, &sig.lock, RANK_LIFE);
    rc = listen_to(c, signo, &new);
    if (sig.all == NULL && sig.served)
        sys_bell_ring(); /* the coroutine was made for nothing */
    lock_release(&sig.lock);
    rt_free(new);
out:
    rt_leave(m);
    return rc;
}

/* The lock is held. */
static Listener *take_out(M *m, const weft_chan_t *c)
{
    Listener **at = find(c), *l = *at;
    if (l == NULL)
        return NULL;
    unwatch(l->mask & ~wanted(l));
    deliver(m);
    *at = l->next;
    if (sig.all == NULL)
        sys_bell_ring();
    return l;
}

int weft_signal_stop(weft_chan_t *c)
{
    if (c == NULL)
        return -EINVAL;
    M *m = rt_enter();
    if (m == NULL)
        return rt_no_m();
    lock_acquire(NULL, &sig.lock, RANK_LIFE);
    Listener *l = take_out(m, c);
    lock_release(&sig.lock);
    if (l != NULL)
        weft_chan_unref(c);
    rt_free(l);
    rt_leave(m);
    return 0;
}

int signal_init(void)
{
    if (!sched.sigquit)
        return 0;
    atomic_store(&sig.dumps, true); /* before the handler can be called */
    int rc = sys_signal_watch(SIGQUIT, on_signal);
    if (rc != 0)
        atomic_store(&sig.dumps, false);
    return rc;
}

void signal_fini(void)
{
    bool dumped = atomic_exchange(&sig.dumps, false);
    unwatch(atomic_load(&sig.watched) | (dumped ? bit(SIGQUIT) : 0));
    atomic_store(&sig.pending, 0);
    for (Listener *l = sig.all, *next; l != NULL; l = next) {
        next = l->next;
        weft_chan_unref(l->c);
        rt_free(l);
    }
    sig.all = NULL;
    sig.served = false;
    if (sig.bell >= 0)
        sys_bell_close();
    sig.bell = -1;
}

void signal_forked(void)
{
    uint64_t dumps = atomic_exchange(&sig.dumps, false) ? bit(SIGQUIT) : 0;
    for (uint64_t left = atomic_exchange(&sig.watched, 0) | dumps; left != 0; left &= left - 1)
        sys_signal_unwatch(__builtin_ctzll(left) + 1);
}
