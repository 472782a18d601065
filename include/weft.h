/* SPDX-License-Identifier: MIT
 *
 * weft.h: coroutines for C, scheduled like Go's goroutines.
 *
 * Link with -lweft, or $(pkg-config --cflags --libs weft).
 *
 * Errors      Functions return 0 or a count on success and a negative errno
 *             value on failure. errno itself is never set by weft and keeps
 *             its value across every weft call, per coroutine.
 * Time        int64_t nanoseconds. A deadline is absolute, on weft_now()'s
 *             clock; 0 means none. An operation that can be done at once is
 *             done whatever its deadline; -ETIMEDOUT is returned only when it
 *             would have to wait past it.
 * "Parks"     The function may block the calling coroutine while its thread
 *             runs others. On a thread that weft did not make (a "foreign"
 *             thread) it blocks that thread instead. After a call that parks,
 *             a coroutine may find itself on another thread.
 * Foreign     Unless its entry says "coroutine only", a function may be called
 *             from any thread of the process while weft_run() is active.
 *             Without an active weft_run(), whatever would have to wait for a
 *             coroutine returns -EPERM; what can be done at once is done.
 * Signals     No function may be called from a signal handler, except
 *             weft_now() and weft_errno().
 * Zero        Objects and attributes filled with zero bytes are valid and mean
 *             the defaults.
 * NULL        Where an object or a function is needed, NULL is -EINVAL, and so are
 *             counts below zero, unless an entry says otherwise. What is handed on to
 *             the kernel (buffers, addresses) is the kernel's to judge: -EFAULT.
 * fork        In a child made by fork() while weft_run() is active only exec
 *             and async-signal-safe calls may be used; weft calls return
 *             -ENOSYS there, but for calls of sync objects that need not wait; those
 *             that cannot report it end the child with one line. What the
 *             child executes inherits no timer, no descriptor of weft's and
 *             no blocked signal: the child has the mask that weft_run() was
 *             called with, and the handlers that weft_signal_notify() has
 *             replaced are back. (A mask that was saved before the fork, as
 *             posix_spawn(), system() and popen() do, is that of a thread,
 *             and threads that weft has made block all signals: see
 *             posix_spawnattr_setsigmask().)
 */
#ifndef WEFT_H
#define WEFT_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define WEFT_VERSION_MAJOR 0
#define WEFT_VERSION_MINOR 1
#define WEFT_VERSION_PATCH 0

struct addrinfo; /* <netdb.h> */
struct iovec;    /* <sys/uio.h> */

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WEFT_API __attribute__((visibility("default")))
#else
#define WEFT_API
#endif

/* ---- errno ------------------------------------------------------------
 *
 * A coroutine may change threads inside a weft call, and compilers keep the
 * address of the old thread's errno (glibc declares __errno_location const).
 * Code that mixes weft calls and plain ones therefore reads errno through
 * this function. Define WEFT_KEEP_ERRNO before including to opt out. */

/* The address of errno of the thread the caller is on now. Never fails. */
WEFT_API int *weft_errno(void);

#ifndef WEFT_KEEP_ERRNO
#undef errno
#define errno (*weft_errno())
#endif

/* ---- life of the runtime ---------------------------------------------- */

enum { WEFT_SIGQUIT = 1 }; /* weft_config_t.flags: SIGQUIT prints a dump, see "seeing inside" */

typedef struct weft_config {
    int procs;         /* processors; 0: min(affinity mask, cgroup limit), or WEFT_PROCS */
    int threads_max;   /* most threads weft may make; 0: 10000, or WEFT_MAXTHREADS */
    int64_t slice;     /* ns of CPU time a coroutine may take while others wait; 0: 10 ms */
    int stack;         /* WEFT_STACK_* of coroutines; main's is always private */
    size_t stack_max;  /* bytes a private stack may grow to; 0: 64 MiB */
    int signal;        /* that interrupts coroutines; 0: SIGURG, or WEFT_SIGNAL. See "Preemption" */
    unsigned flags;    /* 0 or WEFT_SIGQUIT */
    void *reserved[8]; /* 0 */
} weft_config_t;

/* Run entry(arg) as the main coroutine; the calling thread becomes one of the
 * runtime's threads. When entry returns, the coroutines that are still alive
 * are abandoned where they are parked, their stacks are freed, and its value
 * is returned. A coroutine that is running at that moment is stopped where it is,
 * save in libc, the loader or an allocator, where it may hold a lock that the caller
 * needs: it goes on until it has left, for a second at most (then a line on
 * standard error says so). May be called again afterwards.
 * Errors: -EBUSY, a run is active (also when called from a coroutine);
 * -EINVAL, entry is NULL or a field of cfg is negative or out of range; -ENOMEM;
 * -EAGAIN, no thread; -EMFILE, -ENFILE, no descriptor for the poller; -ENOSYS
 * in a forked child. As entry's value cannot be told from an error, let it be
 * >= 0. cfg may be NULL. */
WEFT_API int weft_run(int (*entry)(void *), void *arg);
WEFT_API int weft_run_with(const weft_config_t *cfg, int (*entry)(void *), void *arg);

/* Set the number of processors to n (1 to 1024) if n > 0, and return the
 * number before. n <= 0 only asks. A processor that is to go is given up at its coroutine's next call
 * or tick. -EPERM outside weft_run(), -EINVAL above
 * 1024, -ENOMEM. Does not park. */
WEFT_API int weft_procs(int n);

/* ---- stacks ------------------------------------------------------------
 *
 * A coroutine's stack is of one of two kinds, for life. Both grow by themselves, and the address of a
 * local never changes.
 *
 * Private     In a range of addresses of its own. A parked coroutine keeps at least a page and a
 *             page table. Any coroutine may use pointers to its locals. The default; main's always.
 * Copied      In a window of addresses (1 GiB) that it may share with others. While another one runs in
 *             the window, the live bytes lie in a block of memory; they come back to the same
 *             addresses before the coroutine goes on. As long as windows suffice (1024; fewer with
 *             little address space) nothing is copied. For many coroutines that mostly wait.
 *
 * Two rules for copied stacks:
 *  - While the coroutine is parked, nobody else uses a pointer to its locals, not to read either. What weft
 *    is given is safe: elements of channels, buffers, cases of a select, attributes.
 *  - It does not park while it holds what others may wait for in the kernel (a pthread mutex, a
 *    FILE), or outside of weft (a flag they spin on).
 * A coroutine that keeps its window keeps those that share it from running: while it is blocked in
 * the kernel, declared or not, pinned to its thread (weft_thread_lock()) though parked, or stopped
 * with its thread. One that computes keeps it beyond its slice until it parks, unless it is
 * WEFT_MOVABLE. It must not wait in these ways for another one with a copied stack: the two may
 * share a window. After a second in the kernel one line on standard error names it and who waits.
 *
 * Refused with a fatal line on a copied stack: a mutex, a wait group or another object of "sync" that somebody is
 * about to wait for, a weft_wg_t that weft_wg_go() is given, a weft_group_t that weft_group_go() is given, a
 * weft_timer_t that is started or reset.
 * WEFT_DEBUG=stackshare gives each copied stack a window of its own (16 MiB), inaccessible while its
 * coroutine is parked, and names who touches it and whose it is. When no memory is left for a
 * block, a coroutine waits for it. weft_stack(7) has more. */

