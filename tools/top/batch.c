/* SPDX-License-Identifier: MIT
 *
 * batch.c: plain text for scripts: one fact a line, its kind the first word, names of anybody's choice last. */
#include "top.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static void print_counters(const PageBody *b)
{
    for (uint32_t i = 0; i < b->ncounters; i++) {
        const PageCounter *c = &b->counter[i];
        if (c->kind == PAGE_SECONDS)
            printf("counter %s %.3f\n", c->name, (double)c->value / 1e9);
        else
            printf("counter %s %" PRIu64 "\n", c->name, c->value);
    }
}

static void print_counts(const PageBody *b)
{
    for (uint32_t i = 0; i < b->nstates; i++)
        printf("state %" PRIu64 " %s\n", b->state[i].n, b->state[i].name);
    for (uint32_t i = 0; i < b->nwaits; i++)
        if (b->wait[i].n != 0)
            printf("wait %" PRIu64 " %s\n", b->wait[i].n, b->wait[i].name);
}

static void print_proc(const Report *r, const PageProc *p)
{
    char label[80] = "";
    if (p->coroutine != 0)
        report_label(r, p->name, p->fn, label, sizeof label);
    printf("proc %u %s lent %u queue %u timers %u switches %" PRIu64 " for %.3f coroutine %" PRIu64,
           p->id, report_runs(p), p->lent, p->queue, p->timers, p->switches,
           p->runs != PAGE_IDLE ? (double)(r->now.refreshed - p->since) / 1e9 : 0, p->coroutine);
    printf(label[0] != '\0' ? " %s\n" : "\n", label);
}

static void print_report(Report *r)
{
    const PageBody *b = &r->now;
    printf("weft-top %d up %.3f refresh %.3f counted %.3f %s\n", r->source->pid,
           (double)(b->refreshed - b->began) / 1e9, (double)b->refresh / 1e9,
           b->counted != 0 ? (double)(b->counted - b->began) / 1e9 : 0, r->source->command);
    print_counters(b);
    print_counts(b);
    for (uint32_t i = 0; i < b->nprocs; i++)
        if (b->proc[i].lent == 0 || b->proc[i].runs != PAGE_IDLE)
            print_proc(r, &b->proc[i]);
    report_sort(r, SORT_TIME);
    for (uint32_t i = 0; i < b->nnames; i++)
        printf("name %.3f %.1f %" PRIu64 " %s\n", (double)r->name[i].total / 1e9,
               (double)r->name[i].ns * r->share, r->name[i].alive, r->name[i].label);
}

static void sleep_for(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds};
    t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
    nanosleep(&t, NULL);
}

int batch_run(Source *s, long count, double delay)
{
    static Report r;
    report_begin(&r, s);
    for (long i = 0; count == 0 || i < count; i++) {
        if (i > 0)
            sleep_for(delay);
        enum SourceState state = report_next(&r, s);
        if (state != SOURCE_OK) {
            source_say(s, state);
            return i > 0 && state == SOURCE_ENDED ? 0 : 1;
        }
        if (i > 0)
            printf("\n");
        print_report(&r);
        if (fflush(stdout) != 0)
            return 1;
    }
    return 0;
}
