/* SPDX-License-Identifier: MIT
 *
 * first_answer.c: ask several at once, take the first answer, and cancel the others: their waits return
 * -ECANCELED, so they end at once and are joined. Nobody is left behind. */
#include <weft.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

enum { SERVERS = 5 };

static weft_chan_t *answers;
static atomic_int gave_up;

static void ask(void *arg)
{
    int server = (int)(intptr_t)arg;
    int rc = weft_sleep(server == 2 ? 5000000 : INT64_C(60000000000)); /* how long it thinks */
    if (rc == 0)
        rc = weft_send(answers, &server);
    if (rc == -ECANCELED)
        gave_up++;
}

static int entry(void *arg)
{
    weft_id_t ids[SERVERS];
    int first;
    (void)arg;
    if ((answers = weft_chan_make(sizeof(int), 0)) == NULL)
        return 1;
    for (int i = 0; i < SERVERS; i++) {
        weft_attr_t attr = {.name = "ask", .id = &ids[i]};
        if (weft_go_with(&attr, ask, (void *)(intptr_t)i) != 0)
            return 1;
    }
    weft_recv(answers, &first);
    for (int i = 0; i < SERVERS; i++)
        weft_cancel(ids[i]); /* -ESRCH for the one that is done */
    for (int i = 0; i < SERVERS; i++)
        weft_join(ids[i], 0);
    printf("server %d was first, %d gave up\n", first, gave_up);
    weft_chan_unref(answers);
    return 0;
}

int main(void)
{
    return weft_run(entry, NULL);
}