/* weft_attr_t.stack, weft_config_t.stack. 0 is the configuration's choice, and that of a
 * configuration is WEFT_STACK_PRIVATE. */
enum { WEFT_STACK_PRIVATE = 1, WEFT_STACK_COPIED = 2 };

/* ---- coroutines --------------------------------------------------------- */

/* 64-bit and never reused in the life of the process; 1 is main. */
typedef uint64_t weft_id_t;
typedef struct weft_ctx weft_ctx_t; /* see "Contexts" */

enum { WEFT_MOVABLE = 1 }; /* weft_attr_t.flags: see "Preemption" */

typedef struct weft_attr {
    const char *name; /* copied, 31 bytes at most are kept; NULL: none */
    int stack;        /* WEFT_STACK_*; 0: the configuration's. See "Stacks" */
    size_t stack_max; /* bytes; 0: the configuration's. Private: 16 KiB to 64 MiB, rounded up;
                          copied: up to 1 GiB, which it has anyway */
    unsigned flags;   /* 0 or WEFT_MOVABLE */
    weft_id_t *id;    /* out: the new coroutine's id, set before it can run; or NULL */
    weft_ctx_t *
        ctx; /* when this context is cancelled so is the coroutine, as by weft_cancel(); one that is
                          cancelled already cancels it from the start. It keeps the context. NULL: none */
    void *reserved[7]; /* 0 */
} weft_attr_t;

/* Start fn(arg) in a new coroutine. It runs later, perhaps on another thread;
 * it ends when fn returns. attr may be NULL.
 * Errors: -EINVAL, fn is NULL or an attribute is out of range: a stack of no known kind, a stack_max
 * that its kind cannot have, an unknown flag; -ENOMEM, no memory for a coroutine, or no address
 * space for its stack or for the first window; -EPERM outside weft_run(); -ENOSYS in a
 * forked child. Does not park. */
WEFT_API int weft_go(void (*fn)(void *), void *arg);
WEFT_API int weft_go_with(const weft_attr_t *attr, void (*fn)(void *), void *arg);

/* Let others run first. On a foreign thread: sched_yield(). Parks, never blocks. */
WEFT_API void weft_yield(void);

/* The caller's id; 0 on a foreign thread. Does not park. A coroutine that has asked, or was started with
 * attr.id, and main, can be joined and cancelled; their waits cost some nanoseconds more. */
WEFT_API weft_id_t weft_id(void);

/* End the calling coroutine, from any depth; nothing returns from it. Its keys' destructors are called, a
 * weft_wg_go() is counted down; what lies on its stack is not cleaned up (C++ destructors do
 * not run), nor is a weft_once_do() that it is in. Main ends so too, and the others go on, until all have
 * ended: that is fatal, as in Go (runtime.Goexit). Fatal on a foreign thread, and in a destructor that is called at
 * the end of a run. */
WEFT_API void weft_exit(void) __attribute__((__noreturn__));

/* Wait until the coroutine has ended, its keys' destructors included. Any number may wait, and threads that are not
 * weft's too. 0: it has ended, maybe long ago. -ETIMEDOUT at the deadline (0: none); -EDEADLK,
 * it is the caller; -ESRCH, id is 0 or far beyond those that were given out; -ECANCELED, the caller was cancelled, or, on a
 * foreign thread, the run has ended; -ENOMEM, it goes on, but there was no memory to note its id; -EPERM
 * outside weft_run(). Parks. */
WEFT_API int weft_join(weft_id_t id, int64_t deadline);

/* Cancel a coroutine: from now on each of its calls that would have to wait returns -ECANCELED, also the one it
 * is waiting in; what can be done at once is still done. It is not stopped otherwise: it should
 * return. Waits in the kernel, and for a processor, are not ended. One that waits for a condition has its
 * mutex locked again when it returns. Cancelling twice is as once. (Main is coroutine 1 in every run.)
 *   0; -ESRCH, it has ended or never was; -ENOMEM as weft_join(). Does not park. */
WEFT_API int weft_cancel(weft_id_t id);

/* on != 0: the caller's waits are not cancelled, until the same with 0. For what must be cleaned up, whether
 * cancelled or not. Returns what was set before, 0 or 1; -EPERM on a foreign thread; -ENOMEM. Does not
 * park. */
WEFT_API int weft_cancel_mask(int on);

/* Coroutine-local storage, after POSIX's pthread_key_create(): a key has a value in each coroutine, NULL at
 * first. When a coroutine ends with one that is not NULL, the destructor, if any, is called with it on
 * that coroutine, and may park; again, up to 4 times, if it has set values. For coroutines that
 * are abandoned when main returns the thread in weft_run() calls it: there calls that would have to wait
 * fail, and values on a copied stack are not there any more. Destructors are not cancelled.
 * create: 0; -EINVAL for a NULL; -EAGAIN, 1024 keys exist (they are for good). set: 0; -EINVAL,
 * no such key; -ENOMEM; -EPERM on a foreign thread. get: NULL there and for what is not set. None parks. */
typedef uint32_t weft_key_t;
WEFT_API int weft_key_create(weft_key_t *key, void (*destructor)(void *));
WEFT_API int weft_setspecific(weft_key_t key, const void *value);
WEFT_API void *weft_getspecific(weft_key_t key);

/* Name the running coroutine for dumps and debuggers; copied, 31 bytes at most
 * are kept; NULL or "" takes the name away. -ENOMEM; -EPERM on a foreign thread. */
WEFT_API int weft_set_name(const char *name);

/* Bounds of the running coroutine's stack, [*lo, *hi): lo is the deepest
 * address it may grow to. -EPERM on a foreign thread, -EINVAL for a NULL. */
