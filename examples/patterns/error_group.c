/* SPDX-License-Identifier: MIT
 *
 * error_group.c: parts of one task, at most three at a time. The first that fails ends the task: the
 * group's context is cancelled, and the others, which watch it while they wait, give up. */
#include <weft.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static weft_ctx_t *ctx;
static atomic_int gave_up;

static int part(void *arg)
{
    int n = (int)(intptr_t)arg;
    weft_case_t done = {.op = WEFT_RECV, .chan = weft_ctx_done(ctx)};
    if (weft_ctx_err(ctx) != 0) { /* the task has failed before it came to this part */
        gave_up++;
        return weft_ctx_err(ctx);
    }
    if (n == 4)
        return -EIO;
    int64_t until = weft_now() + (n < 4 ? 1000000 : INT64_C(60000000000));
    if (weft_select(&done, 1, until) == -ETIMEDOUT)
        return 0; /* the work is done */
    gave_up++;
    return weft_ctx_err(ctx);
}

static int entry(void *arg)
{
    weft_group_t group = {0};
    (void)arg;
    weft_group_limit(&group, 3);
    if ((ctx = weft_group_context(&group)) == NULL)
        return 1;
    weft_ctx_ref(ctx); /* the group's own ends with the wait */
    for (int i = 1; i <= 10; i++)
        if (weft_group_go(&group, part, (void *)(intptr_t)i) != 0)
            return 1;
    int rc = weft_group_wait(&group);
    printf("%s, %d parts gave up\n", strerror(-rc), gave_up);
    weft_ctx_unref(ctx);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
