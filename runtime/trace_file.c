/* SPDX-License-Identifier: MIT
 *
 * trace_file.c: the file of a trace: trace_format.h. It begins with what its numbers mean and with who is there; of each spawn
 * site that is met the name is added, once.
 *
 * It is one thread's at a time: who starts a trace, then the drain (trace.c), then who stops it. None allocates: malloc's
 * lock may be with a coroutine that stands still. To name spawn sites the loader's is taken, on the report stack; the
 * coroutine that has it gets a P lent, as always (monitor.c).
 *
 * When write() fails the file ends there and the rest is dropped; trace_file_close() says why.
 *
 * Lock: coroutines are listed into memory under coro_foreach()'s, and written after. */
#include "annotate.h"
#include "report.h"
#include "trace.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 2048, SITES = 4096, SLOTS = 2 * SITES };

static struct {
    int fd;
    int error; /* why nothing is written any more; 0: it is */
    uint32_t n;
    TraceRecord batch[BATCH];
    uintptr_t
        slot[SLOTS]; /* spawn sites (address << 1 | it is a return address), open addressing */
    uintptr_t site[SITES]; /* the same in the order they were met */
    uint32_t nsites, named;
} file = {.fd = -1};

static void flush(void)
{
    const char *from = (const char *)file.batch;
    size_t left = file.n * sizeof file.batch[0];
    while (left > 0 && file.error == 0) {
        ssize_t n = write(file.fd, from, left);
        if (n > 0) {
            from += n;
            left -= (size_t)n;
        } else if (n == 0 || errno != EINTR) {
            file.error = n == 0 ? -EIO : -errno;
        }
    }
    file.n = 0;
}

static void file_put(const TraceRecord *x, void *arg)
{
    (void)arg;
    file.batch[file.n++] = *x;
    if (file.n == BATCH)
        flush();
}

/* A spawn site: it is to be named, once. Main's is a function, not a return address. */
static void note_site(uint64_t id, uintptr_t pc)
{
    uintptr_t key = pc << 1 | (id != 1);
    uint32_t i = (uint32_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 40) % SLOTS;
    while (file.slot[i] != 0 && file.slot[i] != key)
        i = (i + 1) % SLOTS;
    if (pc == 0 || file.slot[i] == key || file.nsites == SITES)
        return;
    file.slot[i] = key;
    file.site[file.nsites++] = key;
}

static void name_sites(void *arg, const ArchContext *ctx)
{
    (void)arg, (void)ctx;
    Out text;
    for (; file.named < file.nsites; file.named++) {
        uintptr_t key = file.site[file.named];
        out_open(&text, -1); /* never flushed: a name is shorter than its buffer */
        unwind_print(&text, key >> 1, key & 1);
        trace_cut(TRACE_SYMBOL, key >> 1, text.buf, text.n, file_put, NULL);
    }
}

void trace_file_put(const TraceRecord *x)
{
    file_put(x, NULL);
    if (x->kind == TRACE_SPAWN || x->kind == TRACE_EXISTS)
        note_site(x->id, (uintptr_t)x->arg);
}

static void file_begin(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_REALTIME, &t);
    TraceRecord x = {.when = sys_now(),
                     .id = TRACE_MAGIC,
                     .arg = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec,
                     .tid = (uint32_t)getpid(),
                     .p = TRACE_VERSION,
                     .kind = TRACE_HEADER};
    file_put(&x, NULL);
    for (uint32_t i = 0; i < WHY_MAX; i++)
        if (reason_name[i] != NULL)
            trace_cut(TRACE_WHY, i, reason_name[i], strlen(reason_name[i]), file_put, NULL);
}

/* ---- who is there ---------------------------------------------------------------------------- */

enum { PIECES = (NAME_MAX_LEN + TRACE_TEXT) / TRACE_TEXT };

typedef struct {
    uint64_t n, room;
    int64_t now;
    TraceRecord *x;
} Present;

static void count_present(G *g, void *arg)
{
    (void)g;
    Present *l = arg;
    l->room += g->x != NULL ? 1 + PIECES : 1;
}

static void list_piece(const TraceRecord *x, void *arg)
{
    Present *l = arg;
    if (l->n < l->room)
        l->x[l->n++] = *x;
}

static void list_present(G *g, void *arg)
{
    Present *l = arg;
    uint8_t state = get(&g->state);
    char name[NAME_MAX_LEN + 1];
    TraceRecord x = {.when = l->now,
                     .id = g->id,
                     .arg = (uintptr_t)g->spawn_pc,
                     .p = get(&g->reason),
                     .detail = state == G_RUNNABLE  ? TRACE_WAS_RUNNABLE
                               : state == G_RUNNING ? TRACE_WAS_RUNNING
                                                    : TRACE_WAS_WAITING,
                     .kind = TRACE_EXISTS};
    list_piece(&x, l);
    report_copy_name(name, g);
    if (name[0] != '\0')
        trace_cut(TRACE_NAME, g->id, name, strlen(name), list_piece, l);
}

/* As they are now, while others run: an event that is noted may already be behind what is said here, and is right. Those
 * born between the two visits are noted by events. -ENOMEM */
int trace_file_present(void)
{
    Present l = {0};
    note_racy_reads(true);
    coro_foreach(count_present, &l);
    l.room += 64;
    size_t size = l.room * sizeof l.x[0];
    if ((l.x = sys_reserve(size, sys_page())) == NULL)
        return -ENOMEM;
    l.now = sys_now();
    coro_foreach(list_present, &l);
    note_racy_reads(false);
    for (uint64_t i = 0; i < l.n; i++)
        trace_file_put(&l.x[i]);
    sys_release(l.x, size);
    return 0;
}

/* ---- open, close ------------------------------------------------------------------------------ */

int trace_file_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return -errno;
    memset(file.slot, 0, sizeof file.slot);
    file.error = 0;
    file.n = file.nsites = file.named = 0;
    file.fd = fd;
    file_begin();
    return 0;
}

void trace_file_flush(void)
{
    if (file.named < file.nsites)
        (void)report_run(name_sites, NULL); /* or the next time */
    flush();
}

void trace_file_drop(void)
{
    file.error = -ECANCELED;
}

int trace_file_close(uint64_t lost)
{
    TraceRecord x = {.when = sys_now(), .id = lost, .kind = TRACE_END};
    file_put(&x, NULL);
    flush();
    if (close(file.fd) != 0 && file.error == 0)
        file.error = -errno;
    file.fd = -1;
    return file.error;
}