WEFT_API int weft_stack_bounds(void **lo, void **hi);

/* Coroutines alive, main included. A sum over processors: exact when nothing runs. */
WEFT_API size_t weft_num_coroutines(void);

/* ---- preemption -----------------------------------------------------------
 *
 * A coroutine that has used up its slice of CPU time gives way to others that wait,
 * wherever it is, and one that was woken by a timer, a descriptor or a channel need
 * not wait for the slice of one that computes. Any C code may be stopped in this
 * way: the coroutine stands still together with its thread, and goes on there, while
 * another thread runs the others. Nothing in the process sees more than a signal
 * handler that takes long. A thread that is blocked in the kernel is not interrupted.
 *
 * WEFT_MOVABLE promises that the coroutine's own functions keep nothing that
 * belongs to their thread: no thread-local's address, no pthread mutex, no FILE
 * locked. Then it may be stopped without its thread, and go on on another; many that
 * compute need few threads. weft makes sure by itself that it is not inside libc or
 * any function that touches thread-locals.
 *
 * The signal (SIGURG) has a handler for the time of a run; what was not sent by weft
 * goes to the handler that was there before. */

/* From disable to enable, which nest, the calling coroutine is not stopped; others
 * may run on other processors. Parking in between is fatal. On a foreign thread both
 * do nothing. Neither parks; enable without disable is fatal. */
WEFT_API void weft_preempt_disable(void);
WEFT_API void weft_preempt_enable(void);

/* From lock to unlock, which nest, the calling coroutine stays on the thread it is
 * on, and no other coroutine runs there: for libraries that keep state in
 * thread-locals across calls that park. Its parks and wake-ups cost a switch of
 * threads. Go's runtime.LockOSThread; unlock without lock does nothing. On a foreign
 * thread both do nothing. Neither parks.
 *   Whoever ends between them takes its thread along, and what it has made of that: credentials,
 * namespaces, signal masks that cannot be put back. The thread that called weft_run() stays, and runs no
 * coroutine before weft_run() returns on it. */
WEFT_API void weft_thread_lock(void);
WEFT_API void weft_thread_unlock(void);

/* ---- blocking calls -------------------------------------------------------
 * A coroutine may block in the kernel, in any function of any library. Its thread waits
 * there; its processor goes to another thread as soon as weft notices that work waits
 * for it, within about a millisecond. When the call is over the coroutine goes on where it
 * is, and waits for a processor at its next weft call. Saying so beforehand, by the calls
 * below, makes that some 20 microseconds; a call that is over sooner costs next to nothing.
 * WEFT_MAXTHREADS bounds the threads; beyond it coroutines wait for a thread, none fails.
 *   When main returns, calls that still block fail with EINTR, and their coroutines go no
 * further; what waits in a library that does not give up (a pthread mutex) is left
 * there after a second. With WEFT_DEBUG=preempt=off weft_run() waits for all of them. */

/* What is between enter and exit may block. It runs on this thread, and is not stopped by weft. A
 * weft call in between is allowed and ends the declaration early; exit is harmless then,
 * and without enter. On a foreign thread both do nothing. exit may wait for a
 * processor, but never moves the coroutine to another thread. errno is kept. Go's
 * entersyscall and exitsyscall. */
WEFT_API void weft_syscall_enter(void);
WEFT_API void weft_syscall_exit(void);

/* fn(arg) as such a call, on the caller's stack. What it returns goes to *result, unless result is NULL.
 * 0; -EINVAL: fn is NULL; -ENOSYS in a forked child, -ENOMEM: fn was not called. */
WEFT_API int weft_blocking(void *(*fn)(void *), void *arg, void **result);

/* ---- time --------------------------------------------------------------- */

/* Nanoseconds on CLOCK_MONOTONIC. Async-signal-safe. */
WEFT_API int64_t weft_now(void);

/* Sleep for ns nanoseconds, or until the time when; at once for a time that is
 * past. Returns 0, never early; -ECANCELED, the coroutine was cancelled before. Parks. */
WEFT_API int weft_sleep(int64_t ns);
WEFT_API int weft_sleep_until(int64_t when);

/* A timer. {0} is a timer that is not pending. It must stay where it is while
 * it is pending; once it has been stopped, or has fired (period 0), weft does
 * not touch it any more. To start or reset one that lies on a copied stack is fatal. */
typedef struct weft_timer {
    uint64_t opaque[8];
} weft_timer_t;

/* Call fn(arg) in a new coroutine at the absolute time when (a past one: at
 * once), then every period nanoseconds if period > 0; ticks that could not be
 * kept are dropped, the phase is kept. A tick does not wait for the call of the
 * one before: calls that last longer than the period overlap. (Go's Ticker drops
 * what its reader is too slow for: send into a channel with room for one by
 * weft_try_send() for that.) A pending timer is rearmed.
 * Errors: -EINVAL (fn or t NULL, period < 0), -ENOMEM, -EPERM outside
 * weft_run(). start, stop and reset may race with each other and with the
 * firing. Do not park. */
WEFT_API int weft_timer_start(weft_timer_t *t, int64_t when, int64_t period, void (*fn)(void *),
                              void *arg);

/* 1: it was pending and will not fire; 0: too late, or not pending. Calls of fn that have begun go on. */
WEFT_API int weft_timer_stop(weft_timer_t *t);

/* The same, and wait until every call of fn that has begun, for this timer, has ended: its coroutine has,
 * however that came. What is started or reset meanwhile is not waited for. A timer that was filled with zero
 * bytes again is another one, whose calls are its own. As weft_timer_stop(); then:
 * -EDEADLK, the caller is such a call itself: nothing was done, the timer was not stopped either;
 * -ETIMEDOUT, the deadline has passed, -ENOMEM, there is no memory for it, -ECANCELED, the coroutine was
 * cancelled, or, on a foreign thread, the run has ended, -EPERM outside weft_run(): the timer is
 * stopped, whether it was pending or not, and a call goes on. t must stay for so long: fn must not
 * free it then. Parks. */
WEFT_API int weft_timer_stop_wait(weft_timer_t *t);
WEFT_API int weft_timer_stop_wait_until(weft_timer_t *t, int64_t deadline); /* 0: none */

/* Arm again for the time when with the function and period of the last start,
 * whether it is pending, has fired or was stopped. 1: it was pending; 0: not.
 * -EINVAL, never started. */
WEFT_API int weft_timer_reset(weft_timer_t *t, int64_t when);

