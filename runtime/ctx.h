/* SPDX-License-Identifier: MIT
 *
 * ctx.h: contexts and the coroutines that end with them. Part of rt.h. */
#ifndef WEFT_CTX_H
#define WEFT_CTX_H

typedef struct CtxScope CtxScope;

/* A place in the list of what is cancelled with a scope. */
typedef struct CtxNode {
    struct CtxNode *next, *prev; /* the scope's lock while linked; then who has taken it out */
    bool coro;                   /* (c) of a CtxCoro; else of a CtxScope */
    _Atomic bool linked;         /* (a) written under the scope's lock; once false nobody else
                                    comes to a CtxCoro */
} CtxNode;

typedef struct {
    CtxNode node;
    CtxScope *scope; /* with a reference; NULL: nothing is bound */
    uint64_t id;
} CtxCoro;

/* From now on until ctx_unbind(), the end of ctx is that of coroutine id as well: cancel_coroutine(), once,
 * perhaps a little after the unbind. *co stays where it is, and not on a stack. 0; the error of ctx
 * (-ECANCELED, -ETIMEDOUT) if that is cancelled already: nothing is bound. */
int ctx_bind(M *m, weft_ctx_t *ctx, CtxCoro *co, uint64_t id);

/* Also of what was not bound, or is unbound already. What is abandoned at the end of a run is unbound before
 * the timers go (timer_free()), for that cancels contexts. */
void ctx_unbind(M *m, CtxCoro *co);

#endif
