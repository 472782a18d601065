/* SPDX-License-Identifier: MIT
 *
 * metrics.h: the counters of weft_stats_t by name, for whoever shows them. */
#ifndef WEFT_METRICS_H
#define WEFT_METRICS_H

#include "rt.h"

enum MetricKind {
    METRIC_COUNTER, /* only goes up within a run */
    METRIC_GAUGE,
    METRIC_SECONDS, /* a gauge, nanoseconds here */
    METRIC_KINDS
};

typedef struct {
    const char *name; /* the field's */
    const char *help; /* one line */
    uint32_t kind;
    uint32_t offset; /* in weft_stats_t */
} Metric;

extern const Metric metrics[];
extern const uint32_t metrics_n;

static inline uint64_t metric_of(const weft_stats_t *s, const Metric *x)
{
    uint64_t v;
    memcpy(&v, (const char *)s + x->offset, sizeof v);
    return v;
}

/* stats.c. The monitor must not wait for a lock under which memory is allocated: with may_wait
 * false stacks_private and stack_private_bytes stay what they were in *s if they cannot be had at
 * once, and stack_copied_resident is 0. */
void stats_take(weft_stats_t *s, bool may_wait);

#endif