/* ---- channels -------------------------------------------------------------
 *
 * Go's channels; elements are copied by value. elem may be NULL: a sender
 * sends zero bytes, a receiver discards. It may lie on a copied stack. Every
 * operation touches the channel for the last time before its effect can be seen,
 * so that a peer may drop the last reference at once.
 *
 * <weft/typed.h> makes channels of one type of element, with ends that only send or only
 * receive, which the compiler checks. */

typedef struct weft_chan weft_chan_t;

/* A channel of elements of elem_size bytes (0 to 65535) with room for capacity
 * of them; 0: unbuffered, a send waits for its receive. One reference belongs
 * to the caller. NULL: out of memory, or a size out of range. */
WEFT_API weft_chan_t *weft_chan_make(size_t elem_size, size_t capacity);

/* Take and drop references; the last one frees. ref returns c. NULL is let be.
 * A coroutine parked on a channel holds a reference of its own. */
WEFT_API weft_chan_t *weft_chan_ref(weft_chan_t *c);
WEFT_API void weft_chan_unref(weft_chan_t *c);

/* Send *elem. 0; -EPIPE, the channel is closed; -ECANCELED, the coroutine was cancelled, and nothing was
 * sent, nor received by the calls below. c == NULL parks for ever. Parks.
 * send and recv of a coroutine with a copied stack need memory to wait with if
 * elements are larger than 8 bytes: -ENOMEM, nothing was sent or received. */
WEFT_API int weft_send(weft_chan_t *c, const void *elem);
/* Receive into *elem. 1, an element; 0, closed and drained (*elem is zeroed).
 * c == NULL parks for ever. Parks. */
WEFT_API int weft_recv(weft_chan_t *c, void *elem);
/* The same, but waiting until the deadline only: -ETIMEDOUT; 0: none. They wait as weft_select() does, and may
 * fail with -ENOMEM as it does. Park. */
WEFT_API int weft_send_until(weft_chan_t *c, const void *elem, int64_t deadline);
WEFT_API int weft_recv_until(weft_chan_t *c, void *elem, int64_t deadline);
/* The same without waiting: -EAGAIN instead (also for c == NULL). */
WEFT_API int weft_try_send(weft_chan_t *c, const void *elem);
WEFT_API int weft_try_recv(weft_chan_t *c, void *elem);

/* Close: receivers drain what is buffered and then get 0, senders get -EPIPE.
 * 0. Closing twice, or NULL, is fatal. Does not park. */
WEFT_API int weft_chan_close(weft_chan_t *c);

/* Elements buffered now; room. 0 for NULL. Do not park. */
WEFT_API size_t weft_chan_len(weft_chan_t *c);
WEFT_API size_t weft_chan_cap(weft_chan_t *c);

/* A channel of int64_t with room for one, which gets the time (weft_now()) once ns nanoseconds have
 * passed; at once for ns <= 0, never for more than the clock has. For a case of a select beside others. One
 * reference belongs to the caller. Once nobody has one, parked receivers included, the timer is
 * stopped and both are freed: a timeout that is not needed any more costs nothing after weft_chan_unref().
 * Everything else is as with other channels. If the run ends first, it stays without the time. NULL: out of
 * memory, or outside weft_run(). Does not park. Go's time.After. */
WEFT_API weft_chan_t *weft_after(int64_t ns);

enum { WEFT_RECV = 1, WEFT_SEND = 2, WEFT_FD_IN = 4, WEFT_FD_OUT = 8 };

typedef struct weft_case {
    int op;            /* one of these */
    int fd;            /* WEFT_FD_*: the descriptor */
    weft_chan_t *chan; /* WEFT_RECV, WEFT_SEND: the channel; NULL: this case is never ready */
    void *elem;        /* to receive into or to send; may be NULL */
    int result; /* out, for the case that was chosen: as weft_send or weft_recv; WEFT_FD_*: below */
    void *reserved[2]; /* 0 */
} weft_case_t;

/* Do exactly one of n operations, chosen at random among those that are ready;
 * park while none is. A send on a closed channel is ready. Returns the index
 * of the case done; -ETIMEDOUT; -ECANCELED, the coroutine was cancelled; -EINVAL for an unknown op, a negative n or
 * more than 65536 cases; -ENOMEM. With n == 0 it waits for the deadline. The
 * elements of cases that lost are not touched. Parks.
 *
 * A case WEFT_FD_IN (WEFT_FD_OUT) does nothing to its descriptor, and is ready when a read, an
 * accept (a write) would not have to wait. Its result says why:
 *   WEFT_READ (WEFT_WRITE), as weft_poll_fd(): there is something (there is room), or the end of the
 *   stream, or an error, which the next call tells. Regular files are always ready.
 *   -ETIMEDOUT: not so, but the deadline of that descriptor and direction has passed
 *   (weft_set_deadline()).
 *   -ECANCELED: weft_close() has closed it since weft_select() was called. (Returned by select, not
 *   as a result, it says that the caller was cancelled.)
 *   -EBADF: it is not open. Or another of fcntl(2)'s errors; -EPERM, it cannot be polled.
 * Ready is no promise to one of several: who reads first gets it, and another's weft_read() waits.
 * A descriptor may be in several cases, and several coroutines and threads may wait for it: all are
 * woken. With such cases select may also fail with -ENOSPC, the system's poller is full. */
WEFT_API int weft_select(weft_case_t *cases, int n, int64_t deadline);
/* The same without waiting: -EAGAIN when none is ready. Go's default clause. One poll(2) for (64)
 * descriptors. */
WEFT_API int weft_try_select(weft_case_t *cases, int n);

/* ---- sync -----------------------------------------------------------------
 *
 * Plain structs, {0} is ready to use, no destructor. Do not copy one in use.
 * One that an abandoned coroutine held or waited for must be zeroed before a
 * later weft_run() uses it. A coroutine that is cancelled while it waits, or before, gets -ECANCELED and nothing
 * else, so does a foreign thread that waits when the run ends; who would have to wait outside weft_run() gets
 * -EPERM. None that others use may lie on
 * a copied stack: to wait for one there, or to wake who does, is fatal, as is weft_wg_go().
 *   What can wait has a twin with a deadline, an absolute time (0: none): -ETIMEDOUT if it
 * would have to wait longer, -ENOMEM if there is no memory for the deadline. What can be done at once
 * is done, whatever the deadline.
 *   An object that is NULL is -EINVAL. What costs next to nothing when nobody is in the way is
 * inline: see weft/inline.h. */

typedef struct weft_mutex {
    uint32_t opaque[2];
} weft_mutex_t;

/* Go's sync.Mutex: not recursive, any coroutine may unlock, fair after 1 ms of
 * waiting. lock: 0; parks. trylock: 0 or -EBUSY. unlock: 0; it parks when it
 * hands over to one that has waited so long; of an unlocked mutex it is fatal.
 * The last user may free the mutex's memory at once after its unlock. */
WEFT_API int weft_mutex_lock(weft_mutex_t *m);
WEFT_API int weft_mutex_lock_until(weft_mutex_t *m, int64_t deadline);
WEFT_API int weft_mutex_trylock(weft_mutex_t *m);
WEFT_API int weft_mutex_unlock(weft_mutex_t *m);

typedef struct weft_rwmutex {
    uint32_t opaque[4];
} weft_rwmutex_t;

/* Go's sync.RWMutex: any number of readers or one writer. Not recursive, for readers neither: a
 * writer that waits keeps new readers out, its unlock lets in all that have come meanwhile. Any
 * coroutine may unlock. lock and rlock: 0; park. The try forms: 0 or -EBUSY. unlock of what is not
 * locked so is fatal; unlock, and a trylock that fails, park as the unlock of a mutex does. The object may be
 * freed by who has had it for writing last, after its unlock, or when all calls have returned. -ENOMEM: a
 * foreign thread's first call, nothing was done. */
WEFT_API int weft_rwmutex_rlock(weft_rwmutex_t *rw);
WEFT_API int weft_rwmutex_rlock_until(weft_rwmutex_t *rw, int64_t deadline);
WEFT_API int weft_rwmutex_tryrlock(weft_rwmutex_t *rw);
WEFT_API int weft_rwmutex_runlock(weft_rwmutex_t *rw);
WEFT_API int weft_rwmutex_lock(weft_rwmutex_t *rw);
WEFT_API int weft_rwmutex_lock_until(weft_rwmutex_t *rw, int64_t deadline);
WEFT_API int weft_rwmutex_trylock(weft_rwmutex_t *rw);
WEFT_API int weft_rwmutex_unlock(weft_rwmutex_t *rw);

typedef struct weft_cond {
    uint32_t opaque[2];
} weft_cond_t;

/* Go's sync.Cond. wait unlocks mutex, waits for a signal and locks mutex again. 0; -ETIMEDOUT: no
 * signal came in time, or it woke somebody else; -ENOMEM, no memory for the deadline: the mutex is the
 * caller's with each of them. -EPERM outside weft_run(), -ENOSYS in a forked child: it was never
 * unlocked. -ECANCELED: a coroutine was cancelled, and the mutex is its own; or, on a foreign thread, the run has
 * ended: it is *not* the caller's. Nothing
 * else ends a wait, but what was waited for may be untrue again by then: wait in a loop. signal wakes
 * the one that has waited longest, broadcast all that wait; neither needs the mutex, neither parks. Who
 * has begun to wait is there for a signal that comes after it has let go of the mutex. 0. The object may
 * be freed when all waits have returned. Only wait parks.
 * -EINVAL, one of the two is NULL: mutex was not touched. */
WEFT_API int weft_cond_wait(weft_cond_t *c, weft_mutex_t *mutex);
WEFT_API int weft_cond_wait_until(weft_cond_t *c, weft_mutex_t *mutex, int64_t deadline);
WEFT_API int weft_cond_signal(weft_cond_t *c);
WEFT_API int weft_cond_broadcast(weft_cond_t *c);

typedef struct weft_once {
    uint32_t opaque[4];
} weft_once_t;

/* Go's sync.Once: of all calls for o the first calls fn(arg), and the others return when fn has
 * returned. 0; -EINVAL, fn is NULL and was needed. fn must not call it for the same o: that waits
 * for ever, as others do if it is left by a C++ exception. o may be freed when all calls have returned. Parks. */
WEFT_API int weft_once_do(weft_once_t *o, void (*fn)(void *), void *arg);
WEFT_API int weft_once_do_until(weft_once_t *o, void (*fn)(void *), void *arg, int64_t deadline);

typedef struct weft_sem {
    uint64_t opaque[2];
} weft_sem_t;

/* A weighted semaphore, golang.org/x/sync/semaphore's: {0} has no units, init gives it n, and nobody
 * may use it meanwhile; release adds n, whoever calls. acquire takes n at once, first come, first
 * served: who wants many is not passed by those who want few, not even if there never will be as
 * many. The last user may free it after its release. -EINVAL, n is negative; acquire: 0, parks;
 * try_acquire: 0 or -EBUSY, also while others wait; release: 0; -EOVERFLOW, more than INT64_MAX. */
WEFT_API int weft_sem_init(weft_sem_t *s, int64_t n);
WEFT_API int weft_sem_acquire(weft_sem_t *s, int64_t n);
WEFT_API int weft_sem_acquire_until(weft_sem_t *s, int64_t n, int64_t deadline);
WEFT_API int weft_sem_try_acquire(weft_sem_t *s, int64_t n);
WEFT_API int weft_sem_release(weft_sem_t *s, int64_t n);

typedef struct weft_wg {
    uint64_t opaque[2];
} weft_wg_t;

/* Go's sync.WaitGroup. add moves the counter by n (a sum below zero is fatal,
 * so is a raise from zero while others wait), done is add(-1), wait returns 0
 * when the counter is 0. Only wait parks. -ENOMEM, of a foreign thread's first call
 * that brings the counter to 0 while others wait: it is as it was before. */
WEFT_API int weft_wg_add(weft_wg_t *wg, int n);
WEFT_API int weft_wg_done(weft_wg_t *wg);
WEFT_API int weft_wg_wait(weft_wg_t *wg);
WEFT_API int weft_wg_wait_until(weft_wg_t *wg, int64_t deadline);
/* add(1), then fn(arg) in a new coroutine, then done. Errors as weft_go, and
 * the counter is then as before. */
WEFT_API int weft_wg_go(weft_wg_t *wg, void (*fn)(void *), void *arg);

/* The functions above that are mostly one atomic operation are compiled into programs: */
#include "weft/inline.h"

/* ---- contexts ---------------------------------------------------------------
 *
 * Go's contexts: what a piece of work and all that is done for it share. A tree: with what is cancelled,
 * everything below it is. A context says when to stop, and stops nobody: who waits, waits for its
 * channel as well (weft_select()). None of these calls parks.
 *
 * They may be made without weft_run(), but for a deadline that is to come, and contexts outlive a run.
 * Deadlines do not: what has one that has not passed when the run ends is cancelled then. */

/* The root of all contexts: has no value, is never cancelled, and need not be unref'd. */
WEFT_API weft_ctx_t *weft_ctx_background(void);

/* A child of parent, with one reference, the caller's; it keeps its parent. NULL: no memory; parent is
 * NULL; in a forked child. One whose parent is cancelled already is cancelled from the start, with the
 * parent's error and cause.
 *   deadline: when it comes the context is cancelled with -ETIMEDOUT; 0: none; a past one: at
 * once. One that is not before those above is not needed. NULL also outside weft_run(), for one to come.
 * A context that nobody has any more does not wait for its deadline.
 *   value: what weft_ctx_value() finds for key, which is compared as a pointer: let it be the address of a
 * static variable of yours. NULL if key is NULL. Who gives the value sees that it lives as long. */
WEFT_API weft_ctx_t *weft_ctx_with_cancel(weft_ctx_t *parent);
WEFT_API weft_ctx_t *weft_ctx_with_deadline(weft_ctx_t *parent, int64_t deadline);
WEFT_API weft_ctx_t *weft_ctx_with_value(weft_ctx_t *parent, const void *key, void *value);

/* Cancel ctx and all below it; on return they are, unless another call is about it. cause: a negative errno
 * value for weft_ctx_cause(); 0: -ECANCELED. The first one counts, a second changes nothing. 0; -EINVAL: ctx is
 * NULL, the background or made by with_value, or cause is positive; -ENOSYS in a forked child, -ENOMEM. */
WEFT_API int weft_ctx_cancel(weft_ctx_t *ctx, int cause);

/* Is it cancelled? 0: no. -ECANCELED, or -ETIMEDOUT by a deadline. cause: what the first cancel said; -ETIMEDOUT.
 * They say 0 as long as the channel is open, and nothing else once it is closed. -EINVAL: NULL. */
WEFT_API int weft_ctx_err(weft_ctx_t *ctx);
WEFT_API int weft_ctx_cause(weft_ctx_t *ctx);

/* A channel of elements of 0 bytes that is closed when ctx is cancelled; nobody else may send or close. It is lent:
 * for as long as the caller has ctx; weft_chan_ref() keeps it longer, but once ctx has no references it
 * will not be closed any more. NULL, which is never ready: nothing can cancel ctx. */
WEFT_API weft_chan_t *weft_ctx_done(weft_ctx_t *ctx);

/* The value for key of ctx, or of the nearest above that has one; NULL: none. Takes a step for each context on the
 * way. */
WEFT_API void *weft_ctx_value(weft_ctx_t *ctx, const void *key);

/* Take and drop references; the last one frees, and lets go of the parent. ref returns ctx. NULL and
 * the background are let be. To unref without cancelling is right, unlike in Go. */
WEFT_API weft_ctx_t *weft_ctx_ref(weft_ctx_t *ctx);
WEFT_API void weft_ctx_unref(weft_ctx_t *ctx);

/* ---- groups -----------------------------------------------------------------
 *
 * golang.org/x/sync/errgroup: coroutines that work on one thing, of which the first error counts. Zeroed, ready to
 * use; what is said of the objects of "sync" holds, and of weft_wg_t: none is started from outside of the group while
 * somebody waits. For one thing only: the error stays. */

typedef struct weft_group {
    uint64_t opaque[16];
} weft_group_t;

/* fn(arg) in a new coroutine of g; what it returns is its error, 0: none. (One that leaves by weft_exit() has none.)
 * While as many as the limit run it waits for one to end. 0; -EINVAL: g or fn is NULL; errors as weft_go(), and of
 * the wait: -ETIMEDOUT, -ENOMEM for the deadline, -ECANCELED, the caller was cancelled, or, on a foreign thread,
 * the run has ended. g is then as before. Parks at the limit. */
WEFT_API int weft_group_go(weft_group_t *g, int (*fn)(void *), void *arg);
WEFT_API int weft_group_go_until(weft_group_t *g, int (*fn)(void *), void *arg, int64_t deadline);

/* No more than n at once from now on; n < 0: any number, as at first. With n == 0 none can be started. -EBUSY: some
 * run, or somebody waits to start one; -EINVAL: g is NULL. Nobody may use g meanwhile. Does not park. */
WEFT_API int weft_group_limit(weft_group_t *g, int n);

/* Wait until all have ended. The first error, whatever it is, or 0; then the group's context is cancelled and
 * released. -ETIMEDOUT, -ENOMEM, -ECANCELED as of other waits, and nothing has changed (a function may have returned
 * these, too: the context tells); -EINVAL: g is NULL. Parks. */
WEFT_API int weft_group_wait(weft_group_t *g);
WEFT_API int weft_group_wait_until(weft_group_t *g, int64_t deadline);

/* The context of g, made by the first call, before the first weft_group_go(), and lent until weft_group_wait()
 * returns. Cancelled by the first error, which is the cause if it is negative, and at last by the wait. Nobody
 * is stopped by that: functions that are to stop early look at it. NULL: no memory; g is NULL. Does
 * not park. */
WEFT_API weft_ctx_t *weft_group_context(weft_group_t *g);

/* ---- I/O --------------------------------------------------------------------
 *
 * Plain file descriptors; the calls look like the system calls of their names
 * and return -errno. weft makes a descriptor non-blocking when it first uses
 * it. Sockets, pipes and terminals park; calls on regular files run as declared
 * blocking calls (see above). Short counts are returned as they are, and a gigabyte is
 * the most that one call moves; EINTR never is returned while the run lasts. Several
 * coroutines may wait on one descriptor: all are woken and try again. A
 * descriptor used with weft must be closed with weft_close(): after a plain
 * close(), weft may take a new file with the same number for the old one. */

enum { WEFT_READ = 1, WEFT_WRITE = 2 };

/* Errors: the system call's; -ETIMEDOUT, the descriptor's deadline has passed;
 * -ECANCELED, it was closed by weft_close() meanwhile, or the caller was cancelled. A write to a socket or pipe without
 * reader returns -EPIPE; sockets never raise SIGPIPE. Park. */
WEFT_API ssize_t weft_read(int fd, void *buf, size_t len);
WEFT_API ssize_t weft_write(int fd, const void *buf, size_t len);

/* The same for n pieces, together as one: 0 to IOV_MAX, else -EINVAL. Park. */
WEFT_API ssize_t weft_readv(int fd, const struct iovec *iov, int n);
WEFT_API ssize_t weft_writev(int fd, const struct iovec *iov, int n);

/* The same at the offset at, without moving the file's position. -ESPIPE: fd has none. Park if fd
 * is no file. */
WEFT_API ssize_t weft_pread(int fd, void *buf, size_t len, off_t at);
WEFT_API ssize_t weft_pwrite(int fd, const void *buf, size_t len, off_t at);

/* recvfrom(2) and sendto(2), and their errors besides those of weft_read; with sa NULL, recv(2) and
 * send(2). flags are the system's; with MSG_DONTWAIT -EAGAIN is returned instead of parking.
 * MSG_WAITALL does not make counts any longer. Park. */
WEFT_API ssize_t weft_recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *sa,
                               socklen_t *size);
WEFT_API ssize_t weft_sendto(int fd, const void *buf, size_t len, int flags,
                             const struct sockaddr *sa, socklen_t size);

/* Copy len bytes from the regular file in, from *at on (which is moved on) or, if at is NULL, from
 * its position on, to the descriptor out. The count, less than len at the end of the file or when
 * out is full. Errors as weft_write's, and -EINVAL: in is no regular file, or out cannot be written
 * to in this way. Parks for out, and obeys its WEFT_WRITE deadline. */
WEFT_API ssize_t weft_sendfile(int out, int in, off_t *at, size_t len);

/* The new descriptor is non-blocking and close-on-exec. Parks. */
WEFT_API int weft_accept(int fd, struct sockaddr *sa, socklen_t *len);
/* Parks until connected; obeys the WEFT_WRITE deadline. */
WEFT_API int weft_connect(int fd, const struct sockaddr *sa, socklen_t len);

/* Listen on host:port (host NULL: all addresses; port 0: any, ask getsockname)
 * with SO_REUSEADDR; backlog <= 0 means SOMAXCONN. Returns a descriptor.
 * -EHOSTUNREACH if the name does not resolve, -EINVAL for a port out of range. */
WEFT_API int weft_listen_tcp(const char *host, int port, int backlog);
/* Connect to host:port, trying each address in turn until the deadline, which is kept also while a
 * name is looked up (save outside weft_run()). TCP_NODELAY is set. -ETIMEDOUT; -ECANCELED; -EHOSTUNREACH if the
 * name does not resolve; -EINVAL, a port out of range or a negative deadline; connect(2)'s.
 * Parks. */
WEFT_API int weft_dial_tcp(const char *host, int port, int64_t deadline);

/* Wait until fd is ready for events (WEFT_READ | WEFT_WRITE; errors count as
 * both). Returns those that are; -ETIMEDOUT; -EBADF; -EPERM for a descriptor
 * that cannot be polled; -EINVAL, no event, an unknown one, or a negative deadline. Parks. */
WEFT_API int weft_poll_fd(int fd, int events, int64_t deadline);

/* From now on operations on fd in the directions which (WEFT_READ, accept too;
 * WEFT_WRITE, connect too; or both) that would wait past the deadline return
 * -ETIMEDOUT, those that wait now included. Stays until changed; 0 lifts it. -EBADF; -EINVAL, no
 * direction, an unknown one, or a negative deadline. */
WEFT_API int weft_set_deadline(int fd, int which, int64_t deadline);

/* Close fd and wake everyone parked on it with -ECANCELED. -EBADF. */
WEFT_API int weft_close(int fd);

/* getaddrinfo(3), its arguments and results, as a declared blocking call; freeaddrinfo() frees the
 * list. The result is 0 or an EAI_* code; when it is EAI_SYSTEM the cause is in errno (ENOSYS in a
 * forked child): the one case in which weft sets it. */
WEFT_API int weft_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                              struct addrinfo **list);

/* ---- processes and signals ------------------------------------------------ */

/* waitpid(2): the child's number and *status (may be NULL), 0 with WNOHANG, or -errno: -ECHILD,
 * -EINVAL, -ENOSYS, -ENOMEM. Waiting for the end of one child (pid > 0, options 0) parks; anything
 * else that has to wait (any child, a group, WUNTRACED, WCONTINUED, Linux before 5.3) is a declared
 * blocking call and takes a thread for so long. */
WEFT_API pid_t weft_waitpid(pid_t pid, int *status, int options);

/* From now on the number of each signal signo that the process gets is sent to c, a channel of int,
 * without waiting: what c has no room for is dropped, and signals of one number that come close
 * together may be one, as ever. Any number of channels may listen to a signal, and a channel to any
 * number of signals; asking twice is asking once. The signal has no other effect meanwhile. While
 * anybody listens no deadlock is reported. c is kept alive until weft_signal_stop(), or the end of
 * the run, which ends all this. Go's signal.Notify.
 *   A signal must not be blocked in all threads of the program; weft's own block all of them, the
 * thread in weft_run() keeps the mask it had. One that is sent to a thread (raise(),
 * pthread_kill()) waits there as long as it is blocked: use kill(). System calls of that thread
 * that are interrupted are restarted (SA_RESTART) or fail with EINTR, see signal(7).
 * 0; -EINVAL: c is NULL or not of int, signo cannot be handled or belongs to faults (SIGSEGV,
 * SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS) or is the one that preempts; -EPERM outside weft_run();
 * -ENOMEM; -EMFILE, -ENFILE. Does not park. */
WEFT_API int weft_signal_notify(weft_chan_t *c, int signo);

/* c listens to no signal any more. What has come before has been sent to c, or did not fit; what
 * comes later, of signals that nobody listens to any more, has the effect it had before the first
 * listened. 0, also when c does not listen. Does not park. Go's signal.Stop. */
WEFT_API int weft_signal_stop(weft_chan_t *c);

/* ---- seeing inside ------------------------------------------------------
 * Three keys of the environment variable WEFT_DEBUG (key=value,...) tell, on standard error, of
 * coroutines that wait in vain, while the others go on:
 *   deadlock   Mutexes and rwmutexes that coroutines have and wait for in a circle. Each circle
 *              is told once, a second after it has closed, with the coroutines, the locks and backtraces:
 *              "weft: deadlock: 2 coroutines wait in a circle for locks of each other:". "Locked
 *              by" is who has locked it last: a circle that somebody outside of it is going to
 *              unlock is told as well. Not seen: waits with a deadline; more than 16 readers of one
 *              rwmutex; locks that were locked before weft_run(). A lock and an unlock cost some tens
 *              of nanoseconds more.
 *   stuck=MS   Coroutines that have been parked for MS milliseconds, each wait once.
 *   leaks      When main has returned, coroutines that had not ended.
 * The last two write one line for all with the same spawn site and reason to wait:
 *   weft: stuck: 3 coroutines [chan receive], oldest 12.345 s (coroutine 17 "x"), created at serve+0x1f (server)
 *   weft: leak: 1 coroutine [sleep], oldest 0.250 s (coroutine 9), created at poll+0x2e (server)
 * "[sleep]" and "[IO wait]" may be long for good reasons: grep -v leaves them out. */

/* Write to descriptor fd, for every coroutine: id, name, state, wait reason and for how long (from a second on),
 * the processor and thread it has, backtrace, spawn site:
 *   coroutine 17 "x" [chan receive, 12 s]:
 *   coroutine 4 [running, P 0, M 2]:
 * Beyond 1000 coroutines those that are the same in all but name are one entry with their number, the largest first.
 * Where those are that run is asked of their threads, for some milliseconds; who does not answer (nobody does with
 * WEFT_DEBUG=preempt=off) is shown without a backtrace. Each entry is true of some moment: others run on.
 * 0; -EBADF; -EBUSY, another one is being written, and was not done in a second; -EPERM outside
 * weft_run(). Does not park; blocks the thread while it writes.
 *   Every fatal line is followed by the same on standard error. With WEFT_DEBUG=sigquit, or WEFT_SIGQUIT in
 * weft_config_t.flags, SIGQUIT (kill -QUIT, control-backslash) writes it there too, and the program goes on; the
 * signal has no other effect during the run, but for channels of weft_signal_notify(). */
WEFT_API int weft_dump(int fd);

/* The buckets of weft_stats_t.latency: bucket i counts coroutines that ran after they had been ready for
 * WEFT_LATENCY_FROM(i) to WEFT_LATENCY_FROM(i + 1) - 1 ns, the last one all that took longer. 0, 128, 192, 256, 384,
 * 512, 768, ...: two for each power of two, up to 274 s. They are zero until asked for, by WEFT_DEBUG=latencies (one of 8
 * waits is measured) or by a trace (all, while it is written). After Go's /sched/latencies. */
#define WEFT_LATENCIES 64
#define WEFT_LATENCY_FROM(i) ((i) == 0 ? 0 : (int64_t)(2 + (((i)-1) & 1)) << (6 + ((i)-1) / 2))

typedef struct weft_counters {
    uint64_t coroutines;   /* alive now, main included */
    uint64_t runnable;     /* waiting in a run queue now */
    uint64_t threads;      /* weft's threads now */
    uint64_t threads_idle; /* of these, without a processor */
    uint64_t procs;        /* processors */
    uint64_t spawned;      /* since weft_run() began, as all below */
    uint64_t exited;
    uint64_t switches;        /* coroutines given a processor */
    uint64_t steals;          /* coroutines taken from another processor's queue */
    uint64_t netpoll_wakeups; /* coroutines woken by a descriptor */
    uint64_t timers;          /* timers and sleepers pending now */
    uint64_t timers_fired;
    uint64_t stack_private_bytes; /* address space of slots bound to coroutines or kept warm */
    uint64_t stacks_private;      /* such slots */
    uint64_t preempt_flagged;     /* interruptions left to the code to act on: it was inside weft */
    uint64_t preempt_handed;      /* coroutines stopped on their threads */
    uint64_t preempt_moved;       /* WEFT_MOVABLE coroutines stopped and free to go on anywhere */
    uint64_t retaken_declared;    /* processors taken from coroutines in declared blocking calls */
    uint64_t retaken_undeclared;  /* from coroutines found blocked in the kernel */
    uint64_t windows;             /* that copied stacks share */
    uint64_t window_saves;        /* stacks copied out of their window */
    uint64_t window_loads;        /* and back */
    uint64_t stack_copied_bytes;  /* in blocks for copied stacks */
    uint64_t stack_copied_resident; /* memory of the allocator's arena for them; 0: not known */
    uint64_t uptime;                /* ns since weft_run() began */
    uint64_t procs_idle;            /* processors without anything to run now */
    uint64_t threads_spinning;      /* threads that look for work now */
    uint64_t threads_held;    /* whose coroutine was stopped where it is, or is pinned and parked */
    uint64_t threads_blocked; /* in the kernel, their processor taken */
    uint64_t fd_waiters;      /* coroutines that wait for a descriptor now */
    uint64_t latency[WEFT_LATENCIES]; /* waits in run queues, by how long: WEFT_LATENCY_FROM() */
    uint64_t reserved[16];
} weft_stats_t;

/* Fill *out. Bytes, nanoseconds, or numbers of things; "now" may go up and down, the others
 * only up, from 0 at the start of each run. Sums over processors, exact when nothing
 * runs; no difference is below zero. -EINVAL, -EPERM outside weft_run(). Does not park. */
WEFT_API int weft_stats(weft_stats_t *out);

/* The same as text in the Prometheus exposition format: for each field `x` the metric weft_x, with
 * _total at its end if it only goes up, with its HELP and TYPE lines; weft_uptime_seconds for uptime; and
 * the histogram weft_latency_seconds if there is something in it.
 * As snprintf(): writes at most size bytes, a NUL among them, and returns how many bytes the text has
 * without it, about 4000; what is not less than size did not fit. buf may be NULL if size is 0.
 * -EINVAL; -EPERM outside weft_run(); -EOVERFLOW. Does not park; not for signal handlers. */
WEFT_API int weft_stats_text(char *buf, size_t size);

/* Write what the scheduler does into a new file, from now until weft_trace_stop() or the end of the run: coroutines are
 * made, run, wait and for what, are made ready, interrupted, end; processors change threads. weft-trace(1) makes a
 * picture and a summary of it. The same from the start of a run: WEFT_DEBUG=trace=PATH, of up to 255 bytes. Records go
 * through a buffer of each thread to a thread that writes them; nobody waits for that: what there is no room for is
 * lost, and the file says how much. Some 32 bytes for each switch and wake-up.
 *   start: -EBUSY, there is a trace; -EINVAL, path is NULL; what open() says; -ENOMEM, -EAGAIN, no thread.
 *   stop: returns when all is written. -EINVAL, there is no trace; -EBUSY, another thread begins or ends one; what write() or
 *   close() said: the trace is over then too, and what could be written is there.
 * Both: -EPERM outside weft_run(). They do not park; they block the thread while they write. */
WEFT_API int weft_trace_start(const char *path);
WEFT_API int weft_trace_stop(void);

#ifdef __cplusplus
}
#endif
#endif
